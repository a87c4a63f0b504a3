#include "device/compressors_suite.hpp"

namespace gradwire::testing {
namespace {

std::vector<std::string> minifloats() {
  std::vector<std::string> specs;
  for (const std::string_view round : {"nearest", "stochastic"}) {
    for (const int bits : {4, 6, 8}) specs.push_back(fmt::format("mx{}(round={})", bits, round));
    specs.push_back(fmt::format("mx6(format=e3m2,round={})", round));
    specs.push_back(fmt::format("mx8(format=e5m2,round={})", round));
    for (const int block : {32, 96, 128, 384, 8192}) {
      specs.push_back(fmt::format("f8(format=e4m3,block={},round={})", block, round));
      specs.push_back(fmt::format("nvfp4(span={},round={})", block, round));
    }
    specs.push_back(fmt::format("f8(format=e5m2,block=128,round={})", round));
    specs.push_back(fmt::format("f8(format=e5m2,block=160,round={})", round));
  }
  return specs;
}

INSTANTIATE_TEST_SUITE_P(Minifloats, Compressors, ::testing::ValuesIn(minifloats()), test_name);

}  // namespace
}  // namespace gradwire::testing
