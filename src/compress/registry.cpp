#include <fmt/ranges.h>

#include <string>

#include "base/fail.hpp"
#include "compress/cast.hpp"
#include "compress/quantize.hpp"
#include "compress/sparse/make.hpp"
#include "compress/spec.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire {
namespace {

template <frame::Codec codec>
Compressor make_cast(const Spec& spec) {
  OptionReader(spec).finish();
  return CastCompressor(codec);
}

void read_quantize_options(OptionReader& options, QuantizeParams& params) {
  params.bucket = options.number("bucket", params.bucket, 32, QuantizeParams::kMaxBucket, 32);
  params.norm = static_cast<Norm>(options.choice("norm", 0, {"linf", "l2", "minmax"}));
  params.round = static_cast<Round>(options.choice("round", 0, {"nearest", "stochastic"}));
  options.finish();
}

Compressor make_quantize(const Spec& spec) {
  QuantizeParams params;
  OptionReader options(spec);
  params.bits = options.number("bits", params.bits, 1, 8);
  read_quantize_options(options, params);
  return QuantizeCompressor(params);
}

/// "q4" is quantize(bits=4); the other options may follow.
Compressor make_short_quantize(const Spec& spec) {
  QuantizeParams params;
  params.bits = static_cast<std::uint32_t>(spec.name[1] - '0');
  OptionReader options(spec);
  read_quantize_options(options, params);
  return QuantizeCompressor(params);
}

bool is_short_quantize(std::string_view name) {
  return name.size() == 2 && name[0] == 'q' && name[1] >= '1' && name[1] <= '8';
}

struct Entry {
  CompressorInfo info;
  Compressor (*make)(const Spec&);
};

const std::vector<Entry>& entries() {
  static const std::vector<Entry> all = {
      {{"none", "none", "", "the elements as they are", "0", "-"}, make_cast<frame::Codec::none>},
      {{"f16", "f16", "", "IEEE binary16, to nearest even, saturating", "2^-22", "IEEE 754-2019"},
       make_cast<frame::Codec::f16>},
      {{"bf16", "bf16", "", "bfloat16: the leading 16 bits of f32, to nearest even, saturating", "2^-16", "-"},
       make_cast<frame::Codec::bf16>},
      {{"quantize", "quantize(bits=4,bucket=512,norm=linf,round=nearest)",
        "bits=1..8 bucket=32..8192 (multiples of 32) norm=linf|l2|minmax round=nearest|stochastic",
        "uniform codes with a scale per bucket; q1..q8 are short for quantize(bits=1..8)",
        "linf: a/(1+a), a = (B-1)/(4L^2), L = 2^(bits-1)-1; stochastic min(a, sqrt(B-1)/L); minmax B/(2(2^bits-1)^2)",
        "QSGD, arXiv:1610.02132"},
       make_quantize},
      {{"topk", "topk(density=0.01,select=exact)", "density=1e-9..1 or k=1.. select=exact|sampled",
        "the elements of largest magnitude, ties to the lower index; sampled: 0.8 k to k of them, by a guessed "
        "threshold;"
        " topk(0.01)|q4 codes their values by q4, as for all sparsifiers",
        "1 - k/d; sampled 1 - 0.8 k/d", "arXiv:1809.07599; sampled: Deep Gradient Compression, arXiv:1712.01887"},
       sparse::make_topk},
      {{"threshold", "threshold(t=0.001)", "t=0..1e38", "the elements of at least this magnitude, however many", "1",
        "Strom, INTERSPEECH 2015"},
       sparse::make_threshold},
      {{"randomk", "randomk(density=0.01,scale=none)", "density=1e-9..1 or k=1.. scale=none|unbiased",
        "one random element in each of k strata; the frame carries a seed and no indices",
        "S = ceil(d/k): 1 - 1/S; unbiased S - 1", "arXiv:1809.07599"},
       sparse::make_randomk},
      {{"block_topk", "block_topk(density=0.01,block=64,norm=l2)",
        "density=1e-9..1 or k=1.. (of blocks) block=32..256 (multiples of 32) norm=l2|linf",
        "whole blocks, those of largest norm", "of n blocks, m sent: 1 - m/n; linf 1 - m/(m + (n - m) B)",
        "OmniReduce, SIGCOMM 2021"},
       sparse::make_block_topk},
      {{"adaptive_threshold", "adaptive_threshold(density=0.01,refresh=128)",
        "density=1e-9..1 or k=1.. refresh=1..1000000",
        "elements above an earlier step's threshold as long as 4k/5 to 5k/4 pass, else exact; depends on earlier steps",
        "1 - 0.8 k/d", "Ok-Topk, arXiv:2201.07598"},
       sparse::make_adaptive_threshold},
  };
  return all;
}

Compressor make_stage(std::string_view text) {
  const Spec spec = parse_spec(text);
  if (is_short_quantize(spec.name)) return make_short_quantize(spec);
  std::vector<std::string> names;
  for (const Entry& entry : entries()) {
    if (entry.info.name == spec.name) return entry.make(spec);
    names.push_back(entry.info.name);
  }
  fail(Errc::invalid_argument, "compressor \"{}\": unknown name {}; accepted: {}, q1..q8", text, spec.name,
       fmt::join(names, ", "));
}

}  // namespace

Compressor make_compressor(std::string_view text) {
  const std::vector<std::string_view> stages = split_stages(text);
  Compressor compressor = make_stage(stages.front());
  for (std::size_t i = 1; i < stages.size(); ++i) {
    const Compressor next = make_stage(stages[i]);
    const Sparsifier* const sparsifier = compressor.sparsifier();
    require(sparsifier != nullptr, "compressor \"{}\": {} cannot stand behind {}, which is no sparsifier", text,
            stages[i], stages[i - 1]);
    compressor = sparsifier->with_values(next);
  }
  return compressor;
}

std::vector<CompressorInfo> list_compressors() {
  std::vector<CompressorInfo> rows;
  for (const Entry& entry : entries()) rows.push_back(entry.info);
  return rows;
}

}  // namespace gradwire
