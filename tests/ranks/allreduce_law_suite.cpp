// Every algorithm x compressor x dtype x size keeps the law and gives all ranks the same bits.
#include "ranks/allreduce_suite.hpp"
#include "support/test_name.hpp"

namespace gradwire::test {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

/// Elements that fill many segments on every rank: fewer where that many ranks, or a sanitizer, take their time.
constexpr std::size_t large_size(std::size_t ranks) { return kSanitized || ranks > 8 ? 100'003 : 1'000'003; }

struct Case {
  std::string algorithm;
  std::string compressor;
};

/// Whether an algorithm is meant to carry what a compressor makes.
bool is_legal(const std::string& algorithm, const Compressor& compressor) {
  if (algorithm == "auto") return true;
  if (algorithm == "dense") return compressor.spec() == "none";
  if (algorithm == "sparse_scatter") return compressor.sparsifier() != nullptr;
  if (algorithm == "integer_sum") return compressor.integer_coder() != nullptr;
  if (algorithm == "lowrank") return compressor.low_rank() != nullptr;
  if (compressor.low_rank() != nullptr) return false;
  if (algorithm == "hierarchical") return true;
  return algorithm == "gather_sum" || compressor.sparsifier() == nullptr;
}

/// One compressor of each kind of code and frame: for sanitizers, which look for other mistakes, and for worlds that
/// differ from another one in how they move bytes.
std::vector<std::string> few_compressors() {
  return {"none",
          "q4",
          "q8(norm=minmax,round=stochastic)",
          "sign",
          "ternary(pack=trits)",
          "nvfp4",
          "thc",
          "rotate(q4,block=1024)",
          "topk(0.1)|q4",
          "block_topk(0.1)",
          "q4|zstd",
          "topk(0.01)|zstd",
          "randomk(0.1)",
          "powersgd"};
}

/// The example of every row of list_compressors(), and settings whose frames or sums take other paths.
std::vector<std::string> all_compressors() {
  std::vector<std::string> specs{
      "q8",
      "q2",
      "q4(round=stochastic)",
      "quantize(bits=3,bucket=96,norm=l2)",
      "quantize(bits=5,bucket=8192,norm=minmax)",
      "quantize(bits=1,bucket=32,norm=minmax,round=stochastic)",
      "quantize(levels=exponential,bits=3,norm=l2,round=stochastic)",
      "q4(levels=learned,refresh=5)",
      "sign(96)",
      "ternary(bucket=96,pack=trits)",
      "mx6(round=stochastic)",
      "mx8(e5m2)",
      "nvfp4(span=256)",
      "rotate(q4,block=1024)",
      "rotate(q1(bucket=256),block=256,scale=contractive)",
      "topk(0.1)|q4",
      "topk(0.05,select=sampled)|f16",
      "randomk(0.5,scale=unbiased)",
      "adaptive_threshold(0.02,refresh=4)",
      "q4|zstd",
      "topk(0.01)|zstd",
      "topk(0.05)|q4|zstd",
  };
  for (const CompressorInfo& row : list_compressors()) specs.push_back(row.example);
  return specs;
}

using Param = std::tuple<World, Case>;

std::vector<Param> params() {
  std::vector<Param> all;
  for (const World& world : worlds()) {
    const bool few = kSanitized || world.name == "mpi_caller" || world.name == "mpi_split" || world.name == "checked_3";
    const std::vector<std::string> compressors = few ? few_compressors() : all_compressors();
    all.emplace_back(world, Case{"auto", "q4"});
    for (const AlgorithmInfo& algorithm : list_algorithms()) {
      for (const std::string& compressor : compressors) {
        const bool carries_low_rank = algorithm.name == "lowrank" || algorithm.name == "hierarchical";
        const bool needs_shapes = carries_low_rank && make_compressor(compressor).low_rank() != nullptr;
        if (!needs_shapes)
          all.emplace_back(world,
                           Case{algorithm.name, compressor});  // those: allreduce_lowrank_suite and hierarchical_suite
      }
    }
  }
  return all;
}

class AllreduceLaw : public ::testing::TestWithParam<Param> {
 protected:
  void run(const std::function<void(Communicator&)>& body) { std::get<0>(GetParam()).run(body); }
  [[nodiscard]] static const Case& scheme() { return std::get<1>(GetParam()); }

  /// An illegal pair is refused on every rank before anything is sent, with the reason.
  void expect_refusal() {
    run([](Communicator& comm) {
      std::vector<TestParam> params;
      params.emplace_back(scheme().compressor, 1000);
      AllreduceOptions options;
      options.algorithm = scheme().algorithm;
      const Outcome outcome = outcome_of([&] { reduce(comm, params, options); });
      EXPECT_EQ(outcome.code, Errc::unsupported) << outcome.message;
      EXPECT_THAT(outcome.message, ::testing::HasSubstr("algorithm '" + scheme().algorithm + "' cannot carry"));
      EXPECT_THAT(outcome.message, ::testing::HasSubstr(std::string(make_compressor(scheme().compressor).spec())));
    });
  }
};

std::string case_name(const ::testing::TestParamInfo<Param>& info) {
  const auto& [world, scheme] = info.param;
  return testing::as_test_name(world.name + "_" + scheme.algorithm + "_" + scheme.compressor);
}

INSTANTIATE_TEST_SUITE_P(All, AllreduceLaw, ::testing::ValuesIn(params()), case_name);

TEST_P(AllreduceLaw, HoldsForSizesAndDtypes) {
  if (!is_legal(scheme().algorithm, make_compressor(scheme().compressor))) return expect_refusal();
  // Under `dense` the backend rounds 16-bit sums by itself, and nobody owes that.
  const bool backend_rounds = scheme().algorithm == "dense";
  run([=](Communicator& comm) {
    const auto n = static_cast<std::size_t>(comm.size());
    const std::size_t large = large_size(n);
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, n - 1, n, std::size_t{1000}, large}) {
      for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
        if (dtype != DType::f32 && (backend_rounds || size < n)) continue;  // how little is cut, f32 shows
        std::vector<TestParam> params;
        params.emplace_back(scheme().compressor, size, dtype);
        params[0].fill_random(comm.rank());
        AllreduceOptions options;
        options.algorithm = scheme().algorithm;
        options.segment_bytes = size == large ? 64u << 10 : 1024;
        reduce(comm, params, options);
        expect_law(comm, params[0], fmt::format("{} elements of {}", size, name(dtype)));
      }
    }
  });
}

}  // namespace
}  // namespace gradwire::test
