// Casts and quantisers from their text specs.
#include "base/fail.hpp"
#include "compress/cast.hpp"
#include "compress/learned.hpp"
#include "compress/natural.hpp"
#include "compress/quantize.hpp"
#include "compress/registry.hpp"

namespace gradwire {
namespace {

template <frame::Codec codec>
Compressor make_cast(const Spec& spec) {
  OptionReader(spec).finish();
  return CastCompressor(codec);
}

/// What follows bits.
void read_params(OptionReader& options, QuantizeParams& params) {
  params.bucket = options.number("bucket", params.bucket, 32, QuantizeParams::kMaxBucket, 32);
  params.norm = static_cast<Norm>(options.choice("norm", 0, {"linf", "l2", "minmax"}));
  params.round = static_cast<Rounding>(options.choice("round", 0, {"nearest", "stochastic"}));
  params.levels = static_cast<Levels>(options.choice("levels", 0, {"uniform", "exponential", "learned"}));
}

Compressor make_quantize(const Spec& spec, OptionReader& options, QuantizeParams params) {
  read_params(options, params);
  LearnedCompressor::Options learned{.bits = params.bits, .bucket = params.bucket};
  if (params.levels == Levels::learned) {
    learned.refresh = options.number("refresh", learned.refresh, 1, 1'000'000);
    learned.sample = options.number("sample", learned.sample, 256, 1 << 20);
  }
  options.finish();
  const auto accept = [&](bool good, std::string_view accepted) {
    require(good, "compressor \"{}\": levels={} takes {}", spec.text,
            params.levels == Levels::learned ? "learned" : "exponential", accepted);
  };
  if (params.levels == Levels::uniform) return QuantizeCompressor(params);
  accept(params.bits >= 2, "bits=2..8, not 1");
  accept(params.norm != Norm::minmax, "norm=linf or l2, not minmax");
  if (params.levels == Levels::exponential) return QuantizeCompressor(params);
  accept(params.bits <= 4, "bits=2..4");
  accept(params.norm == Norm::linf, "norm=linf only");
  accept(params.round == Rounding::nearest, "round=nearest only");
  return LearnedCompressor(learned);
}

Compressor make_quantize(const Spec& spec) {
  QuantizeParams params;
  OptionReader options(spec);
  params.bits = options.number("bits", params.bits, 1, 8);
  return make_quantize(spec, options, params);
}

Compressor make_sign(const Spec& spec) {
  QuantizeParams params{.bits = 1, .norm = Norm::mean};
  OptionReader options(spec, {"bucket"});
  params.bucket = options.number("bucket", params.bucket, 32, QuantizeParams::kMaxBucket, 32);
  options.finish();
  return QuantizeCompressor(params);
}

Compressor make_ternary(const Spec& spec) {
  QuantizeParams params{.bits = 2, .round = Rounding::stochastic, .levels = Levels::ternary};
  OptionReader options(spec, {"bucket"});
  params.bucket = options.number("bucket", params.bucket, 32, QuantizeParams::kMaxBucket, 32);
  params.clip = static_cast<float>(options.real("clip", 0, 0, 16));
  params.packing = static_cast<Packing>(options.choice("pack", 0, {"bits", "trits"}));
  options.finish();
  require(params.clip == 0 || params.clip >= 0.5f, "compressor \"{}\": option clip is {}; accepted: 0, and 0.5..16",
          spec.text, params.clip);
  if (params.clip != 0) params.norm = Norm::clipped;
  return QuantizeCompressor(params);
}

Compressor make_natural(const Spec& spec) {
  OptionReader options(spec, {"round"});
  const auto round = options.choice("round", 1, {"nearest", "stochastic"});
  options.finish();
  return NaturalCompressor(static_cast<Rounding>(round));
}

/// Of `quantize` alone; learned levels have more than these.
std::optional<QuantizeParams> quantize_params(const Compressor& compressor) {
  const std::string_view text = compressor.spec();
  if (split_stages(text).size() != 1) return std::nullopt;
  const Spec spec = parse_spec(text);
  if (spec.name != "quantize") return std::nullopt;
  QuantizeParams params;
  OptionReader options(spec);
  params.bits = options.number("bits", params.bits, 1, 8);
  read_params(options, params);
  return params;
}

}  // namespace

/// "q4" is quantize(bits=4); the other options may follow.
Compressor make_short_quantize(const Spec& spec) {
  QuantizeParams params;
  params.bits = static_cast<std::uint32_t>(spec.name[1] - '0');
  OptionReader options(spec);
  return make_quantize(spec, options, params);
}

std::optional<std::uint32_t> quantize_bits(const Compressor& compressor) {
  const std::optional<QuantizeParams> params = quantize_params(compressor);
  return params ? std::optional(params->bits) : std::nullopt;
}

std::optional<QuantizeParams> uniform_params(const Compressor& compressor) {
  const std::optional<QuantizeParams> params = quantize_params(compressor);
  return params && params->levels == Levels::uniform ? params : std::nullopt;
}

std::vector<RegistryEntry> quantiser_entries() {
  return {
      {{"none", "none", "", "the elements as they are", "0", "-"}, make_cast<frame::Codec::none>},
      {{"f16", "f16", "", "IEEE binary16, to nearest even, saturating", "2^-22 up to 65504", "IEEE 754-2019"},
       make_cast<frame::Codec::f16>},
      {{"bf16", "bf16", "", "bfloat16: the leading 16 bits of f32, to nearest even, saturating", "2^-16", "-"},
       make_cast<frame::Codec::bf16>},
      {{"quantize", "quantize(bits=4,bucket=512,norm=linf,round=nearest)",
        "bits=1..8 bucket=32..8192 (multiples of 32) norm=linf|l2|minmax round=nearest|stochastic "
        "levels=uniform|exponential|learned",
        "uniform codes with a scale per bucket; q1..q8 are short for quantize(bits=1..8)",
        "linf: a/(1+a), a = (B-1)/(4L^2), L = 2^(bits-1)-1; stochastic min(a, sqrt(B-1)/L); minmax B/(2(2^bits-1)^2)",
        "QSGD, arXiv:1610.02132; minmax: CGX, arXiv:2111.08617"},
       make_quantize},
      {{"quantize", "quantize(bits=4,bucket=512,norm=linf,round=nearest,levels=exponential)",
        "bits=2..8 bucket=32..8192 (multiples of 32) norm=linf|l2 round=nearest|stochastic levels=exponential",
        "levels 0, 1, 1/2, 1/4, ... of the norm",
        "linf: max(1/9, a/(1+a)), a = (B-1)/4^L, L = 2^(bits-1)-1; stochastic max(1/8, (sqrt(1+4a)-1)/2)",
        "NUQSGD, arXiv:1908.06077"},
       make_quantize},
      {{"quantize", "quantize(bits=4,bucket=512,norm=linf,round=nearest,levels=learned,refresh=1,sample=4096)",
        "bits=2..4 bucket=32..8192 (multiples of 32) levels=learned refresh=1..1000000 sample=256..1048576",
        "levels learned on a sample every `refresh` steps, and sent along", "1-15/(64B)",
        "Lloyd, IEEE Trans. IT 28(2), 1982"},
       make_quantize},
      {{"sign", "sign(bucket=512)", "bucket=32..8192 (multiples of 32)",
        "one bit an element, and the mean magnitude of each bucket", "1-1/B", "signSGD-EF, arXiv:1901.09847"},
       make_sign},
      {{"ternary", "ternary(bucket=512,clip=0,pack=bits)",
        "bucket=32..8192 (multiples of 32) clip=0|0.5..16 pack=bits|trits",
        "-1, 0, 1 times the bucket's largest magnitude, at most clip root mean squares; 2 bits an element, or 1.6 as "
        "trits",
        "(sqrt(B)-1)/2; clipped 1+clip^2/8, from 4 on clip-1", "TernGrad, arXiv:1705.07878"},
       make_ternary},
      {{"natural", "natural(round=stochastic)", "round=stochastic|nearest",
        "neighbouring powers of two from 2^-90 to 2^36, a byte an element", "1/8, nearest 1/9; up to 2^36",
        "natural compression, arXiv:1905.10988"},
       make_natural},
  };
}

}  // namespace gradwire
