// Low-rank schemes from their text specs.
#include "base/fail.hpp"
#include "compress/low_rank.hpp"
#include "compress/registry.hpp"

namespace gradwire {
namespace {

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

}  // namespace

std::vector<RegistryEntry> low_rank_entries() {
  return {
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
}

}  // namespace gradwire
