// A message that was changed on its way: an error on every rank, and no hang.
#include <atomic>

#include "ranks/allreduce_suite.hpp"
#include "support/forwarding.hpp"

namespace gradwire::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

/// Flips a byte of the next message that is long enough, once armed.
class Flipping final : public Forwarding {
 public:
  using Forwarding::Forwarding;
  void flip_next(std::size_t byte) { byte_ = byte; }
  [[nodiscard]] Work exchange(std::span<const Send> sends, std::span<const Recv> recvs, Slot slot,
                              StreamRef stream) override {
    std::vector<Send> changed(sends.begin(), sends.end());
    for (Send& send : changed) {
      if (!byte_ || send.bytes.size <= *byte_) continue;
      Buffer& copy = copies_.emplace_back(send.bytes.size);
      std::memcpy(copy.data(), send.bytes.data, copy.size());
      copy.data()[*byte_] ^= std::byte{0x40};
      send.bytes = copy.bytes();
      byte_.reset();
    }
    return Forwarding::exchange(changed, recvs, slot, stream);
  }

 private:
  std::optional<std::size_t> byte_;
  std::vector<Buffer> copies_;
};

struct Case {
  std::string algorithm;
  std::size_t byte;
};

class AllreduceCorrupt : public ::testing::TestWithParam<std::tuple<World, Case>> {};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* algorithm : {"scatter_reduce", "ring", "gather_sum"}) {
    // Envelope: magic, operation, fingerprint, segment, blocks. Frame: magic, version, codec, count.
    for (const std::size_t byte : {0u, 4u, 15u, 16u, 21u, 32u, 33u, 34u, 41u}) all.push_back({algorithm, byte});
  }
  return all;
}

std::string case_name(const ::testing::TestParamInfo<AllreduceCorrupt::ParamType>& info) {
  const auto& [world, scheme] = info.param;
  return fmt::format("{}_{}_byte_{}", world.name, scheme.algorithm, scheme.byte);
}

INSTANTIATE_TEST_SUITE_P(All, AllreduceCorrupt,
                         ::testing::Combine(::testing::ValuesIn(worlds()), ::testing::ValuesIn(cases())), case_name);

TEST_P(AllreduceCorrupt, IsAnErrorOnEveryRank) {
  const auto& [world, scheme] = GetParam();
  world.run([&scheme = scheme](Communicator& inner) {
    if (inner.size() == 1) return;
    const auto transport = std::make_shared<Flipping>(inner);
    std::vector<BucketItem> items;
    items.push_back({ParamId{0}, 4000, DType::f32, make_compressor("q4"), "w"});
    PersistentAllreduce operation(Communicator(transport), items, Slot{3},
                                  {.algorithm = scheme.algorithm, .timeout = std::chrono::seconds(50)});
    Buffer workspace(operation.workspace_bytes());
    std::vector<float> values(4000, 1.0F);
    const ItemBuffers buffers{{values.data(), values.size()}, {}};
    const auto run = [&](std::uint64_t step) {
      wait(operation.start({&buffers, 1}, workspace.bytes(), step, StreamRef::host()));
    };
    // Run 1 is the one that fails. A rank that has all it needs of it hears of that in run 2, a slow one in run 0.
    const Outcome outcome = outcome_of([&] {
      run(0);
      if (inner.rank() == 1) transport->flip_next(scheme.byte);
      run(1);
      run(2);
    });
    workspace.abandon();
    EXPECT_THAT(outcome.code, AnyOf(Errc::bad_frame, Errc::rank_mismatch, Errc::aborted)) << outcome.message;
    EXPECT_THAT(outcome.message, HasSubstr("rank 1"));
  });
}

}  // namespace
}  // namespace gradwire::test
