#pragma once
#include <string>
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
      "f8(e5m2,32)",
      "f8(e4m3,block=160,round=stochastic)",
      "f8(e5m2,block=8192,round=stochastic)",
      "mx4(round=stochastic)",
      "mx6(e3m2)",
      "mx6(round=stochastic)",
      "mx8(e5m2)",
      "mx8(round=stochastic)",
      "nvfp4(span=96)",
      "nvfp4(round=stochastic)",
      "none|zstd(3,split=none)",
      "bf16|zstd",
      "q4|zstd",
      "f8(round=stochastic)|zstd",
  };
  for (const CompressorInfo& row : list_compressors()) {
    if (make_compressor(row.example).low_rank() == nullptr) specs.push_back(row.example);
  }
  return specs;
}

}  // namespace gradwire::testing
