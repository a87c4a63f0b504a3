#include "compress/vector_ops.hpp"
#include "train/rules/rules.hpp"

namespace gradwire::rules {
namespace {

/// No feedback: what compression loses is lost.
class None final : public RuleOf<0> {
 public:
  explicit None(const RuleContext& context) : RuleOf(context, {}) {}
  void compensate(ConstTensor gradient, float scale, Tensor input, StreamRef stream) override {
    ops::scale_add(gradient, scale, {}, input, stream);
  }
  [[nodiscard]] Tensor residual(Tensor) noexcept override { return {}; }
  void absorb(Tensor, Tensor, StreamRef) override {}
};

/// EF14: x = g + e; e = r.
class ErrorFeedback final : public RuleOf<1> {
 public:
  ErrorFeedback(const RuleContext& context, std::string_view storage)
      : RuleOf(context, {{{"residual", StateKind::residual}}}, storage) {}
  void compensate(ConstTensor gradient, float scale, Tensor input, StreamRef stream) override {
    const Tensor owed = needs_scratch() ? Tensor{} : vector(0).current_tensor();
    ops::scale_add(gradient, scale, owed, input, stream);
    if (needs_scratch()) vector(0).read(input, Write::add, stream);
  }
  [[nodiscard]] bool needs_scratch() const noexcept override { return !vector(0).is_f32(); }
  [[nodiscard]] Tensor residual(Tensor scratch) noexcept override {
    return needs_scratch() ? scratch : vector(0).pending_tensor();
  }
  void absorb(Tensor, Tensor scratch, StreamRef stream) override {
    if (needs_scratch()) vector(0).prepare(scratch, stream);
  }
};

}  // namespace

std::vector<Entry> residual_entries() {
  return {
      {{"none", "none", "-", "x = g; update = result; what compression loses is lost", "-"},
       {},
       [](OptionReader&, const RuleContext& context) -> std::unique_ptr<FeedbackRule> {
         return std::make_unique<None>(context);
       }},
      {{"ef", "ef", "storage=f32|f16|bf16|q8", "x = g + e; e = r; update = result",
        "EF14: Seide et al. 2014; Karimireddy et al. 2019 (arXiv 1901.09847)"},
       "storage",
       [](OptionReader& options, const RuleContext& context) -> std::unique_ptr<FeedbackRule> {
         const std::string_view storage = options.spec("storage", "f32");
         if (context.dense) check_storage(storage, context.space);
         if (context.dense) return std::make_unique<None>(context);
         return std::make_unique<ErrorFeedback>(context, storage);
       }},
  };
}

}  // namespace gradwire::rules
