#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gradwire {

/// Which compressor a parameter has in which step, and what becomes of its residual. Part of a scheme's text, behind
/// compressor and rule: "topk(0.001)+dgc(0.9)+warmup(500)". Terms:
///
///     warmup(steps=N)          the first N steps are sent dense (through the rule, which then owes nothing)
///     ramp(SPEC,...,steps=N)   after warmup N steps with each of these compressors, then the parameter's own
///     every(steps=N)           every N-th step is sent dense
///     decay(factor=F)          the residual is multiplied by F after each step
///     reset(steps=N)           the residual is dropped after every N-th step
///
/// The last two break the conservation law on purpose: what they drop is lost.
struct Schedule {
  struct Stage {
    std::string compressor;
    std::uint64_t first = 0;  ///< step
  };
  static constexpr std::string_view kDense = "none";

  std::uint64_t dense_steps = 0;
  std::vector<Stage> stages;  ///< in order of steps, the last one is the parameter's own compressor; never empty
  std::uint64_t dense_every = 0;
  float decay = 1;
  std::uint64_t reset_every = 0;

  [[nodiscard]] bool warms_up(std::uint64_t step) const noexcept { return step < dense_steps; }
  [[nodiscard]] bool is_nth_step(std::uint64_t step) const noexcept {
    return dense_every > 0 && step % dense_every == dense_every - 1;
  }
  /// The compressor's spec; in dense steps too, the one it would have otherwise.
  [[nodiscard]] const std::string& compressor_at(std::uint64_t step) const noexcept;
  [[nodiscard]] bool drops_residual() const noexcept { return decay != 1 || reset_every > 0; }
};

/// A scheme as text: COMPRESSOR[+RULE][+TERM...], the rule and the terms in any order.
struct Scheme {
  std::string compressor;
  std::string rule;  ///< empty: the text names none
  Schedule schedule;
};

/// What the rule says of the schedule goes in too: `warmup` of "dgc", which is a ramp of densities, and
/// FeedbackRule::dense_steps_left(), which are dense steps like those of warmup(). Throws Errc::invalid_argument naming
/// the part that is wrong: an unknown name, a term given twice, a ramp of what cannot be ramped, a warm-up beside the
/// rule's own.
[[nodiscard]] Scheme parse_scheme(std::string_view text);

}  // namespace gradwire
