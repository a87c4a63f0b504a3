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
      "rotate(q2,block=32)",
      "rotate(q3(bucket=96,round=stochastic),block=128)",
      "rotate(q1(bucket=1024),block=1024,scale=contractive)",
      "rotate(q1(bucket=64),block=64,scale=unbiased)",
      "rotate(q2,block=8192,scale=unbiased)",
      "rotate(f16,block=2048)",
      "rotate(q2,clip=1.2,scale=contractive)",
      "rotate(q4(norm=minmax,round=stochastic,bucket=256),block=256,clip=2.5)",
      "thc(8,block=64,p=0.001)",
      "thc(2,block=1024)",
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

/// Whether what is sent of a tensor depends on how it is cut, because each piece is a sample of its own.
inline bool learns_from_pieces(std::string_view spec) { return spec.find("levels=learned") != std::string_view::npos; }

}  // namespace gradwire::testing
