// Rules that keep an estimate h of this rank's gradient and send the difference to it. H is the sum of all ranks' h:
// every rank adds the same result to it, so it is the same everywhere. With r the residual, c = x - r is what this rank
// contributed, whatever the algorithm re-encoded on the way (docs/adr/0001).
#include "compress/vector_ops.hpp"
#include "train/rules/rules.hpp"

namespace gradwire::rules {
namespace {

/// What remains of these rules where nothing is lost: the mean of the gradients.
std::unique_ptr<FeedbackRule> without_loss(const RuleContext& context) { return make_rule("none", context); }

/// x = g - h; h += c; H += result; update = H. As x = g - h, h + c = g - r.
class Ef21 final : public RuleOf<2> {
 public:
  explicit Ef21(const RuleContext& context)
      : RuleOf(context, {{{"estimate", StateKind::share}, {"mean estimate", StateKind::replicated}}}) {}
  void compensate(ConstTensor gradient, float scale, Tensor input, StreamRef stream) override {
    const Tensor g = mean().pending_tensor();  // free until absorb
    ops::scale_add(gradient, scale, {}, g, stream);
    each(input, Difference{}, stream, g, own().current_tensor());
  }
  [[nodiscard]] Tensor residual(Tensor) noexcept override { return own().pending_tensor(); }
  void absorb(Tensor result, Tensor, StreamRef stream) override {
    const Tensor g = mean().pending_tensor();
    each(own().pending_tensor(), Difference{}, stream, g, own().pending_tensor());
    each(g, Sum{}, stream, mean().current_tensor(), result);
    ops::copy(g, result, stream);
  }

 private:
  StateVector& own() { return vector(0); }
  StateVector& mean() { return vector(1); }
};

/// v = (1 - eta) v + eta g; x = v - h; then as EF21.
class Ef21Momentum final : public RuleOf<3> {
 public:
  Ef21Momentum(const RuleContext& context, float eta)
      : RuleOf(context, {{{"momentum", StateKind::share},
                          {"estimate", StateKind::share},
                          {"mean estimate", StateKind::replicated}}}),
        eta_(eta) {}
  void compensate(ConstTensor gradient, float scale, Tensor input, StreamRef stream) override {
    ops::scale_add(gradient, scale, {}, input, stream);
    each(momentum().pending_tensor(), Blend{1 - eta_, eta_}, stream, momentum().current_tensor(), input);
    each(input, Difference{}, stream, momentum().pending_tensor(), own().current_tensor());
  }
  [[nodiscard]] Tensor residual(Tensor) noexcept override { return own().pending_tensor(); }
  void absorb(Tensor result, Tensor, StreamRef stream) override {
    each(own().pending_tensor(), Difference{}, stream, momentum().pending_tensor(), own().pending_tensor());
    each(result, Sum{}, stream, mean().current_tensor(), result);
    mean().prepare(result, stream);
  }

 private:
  StateVector& momentum() { return vector(0); }
  StateVector& own() { return vector(1); }
  StateVector& mean() { return vector(2); }
  const float eta_;
};

/// What remains of EF21-SGDM where nothing is lost: v, after averaging.
class Averaged final : public RuleOf<1> {
 public:
  Averaged(const RuleContext& context, float eta)
      : RuleOf(context, {{{"momentum", StateKind::replicated}}}), eta_(eta) {}
  void compensate(ConstTensor gradient, float scale, Tensor input, StreamRef stream) override {
    ops::scale_add(gradient, scale, {}, input, stream);
  }
  [[nodiscard]] Tensor residual(Tensor) noexcept override { return {}; }
  void absorb(Tensor result, Tensor, StreamRef stream) override {
    each(result, Blend{1 - eta_, eta_}, stream, vector(0).current_tensor(), result);
    vector(0).prepare(result, stream);
  }

 private:
  const float eta_;
};

/// x = eta e + g - h; e += g - h - c; h += c; H += result; update = H.
/// As x = eta e + g - h: h + c = (eta e + g) - r, and e + g - h - c = (1 - eta) e + r.
class EControl final : public RuleOf<3> {
 public:
  EControl(const RuleContext& context, float eta, std::string_view storage)
      : RuleOf(context,
               {{{"residual", StateKind::residual},
                 {"estimate", StateKind::share},
                 {"mean estimate", StateKind::replicated}}},
               storage),
        eta_(eta) {}
  void compensate(ConstTensor gradient, float scale, Tensor input, StreamRef stream) override {
    const Tensor y = own().pending_tensor();
    owed().read(y, Write::assign, stream);
    ops::scale_add(gradient, scale, {}, input, stream);
    each(y, ScaledSum{eta_}, stream, y, input);
    each(input, Difference{}, stream, y, own().current_tensor());
  }
  [[nodiscard]] bool needs_scratch() const noexcept override { return !vector(0).is_f32(); }
  [[nodiscard]] Tensor residual(Tensor scratch) noexcept override {
    return needs_scratch() ? scratch : owed().pending_tensor();
  }
  void absorb(Tensor result, Tensor scratch, StreamRef stream) override {
    const Tensor r = residual(scratch);
    const Tensor e = mean().pending_tensor();  // free until its own turn
    each(own().pending_tensor(), Difference{}, stream, own().pending_tensor(), r);
    owed().read(e, Write::assign, stream);
    each(r, ScaledSum{1 - eta_}, stream, e, r);
    owed().prepare(r, stream);
    each(result, Sum{}, stream, mean().current_tensor(), result);
    mean().prepare(result, stream);
  }

 private:
  StateVector& owed() { return vector(0); }
  StateVector& own() { return vector(1); }
  StateVector& mean() { return vector(2); }
  const float eta_;
};

/// x = g - h; h += alpha c; update = H + result; H += alpha result. For unbiased compressors.
class Diana final : public RuleOf<2> {
 public:
  Diana(const RuleContext& context, float alpha)
      : RuleOf(context, {{{"estimate", StateKind::share}, {"mean estimate", StateKind::replicated}}}), alpha_(alpha) {}
  void compensate(ConstTensor gradient, float scale, Tensor input, StreamRef stream) override {
    ops::scale_add(gradient, scale, {}, input, stream);
    each(input, Difference{}, stream, input, own().current_tensor());
    mean().prepare(input, stream);  // x: free until absorb
  }
  [[nodiscard]] Tensor residual(Tensor) noexcept override { return own().pending_tensor(); }
  void absorb(Tensor result, Tensor, StreamRef stream) override {
    const Tensor x = mean().pending_tensor();
    each(x, Difference{}, stream, x, own().pending_tensor());
    each(own().pending_tensor(), ScaledSum{alpha_}, stream, x, own().current_tensor());
    each(x, ScaledSum{alpha_}, stream, result, mean().current_tensor());
    each(result, Sum{}, stream, mean().current_tensor(), result);
  }

 private:
  StateVector& own() { return vector(0); }
  StateVector& mean() { return vector(1); }
  const float alpha_;
};

}  // namespace

std::vector<Entry> estimate_entries() {
  return {
      {{"ef21", "ef21", "-", "x = g - h; h += c; H += result; update = H",
        "EF21: Richtarik et al. 2021 (arXiv 2106.05203)"},
       {},
       [](OptionReader&, const RuleContext& context) -> std::unique_ptr<FeedbackRule> {
         if (context.dense) return without_loss(context);
         return std::make_unique<Ef21>(context);
       }},
      {{"ef21_sgdm", "ef21_sgdm(0.1)", "eta=0..1", "v = (1-eta) v + eta g; x = v - h; h += c; H += result; update = H",
        "EF21-SGDM: Fatkhullin et al. 2023 (arXiv 2305.15155)"},
       "eta",
       [](OptionReader& options, const RuleContext& context) -> std::unique_ptr<FeedbackRule> {
         const auto eta = static_cast<float>(options.real("eta", 0.1, 0, 1));
         if (context.dense) return std::make_unique<Averaged>(context, eta);
         return std::make_unique<Ef21Momentum>(context, eta);
       }},
      {{"econtrol", "econtrol(0.01)", "eta=0..1 storage=f32|f16|bf16|q8 (of e)",
        "x = eta e + g - h; e += g - h - c; h += c; H += result; update = H",
        "EControl: Gao et al. 2023 (arXiv 2311.05645)"},
       "eta",
       [](OptionReader& options, const RuleContext& context) -> std::unique_ptr<FeedbackRule> {
         const auto eta = static_cast<float>(options.real("eta", 0.01, 0, 1));
         const std::string_view storage = options.spec("storage", "f32");
         if (context.dense) check_storage(storage, context.space);
         if (context.dense) return without_loss(context);
         return std::make_unique<EControl>(context, eta, storage);
       }},
      {{"diana", "diana(0.1)", "alpha=0..1", "x = g - h; h += alpha c; update = H + result; H += alpha result",
        "DIANA: Mishchenko et al. 2019 (arXiv 1901.09269); for unbiased compressors, alpha at most 1 / (1 + omega)"},
       "alpha",
       [](OptionReader& options, const RuleContext& context) -> std::unique_ptr<FeedbackRule> {
         const auto alpha = static_cast<float>(options.real("alpha", 0.1, 0, 1));
         if (context.dense) return without_loss(context);
         return std::make_unique<Diana>(context, alpha);
       }},
  };
}

}  // namespace gradwire::rules
