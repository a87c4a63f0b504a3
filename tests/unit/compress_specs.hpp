#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "gradwire/compressor.hpp"

namespace gradwire::testing {

/// What the suites run every compressor as: the example of each row of list_compressors(), and settings that take
/// other paths through the code.
inline std::vector<std::string> conformance_specs() {
  std::vector<std::string> specs{
      "q8",
      "q2",
      "q1",
      "quantize(bits=3,bucket=32)",
      "quantize(bits=5,bucket=96,norm=l2)",
      "quantize(bits=7,bucket=64,norm=minmax)",
      "quantize(bits=6,bucket=1024,norm=l2,round=stochastic)",
      "q1(norm=l2,round=stochastic)",
      "q4(round=stochastic)",
      "q8(norm=minmax,round=stochastic,bucket=160)",
      "quantize(levels=learned,bits=2,bucket=96)",
      "quantize(levels=learned,bits=3,sample=1024)",
      "q4(levels=learned)",
      "natural(nearest)",
      "sign(bucket=96)",
      "ternary(bucket=512,clip=2.5,pack=trits)",
      "ternary(bucket=160,pack=trits)",
      "quantize(levels=exponential,bits=2,bucket=64,round=stochastic)",
      "quantize(levels=exponential,bits=3)",
      "quantize(levels=exponential,bits=4,norm=l2)",
      "quantize(levels=exponential,bits=8,norm=l2,round=stochastic)",
  };
  for (const CompressorInfo& row : list_compressors()) {
    if (make_compressor(row.example).low_rank() == nullptr) specs.push_back(row.example);
  }
  return specs;
}

/// Whether what is sent of a tensor depends on how it is cut, because each piece is a sample of its own.
inline bool learns_from_pieces(std::string_view spec) { return spec.find("levels=learned") != std::string_view::npos; }

}  // namespace gradwire::testing
