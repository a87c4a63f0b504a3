#include <fmt/ranges.h>

#include <string>

#include "base/fail.hpp"
#include "compress/cast.hpp"
#include "compress/learned.hpp"
#include "compress/minifloat.hpp"
#include "compress/natural.hpp"
#include "compress/low_rank.hpp"
#include "compress/quantize.hpp"
#include "compress/rotate.hpp"
#include "compress/sparse/make.hpp"
#include "compress/spec.hpp"
#include "compress/thc.hpp"
#include "compress/zstd.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire {
namespace {

template <frame::Codec codec>
Compressor make_cast(const Spec& spec) {
  OptionReader(spec).finish();
  return CastCompressor(codec);
}

/// What follows bits.
Compressor make_quantize(const Spec& spec, OptionReader& options, QuantizeParams params) {
  params.bucket = options.number("bucket", params.bucket, 32, QuantizeParams::kMaxBucket, 32);
  params.norm = static_cast<Norm>(options.choice("norm", 0, {"linf", "l2", "minmax"}));
  params.round = static_cast<Round>(options.choice("round", 0, {"nearest", "stochastic"}));
  params.levels = static_cast<Levels>(options.choice("levels", 0, {"uniform", "exponential", "learned"}));
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
  accept(params.round == Round::nearest, "round=nearest only");
  return LearnedCompressor(learned);
}

Compressor make_quantize(const Spec& spec) {
  QuantizeParams params;
  OptionReader options(spec);
  params.bits = options.number("bits", params.bits, 1, 8);
  return make_quantize(spec, options, params);
}

/// "q4" is quantize(bits=4); the other options may follow.
Compressor make_short_quantize(const Spec& spec) {
  QuantizeParams params;
  params.bits = static_cast<std::uint32_t>(spec.name[1] - '0');
  OptionReader options(spec);
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
  QuantizeParams params{.bits = 2, .round = Round::stochastic, .levels = Levels::ternary};
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
  return NaturalCompressor(static_cast<Round>(round));
}

bool is_short_quantize(std::string_view name) {
  return name.size() == 2 && name[0] == 'q' && name[1] >= '1' && name[1] <= '8';
}

/// "zstd" where a stage that makes frames should be.
Compressor refuse_zstd(const Spec& spec) {
  fail(Errc::invalid_argument, "compressor \"{}\": zstd stands behind another compressor, as in q4|zstd", spec.text);
}

/// Options that both low-rank schemes have.
void read_low_rank_options(OptionReader& options, LowRank& scheme) {
  scheme.rank = options.number("rank", scheme.rank, 1, 1024);
  scheme.iterations = options.number("iterations", scheme.iterations, 1, 16);
  scheme.start = options.number("start", scheme.start, 0, 1'000'000'000);
  scheme.min_ratio = options.real("min_ratio", scheme.min_ratio, 0, 1e6);
  scheme.fallback = options.spec("fallback", scheme.fallback);
  scheme.factors = options.spec("factors", scheme.factors);
  options.finish();
}

Compressor make_powersgd(const Spec& spec) {
  LowRank scheme;
  OptionReader options(spec, {"rank"});
  scheme.rounds = options.number("rounds", scheme.rounds, 1, 2);
  read_low_rank_options(options, scheme);
  require(scheme.rounds == 2 || scheme.iterations == 1,
          "compressor \"{}\": iterations={} needs rounds=2: with rounds=1 a step is half an iteration", spec.text,
          scheme.iterations);
  return LowRankCompressor(std::move(scheme));
}

Compressor make_projection(const Spec& spec) {
  LowRank scheme;
  scheme.kind = LowRank::Kind::projection;
  scheme.iterations = 2;
  OptionReader options(spec, {"rank"});
  scheme.refresh = options.number("refresh", scheme.refresh, 1, 1'000'000);
  read_low_rank_options(options, scheme);
  return LowRankCompressor(std::move(scheme));
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
      {{"sign", "sign(bucket=512)", "bucket=32..8192 (multiples of 32)",
        "one bit an element, and the mean magnitude of each bucket", "1-1/B", "signSGD-EF, arXiv:1901.09847"},
       make_sign},
      {{"ternary", "ternary(bucket=512,clip=0,pack=bits)",
        "bucket=32..8192 (multiples of 32) clip=0|0.5..16 pack=bits|trits",
        "-1, 0, 1 times the bucket's largest magnitude, at most clip root mean squares; 2 bits an element, or 1.6 as "
        "trits",
        "(sqrt(B)-1)/2; clipped 1+clip^2/8, from 4 on clip-1", "TernGrad, arXiv:1705.07878"},
       make_ternary},
      {{"rotate", "rotate(inner=quantize(bits=4,bucket=512,norm=linf,round=nearest),block=4096,scale=none,clip=0)",
        "inner=a quantiser block=32..8192 (powers of two) scale=none|contractive|unbiased clip=0..64 (0: no)",
        "a randomised Hadamard transform before a quantiser: low bits for heavy tails",
        "(sqrt(b)+2^-19)^2, b = the inner's; linf: min(b, (ln 2B + 1)/(2L^2)); contractive q1 of whole blocks 1/2; "
        "unbiased b/(1-b), at most 3",
        "DRIVE, arXiv:2105.08339; EDEN, arXiv:2108.08842"},
       make_rotate},
      {{"thc", "thc(bits=4,block=4096,p=0.03125)", "bits=1..8 block=32..8192 (powers of two) p=1e-06..0.5",
        "integers of clipped, rotated values, which integer_sum adds without decoding",
        "(sqrt(c + T^2/(2^bits-1)^2) + 2^-19)^2, T = Phi^-1(1-p/2), c = 4(exp(-T^2/2) - T sqrt(2 pi) p/2)",
        "THC, arXiv:2302.08545"},
       make_thc},
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
      {{"natural", "natural(round=stochastic)", "round=stochastic|nearest",
        "neighbouring powers of two from 2^-90 to 2^36, a byte an element", "1/8; nearest 1/9",
        "natural compression, arXiv:1905.10988"},
       make_natural},
      {{"zstd", "none|zstd(level=1,split=bytes)", "level=1..19 split=bytes|none",
        "a lossless stage behind any compressor; floats are split into planes of bytes",
        "that of what it stands behind", "RFC 8878"},
       refuse_zstd},
      {{"powersgd", "powersgd(rank=4,iterations=1,rounds=2,start=0,min_ratio=2,fallback=q4,factors=none)",
        "rank=1..1024 iterations=1..16 rounds=1|2 start=STEPS min_ratio=REAL fallback=SPEC factors=none|f16|bf16|q8..",
        "low rank, matrices only: P = M Q, Q = M^T orth(P), warm start; the algorithm lowrank", "1 (a projection)",
        "PowerSGD, arXiv:1905.13727"},
       make_powersgd},
      {{"projection", "projection(rank=4,refresh=200,iterations=2,start=0,min_ratio=2,fallback=q4,factors=none)",
        "rank=1..1024 refresh=1..1000000 iterations=1..16 start=STEPS min_ratio=REAL fallback=SPEC factors=none|f16|..",
        "low rank, matrices only: onto a basis kept for `refresh` steps; the algorithm lowrank", "1 (a projection)",
        "after GaLore, arXiv:2403.03507"},
       make_projection},
  };
  return all;
}

Compressor make_stage(std::string_view text) {
  const Spec spec = parse_spec(text);
  if (is_short_quantize(spec.name)) return make_short_quantize(spec);
  std::vector<std::string> names;
  for (const Entry& entry : entries()) {
    if (entry.info.name == spec.name) return entry.make(spec);
    if (names.empty() || names.back() != entry.info.name) names.push_back(entry.info.name);
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
