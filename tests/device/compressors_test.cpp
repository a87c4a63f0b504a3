#include "device/compressors_suite.hpp"

namespace gradwire::testing {
namespace {

std::vector<std::string> quantisers() {
  std::vector<std::string> specs{"sign", "ternary(pack=bits)", "ternary(pack=bits,bucket=96,clip=2.5)"};
  const auto add = [&](int bits, int bucket, std::string_view norm, std::string_view round) {
    specs.push_back(fmt::format("quantize(bits={},bucket={},norm={},round={})", bits, bucket, norm, round));
  };
  for (int bits = 1; bits <= 8; ++bits) {
    add(bits, 512, "linf", "nearest");
    add(bits, 512, "minmax", "stochastic");
    add(bits, 96, "l2", "stochastic");
  }
  for (const int bucket : {32, 128, 160, 8192}) {
    add(3, bucket, "linf", "stochastic");
    add(4, bucket, "minmax", "nearest");
    add(5, bucket, "l2", "nearest");
  }
  for (const int bucket : {96, 512}) {
    for (const std::string_view round : {"nearest", "stochastic"})
      specs.push_back(fmt::format("quantize(bits=4,bucket={},round={},levels=exponential)", bucket, round));
  }
  return specs;
}

INSTANTIATE_TEST_SUITE_P(Casts, Compressors, ::testing::Values("none", "f16", "bf16"), test_name);
INSTANTIATE_TEST_SUITE_P(Quantisers, Compressors, ::testing::ValuesIn(quantisers()), test_name);
INSTANTIATE_TEST_SUITE_P(Natural, Compressors, ::testing::Values("natural(nearest)", "natural(stochastic)"), test_name);

}  // namespace
}  // namespace gradwire::testing
