#include "device/compressors_suite.hpp"

namespace gradwire::testing {
namespace {

std::vector<std::string> rotations() {
  std::vector<std::string> specs;
  for (const int block : {32, 128, 1024, 4096, 8192}) specs.push_back(fmt::format("rotate(q4,block={})", block));
  for (const std::string_view scale : {"contractive", "unbiased"}) {
    for (const int block : {64, 512, 2048})
      specs.push_back(fmt::format("rotate(quantize(bits=1,bucket=512),block={},scale={})", block, scale));
  }
  specs.push_back("rotate(quantize(bits=3,bucket=96,round=stochastic),block=256,clip=2.5)");
  specs.push_back("rotate(sign(bucket=8192),block=8192,scale=unbiased,clip=3)");
  specs.push_back("rotate(natural,block=256)");
  specs.push_back("rotate(mx4(round=stochastic),block=512,scale=contractive)");
  specs.push_back("rotate(ternary,block=256)");
  specs.push_back("thc");
  return specs;
}

INSTANTIATE_TEST_SUITE_P(Rotations, Compressors, ::testing::ValuesIn(rotations()), test_name);

}  // namespace
}  // namespace gradwire::testing
