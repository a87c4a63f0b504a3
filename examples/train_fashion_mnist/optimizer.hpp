#pragma once
#include <string>

namespace demo {

/// What the training loop does with the update that the hook gives. Momentum is either the loop's or the feedback
/// rule's, never both:
///
///     rules without momentum       u = momentum u + (update + weight_decay w);             w -= rate u
///     dgc, ef21_sgdm, onebit_adam  d = decay_keep d + decay_take weight_decay w;           w -= rate (update + d)
///
/// The second form leaves the loop no momentum of its own, since the rule's would then count twice. Nor may weight
/// decay go into the gradients, where the rule would compress and rescale it: it joins behind the rule, through a
/// momentum d like the rule's (as DGC's own optimiser has it), which needs no communication as weights are the same on
/// all ranks.
struct Optimizer {
  double learning_rate = 0.2;
  double momentum = 0.9;
  double weight_decay = 5e-4;
  bool rule_has_momentum = false;  ///< the second form
  double decay_keep = 0;
  double decay_take = 1;
};

/// What suits this feedback rule, a spec that gradwire accepts: dgc with the momentum m decays through d = m d + w, as
/// SGD with that momentum would; ef21_sgdm, whose momentum is a mean and has no gain, through the same mean, at ten
/// times the rate; onebit_adam directly, as AdamW, at 0.001 and with AdamW's decay of 0.01.
[[nodiscard]] Optimizer optimizer_for(const std::string& rule);

}  // namespace demo
