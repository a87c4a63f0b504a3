// Every algorithm x compressor x dtype x size keeps the law and gives all ranks the same bits.
#include "ranks/allreduce_suite.hpp"

namespace gradwire::test {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::size_t kLarge = 100'003;
#else
constexpr std::size_t kLarge = 1'000'003;
#endif

struct Case {
  std::string algorithm;
  std::string compressor;
};

std::vector<Case> cases() {
  std::vector<Case> all{{"dense", "none"}, {"auto", "none"}, {"auto", "q4"}};
  for (const char* algorithm : {"scatter_reduce", "ring", "gather_sum"}) {
    for (const char* compressor :
         {"none", "f16", "bf16", "q8", "q4", "q2", "q4(round=stochastic)", "quantize(bits=3,bucket=96,norm=l2)",
          "quantize(bits=5,bucket=8192,norm=minmax)", "quantize(bits=1,bucket=32,norm=minmax,round=stochastic)",
          "rotate(q4,block=1024)", "rotate(q1(bucket=256),block=256,scale=contractive)"}) {
      all.push_back({algorithm, compressor});
    }
  }
  for (const char* compressor : {"thc", "thc(8,block=1024)", "thc(1,block=64,p=0.2)"}) {
    for (const char* algorithm : {"integer_sum", "auto", "gather_sum", "scatter_reduce"})
      all.push_back({algorithm, compressor});
  }
  return all;
}

class AllreduceLaw : public ::testing::TestWithParam<std::tuple<World, Case>> {
 protected:
  void run(const std::function<void(Communicator&)>& body) { std::get<0>(GetParam()).run(body); }
  [[nodiscard]] static const Case& scheme() { return std::get<1>(GetParam()); }
};

std::string case_name(const ::testing::TestParamInfo<AllreduceLaw::ParamType>& info) {
  const auto& [world, scheme] = info.param;
  std::string text = world.name + "_" + scheme.algorithm + "_" + scheme.compressor;
  for (char& c : text) c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return text;
}

INSTANTIATE_TEST_SUITE_P(All, AllreduceLaw,
                         ::testing::Combine(::testing::ValuesIn(worlds()), ::testing::ValuesIn(cases())), case_name);

TEST_P(AllreduceLaw, HoldsForEverySizeAndDtype) {
  run([](Communicator& comm) {
    const auto n = static_cast<std::size_t>(comm.size());
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, n - 1, n, std::size_t{1000}, kLarge}) {
      for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
        // The backend rounds 16-bit sums by itself: that is not part of the law.
        if (dtype != DType::f32 && (size == kLarge || scheme().compressor == "none")) continue;
        std::vector<TestParam> params;
        params.emplace_back(scheme().compressor, size, dtype);
        params[0].fill_random(comm.rank());
        AllreduceOptions options;
        options.algorithm = scheme().algorithm;
        options.segment_bytes = size == kLarge ? 64u << 10 : 1024;
        reduce(comm, params, options);
        expect_law(comm, params[0], fmt::format("{} elements of {}", size, name(dtype)));
      }
    }
  });
}

}  // namespace
}  // namespace gradwire::test
