#include <fmt/ranges.h>

#include <string>

#include "base/fail.hpp"
#include "compress/cast.hpp"
#include "compress/minifloat.hpp"
#include "compress/quantize.hpp"
#include "compress/spec.hpp"
#include "compress/zstd.hpp"

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

/// "zstd" where a stage that makes frames should be.
Compressor refuse_zstd(const Spec& spec) {
  fail(Errc::invalid_argument, "compressor \"{}\": zstd stands behind another compressor, as in q4|zstd", spec.text);
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
      {{"f8", "f8(format=e4m3,block=128,round=nearest)",
        "format=e4m3|e5m2 block=32..8192 (multiples of 32) round=nearest|stochastic",
        "8-bit floating point with an f32 scale per block",
        "nearest r^2 + a, r = 1/(1+2^(M+1)), a = (B-1)h^2/max^2, h half the subnormal step; stochastic "
        "2^-2M/(4+2^(2-M)) + a",
        "OCP OFP8 1.0, arXiv:2209.05433"},
       make_minifloat},
      {{"mx4", "mx4(round=nearest)", "round=nearest|stochastic", "E2M1 with a power-of-two scale per 32 elements",
        "(1/16 + a)/(1+a), a = (B-1)/256, B <= 32", "OCP MX 1.0, arXiv:2310.10537"},
       make_minifloat},
      {{"mx6", "mx6(format=e2m3,round=nearest)", "format=e2m3|e3m2 round=nearest|stochastic",
        "E2M3 or E3M2 with a power-of-two scale per 32 elements",
        "(s^2 + a)/(1+a), s = 1/16 or 1/8, a = (B-1)/2^12 or /2^18", "OCP MX 1.0, arXiv:2310.10537"},
       make_minifloat},
      {{"mx8", "mx8(format=e4m3,round=nearest)", "format=e4m3|e5m2 round=nearest|stochastic",
        "E4M3 or E5M2 with a power-of-two scale per 32 elements", "1/64: saturation of the largest",
        "OCP MX 1.0, arXiv:2310.10537"},
       make_minifloat},
      {{"nvfp4", "nvfp4(span=2048,round=nearest)", "span=32..8192 (multiples of 32) round=nearest|stochastic",
        "E2M1 with an E4M3 scale per 16 elements and an f32 scale per span",
        "(1/25 + a)/(1+a), a = 15/510; stochastic 1/24 + 15/455", "NVIDIA NVFP4"},
       make_minifloat},
      {{"zstd", "none|zstd(level=1,split=bytes)", "level=1..19 split=bytes|none",
        "a lossless stage behind any compressor; floats are split into planes of bytes",
        "that of what it stands behind", "RFC 8878"},
       refuse_zstd},
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
    if (const Spec spec = parse_spec(stages[i]); spec.name == "zstd") {
      require(i + 1 == stages.size(), "compressor \"{}\": nothing can stand behind {}", text, stages[i]);
      return make_zstd(spec, compressor);
    }
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
