#include <fmt/ranges.h>

#include <string>

#include "base/fail.hpp"
#include "compress/cast.hpp"
#include "compress/low_rank.hpp"
#include "compress/quantize.hpp"
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
        "bits=1..8 bucket=32..8192 (multiples of 32) norm=linf|l2|minmax round=nearest|stochastic",
        "uniform codes with a scale per bucket; q1..q8 are short for quantize(bits=1..8)",
        "linf: a/(1+a), a = (B-1)/(4L^2), L = 2^(bits-1)-1; stochastic min(a, sqrt(B-1)/L); minmax B/(2(2^bits-1)^2)",
        "QSGD, arXiv:1610.02132"},
       make_quantize},
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
