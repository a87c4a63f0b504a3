// Deep Gradient Compression (Lin et al. 2017, arXiv 1712.01887): momentum before compression, so that what is sent late
// is sent with its momentum. The optimiser then has none of its own.
#include <algorithm>
#include <cmath>

#include "compress/vector_ops.hpp"
#include "train/rules/rules.hpp"

namespace gradwire::rules {
namespace {

struct DgcOptions {
  float momentum = 0.9F;
  bool nesterov = false;
  bool masking = true;
  double clip = 0;  ///< of the l2 norm of a parameter's gradient over all ranks; 0: none
};

/// What is left of the gradient's scale after clipping this rank's gradient to clip / sqrt(ranks). `scale`, which is
/// 1/n for means, does not count: the threshold is for gradients as the training loop has them.
float clipped(const DgcOptions& options, const RuleContext& context, float scale, const float* scaled) {
  if (options.clip == 0 || scale == 0) return 1;
  const double norm = std::sqrt(ops::sum_squares(scaled, context.count)) / std::abs(static_cast<double>(scale));
  const double limit = options.clip / std::sqrt(static_cast<double>(context.ranks));
  return norm > limit ? static_cast<float>(limit / norm) : 1.0F;
}

void read_clipped(const DgcOptions& options, const RuleContext& context, ConstTensor gradient, float scale, float* g) {
  ops::scale_add(gradient, scale, nullptr, g);
  const float factor = clipped(options, context, scale, g);
  if (factor != 1)
    each(
        context.count, g, [factor](float g_i) { return factor * g_i; }, g);
}

/// u = m u + g; v += u (Nesterov: u = m (u + g); v += u + g); x = v; v = r; u = 0 where something was delivered. In a
/// step that delivers all, a dense one, nothing is late that momentum would carry past its time: u stays, so that
/// dense steps are SGD with momentum.
class Dgc final : public RuleOf<2> {
 public:
  Dgc(const RuleContext& context, const DgcOptions& options, std::string_view storage)
      : RuleOf(context, {{{"residual", StateKind::residual}, {"momentum", StateKind::share}}}, storage),
        context_(context),
        options_(options),
        sent_((options.masking ? context.count : 0) * sizeof(float), context.space) {}

  void compensate(ConstTensor gradient, float scale, Tensor input, StreamRef) override {
    float* const x = floats(input);
    float* const u = momentum().pending();
    const float m = options_.momentum;
    read_clipped(options_, context_, gradient, scale, x);
    if (options_.nesterov) {
      each(
          count_, u, [m](float old, float g) { return m * (old + g); }, momentum().current(), x);
      each(
          count_, x, [](float g, float u_i) { return g + u_i; }, x, u);
    } else {
      each(
          count_, u, [m](float old, float g) { return m * old + g; }, momentum().current(), x);
      each(
          count_, x, [](float u_i) { return u_i; }, u);
    }
    owed().read(x, Write::add);
    // For absorb(), which compares it with the residual: x itself is overwritten by the sum.
    if (options_.masking)
      each(
          count_, sent(), [](float x_i) { return x_i; }, x);
  }
  [[nodiscard]] bool needs_scratch() const noexcept override { return !vector(0).is_f32(); }
  [[nodiscard]] Tensor residual(Tensor scratch) noexcept override {
    return needs_scratch() ? scratch : Tensor{owed().pending(), count_};
  }
  void absorb(Tensor, Tensor scratch, StreamRef) override {
    const float* const r = floats(residual(scratch));
    const bool all_delivered = std::all_of(r, r + count_, [](float r_i) { return r_i == 0; });
    if (options_.masking && !all_delivered) {
      each(
          count_, momentum().pending(), [](float u, float x, float r_i) { return r_i == x ? u : 0.0F; },
          momentum().pending(), sent(), r);
    }
    owed().prepare(r);
  }
  [[nodiscard]] std::size_t bytes() const noexcept override { return RuleOf::bytes() + sent_.size(); }

 private:
  StateVector& owed() { return vector(0); }
  StateVector& momentum() { return vector(1); }
  [[nodiscard]] float* sent() const noexcept { return reinterpret_cast<float*>(sent_.data()); }

  const RuleContext context_;
  const DgcOptions options_;
  Buffer sent_;
};

/// What remains of DGC where nothing is lost: clipping, and momentum after averaging.
class Momentum final : public RuleOf<1> {
 public:
  Momentum(const RuleContext& context, const DgcOptions& options)
      : RuleOf(context, {{{"momentum", StateKind::replicated}}}), context_(context), options_(options) {}
  void compensate(ConstTensor gradient, float scale, Tensor input, StreamRef) override {
    read_clipped(options_, context_, gradient, scale, floats(input));
  }
  [[nodiscard]] Tensor residual(Tensor) noexcept override { return {}; }
  void absorb(Tensor result, Tensor, StreamRef) override {
    float* const g = floats(result);
    float* const u = vector(0).pending();
    const float m = options_.momentum;
    if (options_.nesterov) {
      each(
          count_, u, [m](float old, float g_i) { return m * (old + g_i); }, vector(0).current(), g);
      each(
          count_, g, [](float g_i, float u_i) { return g_i + u_i; }, g, u);
    } else {
      each(
          count_, u, [m](float old, float g_i) { return m * old + g_i; }, vector(0).current(), g);
      each(
          count_, g, [](float u_i) { return u_i; }, u);
    }
  }

 private:
  const RuleContext context_;
  const DgcOptions options_;
};

std::unique_ptr<FeedbackRule> make_dgc(OptionReader& options, const RuleContext& context) {
  DgcOptions dgc;
  dgc.momentum = static_cast<float>(options.real("momentum", 0.9, 0, 1));
  dgc.nesterov = options.choice("nesterov", 0, {"no", "yes"}) == 1;
  dgc.masking = options.choice("masking", 1, {"no", "yes"}) == 1;
  dgc.clip = options.real("clip", 0, 0, 1e30);
  (void)options.number("warmup", 0, 0, 100'000'000);  // a schedule: see train/schedule.hpp
  const std::string_view storage = options.spec("storage", "f32");
  if (context.dense) check_storage(storage);
  if (context.dense) return std::make_unique<Momentum>(context, dgc);
  return std::make_unique<Dgc>(context, dgc, storage);
}

}  // namespace

std::vector<Entry> momentum_entries() {
  return {
      {{"dgc", "dgc(0.9)",
        "momentum=0..1 nesterov=no|yes masking=yes|no clip=NORM (0: none) warmup=STEPS storage=f32|f16|bf16|q8 (of v)",
        "u = m u + g; v += u; x = v; v = r; u = 0 where delivered; update = result; the optimiser has no momentum",
        "Deep Gradient Compression: Lin et al. 2017 (arXiv 1712.01887)"},
       "momentum",
       make_dgc},
  };
}

}  // namespace gradwire::rules
