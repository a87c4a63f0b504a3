// Wrong calls, ranks that disagree, ranks that are late: an error that names the thing, on every rank.
#include "ranks/allreduce_suite.hpp"

namespace gradwire::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

class AllreduceMisuse : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, AllreduceMisuse, ::testing::ValuesIn(worlds()), world_name);

std::vector<BucketItem> one_item(const std::string& spec, std::size_t count = 100) {
  std::vector<BucketItem> items;
  items.push_back({ParamId{0}, count, DType::f32, make_compressor(spec), "w"});
  return items;
}

TEST_P(AllreduceMisuse, BadOptionsAreRefused) {
  run([](Communicator& comm) {
    const auto build = [&](const std::string& spec, const std::string& algorithm, Slot slot = Slot{0}) {
      return outcome_of([&] { PersistentAllreduce(comm, one_item(spec), slot, {.algorithm = algorithm}); });
    };
    const Outcome unknown = build("q4", "butterfly");
    EXPECT_EQ(unknown.code, Errc::invalid_argument);
    EXPECT_THAT(unknown.message, HasSubstr("unknown algorithm 'butterfly'"));
    const Outcome illegal = build("q4", "dense");
    EXPECT_EQ(illegal.code, Errc::unsupported);
    EXPECT_THAT(illegal.message, HasSubstr("quantize(bits=4"));
    const Outcome uncountable = build("q4", "integer_sum");
    EXPECT_EQ(uncountable.code, Errc::unsupported);
    EXPECT_THAT(uncountable.message, HasSubstr("cannot be added before they are decoded"));
    EXPECT_EQ(build("q4", "auto", Slot{kMaxSlot + 1}).code, Errc::invalid_argument);
  });
}

TEST_P(AllreduceMisuse, BadBuffersAreRefused) {
  run([](Communicator& comm) {
    PersistentAllreduce operation(comm, one_item("q4"), Slot{0});
    const Buffer workspace(operation.workspace_bytes());
    std::vector<float> values(100);
    std::vector<float> residual(100);
    const auto start = [&](const ItemBuffers& buffers, Bytes memory) {
      return outcome_of([&] { (void)operation.start({&buffers, 1}, memory, 0, StreamRef::host()); });
    };
    const Tensor good{values.data(), 100};
    EXPECT_THAT(start({{values.data(), 99}, {}}, workspace.bytes()).message, HasSubstr("'w': registered as f32[100]"));
    EXPECT_THAT(start({{values.data(), 100, DType::f16}, {}}, workspace.bytes()).message, HasSubstr("f16[100]"));
    EXPECT_THAT(start({{nullptr, 100}, {}}, workspace.bytes()).message, HasSubstr("no memory"));
    EXPECT_THAT(start({good, {residual.data(), 50}}, workspace.bytes()).message, HasSubstr("residual"));
    EXPECT_THAT(start({good, good}, workspace.bytes()).message, HasSubstr("residual is its tensor's memory"));
    const Tensor device{values.data(), 100, DType::f32, Space::device};
    EXPECT_EQ(start({device, {}}, workspace.bytes()).code, Errc::unsupported);
    if (operation.workspace_bytes() > 0) {
      EXPECT_THAT(start({good, {}}, workspace.bytes().slice(0, 1)).message, HasSubstr("bytes of workspace, given 1"));
    }
    comm.barrier(patience());
  });
}

/// Runs one operation that cannot succeed and returns how it ends here; afterwards the communicator is spent.
Outcome run_differing(Communicator& comm, const std::vector<BucketItem>& items, std::chrono::milliseconds timeout,
                      const std::string& algorithm = "scatter_reduce") {
  AllreduceOptions options{.algorithm = algorithm, .timeout = timeout};
  PersistentAllreduce operation(comm, items, Slot{0}, options);
  Buffer workspace(operation.workspace_bytes());
  std::vector<float> values(items[0].count);
  const ItemBuffers buffers{{values.data(), values.size()}, {}};
  const Outcome outcome = outcome_of([&] {
    operation.start({&buffers, 1}, workspace.bytes(), 0, StreamRef::host()).wait(patience());
  });
  if (outcome.code != Errc::ok) workspace.abandon();
  return outcome;
}

/// A rank that runs something else: the error says so and no rank waits for the deadline.
void expect_mismatch(Communicator& comm, const std::vector<BucketItem>& items,
                     const std::string& algorithm = "scatter_reduce") {
  const Outcome outcome = run_differing(comm, items, std::chrono::seconds(50), algorithm);
  EXPECT_THAT(outcome.code, AnyOf(Errc::rank_mismatch, Errc::aborted)) << outcome.message;
  EXPECT_THAT(outcome.message, AnyOf(HasSubstr("differ"), HasSubstr("longer than"), HasSubstr("disagree")));
}

TEST_P(AllreduceMisuse, DifferentCompressorsAreAMismatch) {
  run([](Communicator& comm) {
    if (comm.size() > 1) expect_mismatch(comm, one_item(comm.rank() == 1 ? "q8" : "q4", 5000));
  });
}

TEST_P(AllreduceMisuse, DifferentCountsAreAMismatch) {
  run([](Communicator& comm) {
    if (comm.size() > 1) expect_mismatch(comm, one_item("q4", comm.rank() == 0 ? 8000 : 5000));
  });
}

/// The backend's own all-reduce carries nothing that could tell: `dense` compares before it.
TEST_P(AllreduceMisuse, DenseComparesToo) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    std::vector<BucketItem> items = one_item("none", comm.rank() == 1 ? 1001 : 1000);
    expect_mismatch(comm, items, "dense");
  });
}

TEST_P(AllreduceMisuse, CheckedNamesTheDifference) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    Communicator checked = make_checked(comm);
    const Outcome outcome =
        run_differing(checked, one_item(comm.rank() == comm.size() - 1 ? "q8" : "q4", 5000), std::chrono::seconds(50));
    EXPECT_EQ(outcome.code, Errc::rank_mismatch);
    EXPECT_THAT(outcome.message, HasSubstr("parameter 'w'"));
    EXPECT_THAT(outcome.message, HasSubstr("quantize(bits=4"));
    EXPECT_THAT(outcome.message, HasSubstr(fmt::format("rank {} has", comm.size() - 1)));
    EXPECT_THAT(outcome.message, HasSubstr("quantize(bits=8"));
  });
}

TEST_P(AllreduceMisuse, ASilentRankIsATimeoutForTheOthers) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    if (comm.rank() == 0) {  // takes no part, and hears of it where it waits for something else
      std::byte never{};
      const Recv recv{{&never, 1}, 1};
      const Outcome outcome = outcome_of([&] {
        comm.transport().exchange({}, {&recv, 1}, Slot{9}, StreamRef::host()).wait(patience());
      });
      EXPECT_EQ(outcome.code, Errc::aborted) << outcome.message;
      return;
    }
    const Outcome outcome = run_differing(comm, one_item("q4", 5000), std::chrono::milliseconds(200));
    EXPECT_THAT(outcome.code, AnyOf(Errc::timeout, Errc::aborted)) << outcome.message;
    // `checked` already waits for rank 0 when it compares the operations.
    EXPECT_THAT(outcome.message,
                AnyOf(HasSubstr("scatter_reduce of 1 items in slot 0"), HasSubstr("exchange in slot")));
  });
}

}  // namespace
}  // namespace gradwire::test
