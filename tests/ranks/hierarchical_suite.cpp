// What `hierarchical` promises beyond an allreduce: the law over nodes of any sizes, and few bytes between them.
#include <algorithm>
#include <future>

#include "ranks/allreduce_suite.hpp"
#include "ranks/steady.hpp"
#include "support/forwarding.hpp"

namespace gradwire::test {
namespace {

using ::testing::HasSubstr;

class Hierarchical : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, Hierarchical, ::testing::ValuesIn(worlds()), world_name);

AllreduceOptions options_with(const std::string& inner, std::size_t segment_bytes) {
  return {.algorithm = "hierarchical", .inner = inner, .segment_bytes = segment_bytes};
}

/// Ranks on this rank's node, 0 where nodes differ in that; and the number of nodes.
struct Nodes {
  explicit Nodes(const Communicator& comm) {
    std::vector<int> nodes = comm.transport().info().nodes;
    nodes.resize(static_cast<std::size_t>(comm.size()));
    count = 1 + static_cast<std::size_t>(*std::max_element(nodes.begin(), nodes.end()));
    each = nodes.size() / count;
    for (const int node : nodes) {
      if (static_cast<std::size_t>(std::count(nodes.begin(), nodes.end(), node)) != each) equal = false;
    }
  }
  std::size_t count = 0;
  std::size_t each = 0;
  bool equal = true;
};

TEST_P(Hierarchical, KeepsTheLaw) {
  run([](Communicator& comm) {
    const auto n = static_cast<std::size_t>(comm.size());
    for (const char* inner : {"none", "q8", "f16", "q8(bucket=96,round=stochastic)"}) {
      for (const char* spec : {"none", "f16", "q8", "q4", "quantize(bits=3,bucket=96,norm=l2)",
                               "quantize(bits=1,bucket=32,norm=minmax,round=stochastic)"}) {
        for (const std::size_t size :
             {std::size_t{0}, std::size_t{1}, n - 1, n, std::size_t{997}, std::size_t{60'013}}) {
          for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
            if (dtype != DType::f32 && size > 1000) continue;
            std::vector<TestParam> params;
            params.emplace_back(spec, size, dtype);
            params[0].fill_random(comm.rank());
            reduce(comm, params, options_with(inner, 1024));
            expect_law(comm, params[0],
                       fmt::format("{} inside, {}, {} elements of {}", inner, spec, size, name(dtype)));
          }
        }
      }
    }
  });
}

TestParam matrix(const std::string& spec, std::vector<std::size_t> shape, DType dtype = DType::f32) {
  TestParam param(spec, shape[0] * shape[1], dtype);
  param.shape = std::move(shape);
  return param;
}

/// Sparse frames cross nodes once and are never encoded again; low rank sums its factors by nodes.
TEST_P(Hierarchical, KeepsTheLawForSparseAndLowRank) {
  run([](Communicator& comm) {
    for (const char* inner : {"none", "q8(bucket=96,round=stochastic)"}) {
      for (const char* spec : {"topk(0.05)", "topk(0.1)|q4", "block_topk(0.1)", "randomk(0.2)", "topk(0.01)|zstd",
                               "adaptive_threshold(0.05,refresh=2)"}) {
        for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
          std::vector<TestParam> params;
          for (const std::size_t count : {0u, 1u, 997u, 20'011u}) params.emplace_back(spec, count, dtype);
          params.emplace_back("q4", 3'001, dtype);
          params.emplace_back("none", 17, dtype);
          for (unsigned i = 0; i < params.size(); ++i) params[i].fill_random(comm.rank(), i);
          reduce(comm, params, options_with(inner, 8192));
          for (const TestParam& param : params) {
            expect_law(comm, param, fmt::format("{} inside, {} in a bucket of {}", inner, param.spec, spec));
          }
        }
      }
      for (const char* spec : {"powersgd(rank=3)", "powersgd(rank=2,factors=q8)", "powersgd(rank=2,rounds=1)",
                               "powersgd(rank=2,start=9)", "projection(rank=2,factors=f16)"}) {
        std::vector<TestParam> params{matrix(spec, {40, 30}), matrix(spec, {1, 7}), matrix(spec, {70, 65}, DType::f16)};
        for (unsigned i = 0; i < params.size(); ++i) params[i].fill_random(comm.rank(), i);
        double magnitude = 0;  // of entries of products
        for (const TestParam& param : params) {
          for (const float x : param.input) magnitude = std::max(magnitude, 4 * std::fabs(static_cast<double>(x)));
        }
        reduce(comm, params, options_with(inner, 1024));
        for (const TestParam& param : params) {
          expect_law(comm, param, fmt::format("{} inside, {}", inner, param.spec), magnitude);
        }
      }
    }
  });
}

/// What each node sends is the best of its own sum, not of each rank's input: exact for ranks that cancel out.
TEST_P(Hierarchical, SparsifiesTheSumsOfNodes) {
  run([](Communicator& comm) {
    const Nodes nodes(comm);
    if (!nodes.equal || nodes.each % 2 != 0) return;
    std::vector<TestParam> params;
    params.emplace_back("topk(k=10)", 1000);
    const float sign = comm.rank() % 2 == 0 ? 1.0F : -1.0F;
    params[0].fill([&](std::size_t i) { return i % 100 == 7 ? 1.0F : sign * (100.0F + static_cast<float>(i)); });
    reduce(comm, params, options_with("none", 0));
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < 1000; ++i) {
      wrong += params[0].result(i) != (i % 100 == 7 ? static_cast<float>(comm.size()) : 0.0F) ? 1 : 0;
      wrong += params[0].residual[i] != 0 ? 1 : 0;
    }
    EXPECT_EQ(wrong, 0u);
  });
}

/// N equal nodes of L ranks: each sends the frames of its sums to the N - 1 others.
TEST_P(Hierarchical, SendsSparseFramesOnceBetweenNodes) {
  run([](Communicator& comm) {
    const Nodes nodes(comm);
    if (!nodes.equal) return;
    const std::size_t count = 20'000;
    const Compressor compressor = make_compressor("topk(0.01)");
    std::vector<BucketItem> items;
    std::vector<TestParam> params;
    std::vector<ItemBuffers> buffers;
    for (unsigned i = 0; i < static_cast<unsigned>(comm.size()); ++i) {  // one a chunk
      items.push_back({ParamId{i}, count, DType::f32, compressor});
      params.emplace_back("", count);
      params.back().fill_random(comm.rank(), i);
    }
    for (TestParam& param : params) buffers.push_back({param.view(), param.residual_view()});
    PersistentAllreduce operation(comm, items, Slot{1}, options_with("none", 1u << 20));
    const Buffer workspace(operation.workspace_bytes());
    operation.start(buffers, workspace.bytes(), 0, StreamRef::host()).wait(patience());
    const std::size_t k = compressor.sparsifier()->max_entries(count);  // and its bound knows of Rice codes
    const double frame = 32.0 + static_cast<double>(compressor.sparsifier()->max_frame_size(count, k));
    const auto agents = static_cast<double>(nodes.count);  // of chunks, by a rank: n chunks over L ranks
    const double most = agents * static_cast<double>(nodes.count - 1) * frame;
    EXPECT_LE(static_cast<double>(operation.stats().inter_node_bytes), most);
    EXPECT_GE(static_cast<double>(operation.stats().inter_node_bytes), 0.9 * most);
  });
}

TEST_P(Hierarchical, LowRankSharesABucketWithLowRankOnly) {
  run([](Communicator& comm) {
    std::vector<BucketItem> items;
    items.push_back({ParamId{0}, 1200, DType::f32, make_compressor("powersgd(2)"), "w", {40, 30}});
    items.push_back({ParamId{1}, 100, DType::f32, make_compressor("q4"), "b"});
    const Outcome outcome = outcome_of([&] { PersistentAllreduce(comm, items, Slot{0}, options_with("none", 0)); });
    EXPECT_EQ(outcome.code, Errc::unsupported);
    EXPECT_THAT(outcome.message, HasSubstr("cannot carry parameter 'w', whose compressor is powersgd"));
  });
}

std::vector<TestParam> mixed_bucket(const Communicator& comm) {
  std::vector<TestParam> params;
  params.emplace_back("q4", 3001);
  params.emplace_back("none", 17);
  params.emplace_back("q8(bucket=64)", 1, DType::f16);
  params.emplace_back("q2(round=stochastic)", 20'000, DType::bf16);
  params.emplace_back("quantize(bits=7,bucket=1024,norm=minmax)", 999, DType::f16);
  for (unsigned i = 0; i < params.size(); ++i) params[i].fill_random(comm.rank(), i + 1);
  return params;
}

TEST_P(Hierarchical, CarriesBucketsOfManyKindsWhateverTheSegments) {
  run([](Communicator& comm) {
    for (const char* inner : {"none", "q8(bucket=96)"}) {
      std::vector<TestParam> coarse = mixed_bucket(comm);
      std::vector<TestParam> fine = mixed_bucket(comm);
      reduce(comm, coarse, options_with(inner, 1u << 20));
      reduce(comm, fine, options_with(inner, 1024));
      for (std::size_t i = 0; i < coarse.size(); ++i) {
        expect_law(comm, coarse[i], coarse[i].spec);
        EXPECT_EQ(coarse[i].tensor, fine[i].tensor) << inner << " " << coarse[i].spec;
        EXPECT_EQ(coarse[i].residual, fine[i].residual) << inner << " " << coarse[i].spec;
      }
    }
  });
}

TEST_P(Hierarchical, SumsIntegersExactly) {
  run([](Communicator& comm) {
    std::vector<TestParam> params;
    params.emplace_back("none", 10'007);
    params[0].fill([&](std::size_t i) { return static_cast<float>((comm.rank() + 1) * static_cast<int>(i % 1000)); });
    reduce(comm, params, options_with("none", 4096));
    const auto n = static_cast<float>(comm.size());
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < 10'007; ++i) {
      wrong += params[0].result(i) != n * (n + 1) / 2 * static_cast<float>(i % 1000) ? 1 : 0;
      wrong += params[0].residual[i] != 0 ? 1 : 0;
    }
    EXPECT_EQ(wrong, 0u);
  });
}

/// Without mates there is nothing to do inside a node.
TEST_P(Hierarchical, WithOneRankANodeIsScatterReduce) {
  run([](Communicator& comm) {
    if (Nodes(comm).count != static_cast<std::size_t>(comm.size())) return;
    const auto outcome = [&](const char* algorithm) {
      std::vector<BucketItem> items;
      items.push_back({ParamId{0}, 50'021, DType::f32, make_compressor("q4")});
      PersistentAllreduce operation(comm, items, Slot{1}, {.algorithm = algorithm, .segment_bytes = 8192});
      const Buffer workspace(operation.workspace_bytes());
      TestParam param("q4", 50'021);
      param.fill_random(comm.rank());
      const ItemBuffers buffers{param.view(), param.residual_view()};
      operation.start({&buffers, 1}, workspace.bytes(), 0, StreamRef::host()).wait(patience());
      EXPECT_EQ(operation.stats().inter_node_bytes, operation.stats().wire_bytes);
      return std::tuple(param.tensor, param.residual, operation.stats().wire_bytes);
    };
    EXPECT_EQ(outcome("hierarchical"), outcome("scatter_reduce"));
  });
}

/// N equal nodes: 2(N-1)/N S/ratio leave each of them, evenly over its ranks.
TEST_P(Hierarchical, SendsWhatTheFormulaSaysBetweenNodes) {
  run([](Communicator& comm) {
    const Nodes nodes(comm);
    if (!nodes.equal) return;
    const auto n = static_cast<std::size_t>(comm.size());
    const Compressor compressor = make_compressor("q4");
    const std::size_t count = n * 512 * 64;
    std::vector<BucketItem> items;
    items.push_back({ParamId{0}, count, DType::f32, compressor});
    PersistentAllreduce operation(comm, items, Slot{1}, options_with("none", 1u << 20));
    const Buffer workspace(operation.workspace_bytes());
    std::vector<float> values(count, 1.0F);
    const ItemBuffers buffers{{values.data(), count}, {}};
    operation.start({&buffers, 1}, workspace.bytes(), 0, StreamRef::host()).wait(patience());
    const auto node_bytes = static_cast<double>(operation.stats().inter_node_bytes * nodes.each);
    const auto others = static_cast<double>(nodes.count - 1);
    const auto frames = static_cast<double>(compressor.max_frame_size(count, DType::f32));
    EXPECT_NEAR(node_bytes, 2 * others / static_cast<double>(nodes.count) * frames, 0.01 * frames);
    const std::size_t message = 32 + compressor.max_frame_size(count / n, DType::f32);
    EXPECT_EQ(operation.stats().inter_node_bytes, 2 * (nodes.count - 1) * message);
  });
}

TEST_P(Hierarchical, AutoTakesItWhereNodesHaveSeveralRanks) {
  run([](Communicator& comm) {
    const Nodes nodes(comm);
    const auto chosen = [&](const char* spec) {
      std::vector<BucketItem> items;
      items.push_back({ParamId{0}, 1000, DType::f32, make_compressor(spec)});
      return std::string(PersistentAllreduce(comm, items, Slot{1}).algorithm());
    };
    EXPECT_EQ(chosen("none"), "dense");
    if (nodes.count > 1 && nodes.each > 1 && nodes.equal) {
      EXPECT_EQ(chosen("q4"), "hierarchical");
    }
    if (nodes.count == 1 || nodes.each == 1) {
      EXPECT_NE(chosen("q4"), "hierarchical");
    }
  });
}

TEST_P(Hierarchical, NonFiniteInputIsAVerdictOnAllRanks) {
  run([](Communicator& comm) {
    for (int culprit = 0; culprit < comm.size(); ++culprit) {
      for (const auto& [inner, spec] :
           {std::pair("none", "q4"), std::pair("q8", "q4"), std::pair("none", "topk(0.1)")}) {
        std::vector<TestParam> params;
        for (const std::size_t count : {100u, 30'000u, 5u}) params.emplace_back(spec, count);
        for (TestParam& param : params) param.fill_random(comm.rank());
        const auto place = static_cast<std::size_t>(culprit * 1'700 + 7);
        if (comm.rank() == culprit) store_f32(params[1].tensor.data(), DType::f32, place, std::nanf(""));
        const Outcome outcome = outcome_of([&, inside = inner] { reduce(comm, params, options_with(inside, 4096)); });
        EXPECT_EQ(outcome.code, Errc::non_finite) << outcome.message;
        EXPECT_THAT(outcome.message, HasSubstr(fmt::format("parameter 1 on rank {}", culprit)));
      }
    }
    std::vector<TestParam> next;
    next.emplace_back("q4", 1000);
    next[0].fill_random(comm.rank());
    reduce(comm, next, options_with("none", 1024));
    expect_law(comm, next[0], "the operation after verdicts");
  });
}

TEST_P(Hierarchical, RefusalIsAVerdictOnAllRanks) {
  run([](Communicator& comm) {
    for (const std::size_t count : {3u, 3000u}) {  // some ranks own none of three elements
      expect_refusals<PersistentAllreduce>(comm, "q8", count, options_with("none", 1024));
      expect_refusals<PersistentAllreduce>(comm, "topk(1.0)", count, options_with("none", 1024));
    }
  });
}

TEST_P(Hierarchical, BadInnerCompressorsAreRefused) {
  run([](Communicator& comm) {
    std::vector<BucketItem> items;
    items.push_back({ParamId{0}, 100, DType::f32, make_compressor("q4"), "w"});
    const auto build = [&](const std::string& inner) {
      return outcome_of([&] { PersistentAllreduce(comm, items, Slot{0}, options_with(inner, 0)); });
    };
    EXPECT_EQ(build("q8").code, Errc::ok);
    EXPECT_EQ(build("huffman").code, Errc::invalid_argument);
  });
}

TEST_P(Hierarchical, NodesThatRanksSeeDifferentlyAreAMismatch) {
  run([](Communicator& comm) {
    if (comm.transport().info().name != "local" || comm.size() == 1) return;
    class Misled final : public Forwarding {  // takes itself for alone on its node
     public:
      explicit Misled(const Communicator& inner) : Forwarding(inner), info_(inner.transport().info()) {
        info_.nodes.assign(static_cast<std::size_t>(info_.size), 0);
        info_.nodes.back() = 1;
      }
      [[nodiscard]] const TransportInfo& info() const noexcept override { return info_; }

     private:
      TransportInfo info_;
    };
    const Communicator misled(std::make_shared<Misled>(comm));
    const bool differs = misled.transport().info().nodes != comm.transport().info().nodes;
    if (!differs) return;
    std::vector<BucketItem> items;
    items.push_back({ParamId{0}, 5000, DType::f32, make_compressor("q4"), "w"});
    PersistentAllreduce operation(comm.rank() == comm.size() - 1 ? misled : comm, items, Slot{0},
                                  {.algorithm = "hierarchical", .timeout = std::chrono::seconds(2)});
    Buffer workspace(operation.workspace_bytes());
    std::vector<float> values(5000);
    const ItemBuffers buffers{{values.data(), values.size()}, {}};
    const Outcome outcome = outcome_of([&] {
      operation.start({&buffers, 1}, workspace.bytes(), 0, StreamRef::host()).wait(patience());
    });
    EXPECT_THAT(outcome.code, ::testing::AnyOf(Errc::rank_mismatch, Errc::aborted, Errc::timeout)) << outcome.message;
    workspace.abandon();
  });
}

/// All but the last rank get an error at the deadline.
void expect_error_at_deadline(Communicator& comm, const char* spec) {
  if (comm.size() == 1 || is_checked(comm)) return;
  std::vector<BucketItem> items;
  items.push_back({ParamId{0}, 5000, DType::f32, make_compressor(spec), "w", {50, 100}});
  AllreduceOptions options = options_with("none", 4096);
  options.timeout = std::chrono::seconds(2);
  PersistentAllreduce operation(comm, items, Slot{0}, options);
  Buffer workspace(operation.workspace_bytes());
  TestParam param(spec, 5000);
  param.fill_random(comm.rank());
  const ItemBuffers buffers{param.view(), param.residual_view()};
  const auto reduce = [&](std::uint64_t step) {
    operation.start({&buffers, 1}, workspace.bytes(), step, StreamRef::host()).wait(patience());
  };
  reduce(0);
  if (comm.rank() == comm.size() - 1) return workspace.abandon();
  const Outcome outcome = outcome_of([&] { reduce(1); });
  EXPECT_THAT(outcome.code, ::testing::AnyOf(Errc::timeout, Errc::aborted)) << spec << ": " << outcome.message;
  workspace.abandon();
}

/// A rank that does not come is an error on the others at the deadline, whatever travels between nodes.
TEST_P(Hierarchical, ARankThatDoesNotComeIsAnErrorAtTheDeadline) {
  if (!GetParam().name.starts_with("local")) return;
  std::vector<std::future<void>> worlds;  // side by side, since they only wait
  for (const char* spec : {"q4", "topk(0.1)", "powersgd(rank=2)"}) {
    worlds.push_back(std::async(std::launch::async, [this, spec] {
      run([spec](Communicator& comm) { expect_error_at_deadline(comm, spec); });
    }));
  }
  for (std::future<void>& world : worlds) world.get();
}

TEST_P(Hierarchical, AllocatesNothingInSteadyState) {
  run([](Communicator& comm) {
    if (is_checked(comm)) return;
    for (const char* spec : {"q4", "topk(0.1)", "powersgd(rank=5)"}) {
      std::vector<BucketItem> items;
      items.push_back({ParamId{0}, 20'000, DType::f32, make_compressor(spec), "a", {200, 100}});
      items.push_back({ParamId{1}, 3'000, DType::f16, make_compressor(spec), "b", {50, 60}});
      PersistentAllreduce operation(comm, items, Slot{1}, options_with("q8", 8192));
      const Buffer workspace(operation.workspace_bytes());
      std::vector<TestParam> params;
      params.emplace_back("", 20'000);
      params.emplace_back("", 3'000, DType::f16);
      const std::array<ItemBuffers, 2> buffers{
          {{params[0].view(), params[0].residual_view()}, {params[1].view(), params[1].residual_view()}}};
      std::uint64_t step = 0;
      expect_steady(
          [&] {
            for (TestParam& param : params) param.fill([](std::size_t i) { return static_cast<float>(i % 100); });
            operation.start(buffers, workspace.bytes(), ++step, StreamRef::host()).wait(patience());
          },
          fmt::format("hierarchical {}", spec));
    }
  });
}

}  // namespace
}  // namespace gradwire::test
