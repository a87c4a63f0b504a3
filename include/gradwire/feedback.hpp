#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gradwire/export.hpp"
#include "gradwire/types.hpp"

namespace gradwire {

/// A piece of a rule's state, for saving, loading and rescaling.
struct NamedState {
  std::string name;
  Tensor tensor;
};

/// Error feedback for one parameter (docs/design.md has the table of rules). One step is
///
///     compensate(g)  ->  collective over `input`, residual into residual()  ->  absorb(result)  ->  commit()
///
/// State changes in commit() alone: a step that fails before it leaves no trace.
class GRADWIRE_API FeedbackRule {
 public:
  FeedbackRule() = default;
  FeedbackRule(const FeedbackRule&) = delete;
  FeedbackRule& operator=(const FeedbackRule&) = delete;
  virtual ~FeedbackRule();

  /// Writes what goes on the wire into `input` (f32): `scale` times the gradient plus what this rank owes.
  /// `input` may be the gradient's own memory when that is f32.
  virtual void compensate(ConstTensor gradient, float scale, Tensor input, StreamRef stream) = 0;
  /// Where the collective writes this step's residual; null data where the rule keeps none.
  [[nodiscard]] virtual Tensor residual() noexcept = 0;
  /// Turns `result` (f32, in place) into the update, once the residual is written.
  virtual void absorb(Tensor result, StreamRef stream) = 0;
  /// The whole step succeeded on every rank: what compensate and absorb prepared becomes the state.
  virtual void commit() noexcept = 0;
  /// What survives a step.
  [[nodiscard]] virtual std::vector<NamedState> state() = 0;
  /// Bytes held, what is prepared but not yet committed included.
  [[nodiscard]] virtual std::size_t bytes() const noexcept = 0;
};

/// "none" (update = result; the residual is dropped) or "ef" (EF14: Seide et al. 2014, Karimireddy et al. 2019).
/// Throws Errc::invalid_argument for an unknown rule.
[[nodiscard]] GRADWIRE_API std::unique_ptr<FeedbackRule> make_rule(std::string_view spec, std::size_t count,
                                                                   Space space = Space::host);

struct RuleInfo {
  std::string name;
  std::string summary;
  std::string source;
};
[[nodiscard]] GRADWIRE_API std::vector<RuleInfo> list_rules();

}  // namespace gradwire
