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
      "topk(0.2)",
      "topk(1)",
      "topk(k=100)",
      "topk(0.05,select=sampled)",
      "threshold(0)",
      "threshold(0.5)",
      "threshold(1e30)",
      "randomk(0.25,scale=unbiased)",
      "randomk(1)|f16",
      "block_topk(0.2,block=32)",
      "block_topk(0.1,block=96,norm=linf)|bf16",
      "adaptive_threshold(0.1)|q8",
      "topk(0.03)|f16",
      "topk(0.03)|bf16",
      "topk(0.1)|q4",
      "topk(0.5)|q8(norm=l2,round=stochastic,bucket=32)",
  };
  for (const CompressorInfo& row : list_compressors()) {
    if (make_compressor(row.example).low_rank() == nullptr) specs.push_back(row.example);
  }
  return specs;
}

}  // namespace gradwire::testing
