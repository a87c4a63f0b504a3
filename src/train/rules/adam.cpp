// 1-bit Adam (Tang et al. 2021, arXiv 2102.02888; DeepSpeed's runtime/fp16/onebit/adam.py): Adam until the variance has
// settled, then momentum SGD under that variance, with momenta on the wire. The update is Adam's direction.
#include <algorithm>

#include "compress/vector_ops.hpp"
#include "train/rules/rules.hpp"

namespace gradwire::rules {
namespace {

struct AdamOptions {
  std::uint32_t freeze = 1000;  ///< steps in which v is learned
  float beta1 = 0.9F;
  float beta2 = 0.999F;
  float epsilon = 1e-8F;
};

/// The part of a rule's state that is the same on all ranks: the moments m and v, and the number of steps that v has
/// learned from, in one element. Steps fit an f32: see make_onebit_adam.
class Moments {
 public:
  Moments(const AdamOptions& options, StateVector& m, StateVector& v, StateVector& steps)
      : options_(options), m_(m), v_(v), steps_(steps) {}

  [[nodiscard]] std::uint64_t steps_left() const noexcept {
    const auto learned = static_cast<std::uint64_t>(*steps_.current());
    return learned < options_.freeze ? options_.freeze - learned : 0;  // more: loaded from a run that froze later
  }
  [[nodiscard]] Tensor m() const noexcept { return m_.current_tensor(); }
  [[nodiscard]] Tensor v() const noexcept { return v_.current_tensor(); }

  /// m = b1 m + (1 - b1) g; update = m / (sqrt(v) + eps). While v learns, first v = b2 v + (1 - b2) g^2.
  void absorb_gradient(Tensor g, StreamRef stream) {
    const bool learns = steps_left() > 0;
    each(m_.pending_tensor(), Blend{options_.beta1, 1 - options_.beta1}, stream, m(), g);
    if (learns) each(v_.pending_tensor(), SecondMoment{options_.beta2}, stream, v(), g);
    each(g, AdamDirection{options_.epsilon}, stream, m_.pending_tensor(), learns ? v_.pending_tensor() : v());
    *steps_.pending() = *steps_.current() + (learns ? 1.0F : 0.0F);
  }
  /// m = momentum; update = m / (sqrt(v) + eps). A code of one bit cannot say 0: both are 0 where v is.
  void absorb_momentum(Tensor momentum, StreamRef stream) {
    each(m_.pending_tensor(), WhereUsed{}, stream, momentum, v());
    each(momentum, AdamDirection{options_.epsilon}, stream, m_.pending_tensor(), v());
    *steps_.pending() = *steps_.current();
  }
  void commit() noexcept {
    if (steps_left() > 0) v_.commit();  // else nothing was prepared
    m_.commit();
    steps_.commit();
  }

 private:
  const AdamOptions options_;
  StateVector& m_;
  StateVector& v_;
  StateVector& steps_;
};

/// While v learns x = g + e, e = r; dense, so that e is 0. Then x = b1 m / n + (1 - b1) g + e: the sum over the n ranks
/// is b1 m + (1 - b1) (sum of g) and what is owed, whether g is over n (means) or not (sums). e = r, but 0 where v is.
class OneBitAdam final : public RuleOf<4> {
 public:
  OneBitAdam(const RuleContext& context, const AdamOptions& options)
      : RuleOf(context, {{{"residual", StateKind::residual},
                          {"momentum", StateKind::replicated},
                          {"variance", StateKind::replicated, 2},
                          {"variance steps", StateKind::replicated, 0, true}}}),
        beta1_(options.beta1),
        ranks_(static_cast<float>(context.ranks)),
        moments_(options, vector(1), vector(2), vector(3)) {}

  void compensate(ConstTensor gradient, float scale, Tensor input, StreamRef stream) override {
    if (dense_steps_left() > 0) return ops::scale_add(gradient, scale, owed().current_tensor(), input, stream);
    ops::scale_add(gradient, scale, {}, input, stream);
    each(input, MomentumShare{beta1_ / ranks_, 1 - beta1_}, stream, input, moments_.m(), owed().current_tensor());
  }
  [[nodiscard]] Tensor residual(Tensor) noexcept override { return owed().pending_tensor(); }
  void absorb(Tensor result, Tensor, StreamRef stream) override {
    if (dense_steps_left() > 0) return moments_.absorb_gradient(result, stream);
    moments_.absorb_momentum(result, stream);
    each(owed().pending_tensor(), WhereUsed{}, stream, owed().pending_tensor(), moments_.v());
  }
  void commit() noexcept override {
    owed().commit();
    moments_.commit();
  }
  [[nodiscard]] std::uint64_t dense_steps_left() const noexcept override { return moments_.steps_left(); }

 private:
  StateVector& owed() { return vector(0); }

  const float beta1_;
  const float ranks_;
  Moments moments_;
};

/// What remains of it where nothing is lost: Adam on the mean, whose v freezes like that of the others.
class DenseAdam final : public RuleOf<3> {
 public:
  DenseAdam(const RuleContext& context, const AdamOptions& options)
      : RuleOf(context, {{{"momentum", StateKind::replicated},
                          {"variance", StateKind::replicated, 2},
                          {"variance steps", StateKind::replicated, 0, true}}}),
        moments_(options, vector(0), vector(1), vector(2)) {}
  void compensate(ConstTensor gradient, float scale, Tensor input, StreamRef stream) override {
    ops::scale_add(gradient, scale, {}, input, stream);
  }
  [[nodiscard]] Tensor residual(Tensor) noexcept override { return {}; }
  void absorb(Tensor result, Tensor, StreamRef stream) override { moments_.absorb_gradient(result, stream); }
  void commit() noexcept override { moments_.commit(); }

 private:
  Moments moments_;
};

std::unique_ptr<FeedbackRule> make_onebit_adam(OptionReader& options, const RuleContext& context) {
  constexpr std::uint32_t kMostSteps = 1u << 24;  // whole numbers up to this fit an f32
  AdamOptions adam;
  adam.freeze = options.number("freeze", adam.freeze, 1, kMostSteps);
  adam.beta1 = static_cast<float>(options.real("beta1", 0.9, 0, 1));
  adam.beta2 = static_cast<float>(options.real("beta2", 0.999, 0, 1));
  adam.epsilon = static_cast<float>(options.real("eps", 1e-8, 1e-30, 1));
  if (context.dense) return std::make_unique<DenseAdam>(context, adam);
  return std::make_unique<OneBitAdam>(context, adam);
}

}  // namespace

std::vector<Entry> adam_entries() {
  return {
      {{"onebit_adam", "onebit_adam(1000)", "freeze=STEPS beta1=0..1 beta2=0..1 eps=1e-30..1",
        "m = b1 m + (1-b1) g, update = m / (sqrt(v) + eps); the first `freeze` steps dense, v = b2 v + (1-b2) g^2; "
        "then "
        "x = b1 m / n + (1-b1) g + e; m = result; e = r; the optimiser has no momentum",
        "1-bit Adam: Tang et al. 2021 (arXiv 2102.02888)"},
       "freeze",
       make_onebit_adam},
  };
}

}  // namespace gradwire::rules
