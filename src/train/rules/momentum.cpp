// Deep Gradient Compression (Lin et al. 2017, arXiv 1712.01887): momentum before compression, so that what is sent late
// is sent with its momentum. The optimiser then has none of its own.
#include <cmath>
#include <cstdint>

#include "base/fail.hpp"
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
/// 1/n for means, does not count: the threshold is for gradients as the training loop has them. Host memory only.
float clipped(const DgcOptions& options, const RuleContext& context, float scale, const Tensor& scaled) {
  if (options.clip == 0 || scale == 0) return 1;
  const double squares = ops::sum_squares(static_cast<const float*>(scaled.data), scaled.count);
  const double norm = std::sqrt(squares) / std::abs(static_cast<double>(scale));
  const double limit = options.clip / std::sqrt(static_cast<double>(context.ranks));
  return norm > limit ? static_cast<float>(limit / norm) : 1.0F;
}

void read_clipped(const DgcOptions& options, const RuleContext& context, ConstTensor gradient, float scale, Tensor g,
                  StreamRef stream) {
  ops::scale_add(gradient, scale, {}, g, stream);
  const float factor = clipped(options, context, scale, g);
  if (factor != 1) ops::scale(g, factor, stream);
}

/// u = m u + g, update = u (Nesterov: u = m (u + g), update = u + g), of g in `update`.
void accumulate(const DgcOptions& options, StateVector& u, Tensor update, StreamRef stream) {
  if (options.nesterov) {
    each(u.pending_tensor(), SumScaled{options.momentum}, stream, u.current_tensor(), update);
    each(update, Sum{}, stream, update, u.pending_tensor());
  } else {
    each(u.pending_tensor(), ScaledSum{options.momentum}, stream, u.current_tensor(), update);
    ops::copy(u.pending_tensor(), update, stream);
  }
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
        sent_((options.masking ? context.count : 0) * sizeof(float), context.space),
        any_left_(sizeof(std::uint32_t), context.space) {}

  void compensate(ConstTensor gradient, float scale, Tensor input, StreamRef stream) override {
    read_clipped(options_, context_, gradient, scale, input, stream);
    accumulate(options_, momentum(), input, stream);
    owed().read(input, Write::add, stream);
    // For absorb(), which compares it with the residual: x itself is overwritten by the sum.
    if (options_.masking) ops::copy(input, sent(), stream);
  }
  [[nodiscard]] bool needs_scratch() const noexcept override { return !vector(0).is_f32(); }
  [[nodiscard]] Tensor residual(Tensor scratch) noexcept override {
    return needs_scratch() ? scratch : owed().pending_tensor();
  }
  void absorb(Tensor, Tensor scratch, StreamRef stream) override {
    const Tensor r = residual(scratch);
    if (options_.masking) {
      auto* const any_left = reinterpret_cast<std::uint32_t*>(any_left_.data());
      ops::zero(any_left_.tensor(1), stream);
      find_nonzero(r, any_left, stream);
      each(momentum().pending_tensor(), Undelivered{any_left}, stream, momentum().pending_tensor(), sent(), r);
    }
    owed().prepare(r, stream);
  }
  [[nodiscard]] std::size_t bytes() const noexcept override {
    return RuleOf::bytes() + sent_.size() + any_left_.size();
  }

 private:
  StateVector& owed() { return vector(0); }
  StateVector& momentum() { return vector(1); }
  [[nodiscard]] Tensor sent() const noexcept { return sent_.tensor(count_); }

  const RuleContext context_;
  const DgcOptions options_;
  Buffer sent_;
  Buffer any_left_;  // one u32
};

/// What remains of DGC where nothing is lost: clipping, and momentum after averaging.
class Momentum final : public RuleOf<1> {
 public:
  Momentum(const RuleContext& context, const DgcOptions& options)
      : RuleOf(context, {{{"momentum", StateKind::replicated}}}), context_(context), options_(options) {}
  void compensate(ConstTensor gradient, float scale, Tensor input, StreamRef stream) override {
    read_clipped(options_, context_, gradient, scale, input, stream);
  }
  [[nodiscard]] Tensor residual(Tensor) noexcept override { return {}; }
  void absorb(Tensor result, Tensor, StreamRef stream) override { accumulate(options_, vector(0), result, stream); }

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
  if (dgc.clip != 0 && context.space == Space::device)
    fail(Errc::unsupported, "dgc: clip={} needs gradients in host memory", dgc.clip);
  if (context.dense) check_storage(storage, context.space);
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
