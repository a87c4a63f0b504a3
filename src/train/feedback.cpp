#include "gradwire/feedback.hpp"

#include <utility>

#include "base/fail.hpp"
#include "compress/vector_ops.hpp"

#include "gradwire/buffer.hpp"

namespace gradwire {
namespace {

/// No feedback: what compression loses is lost.
class NoFeedback final : public FeedbackRule {
 public:
  void compensate(ConstTensor gradient, float scale, Tensor input, StreamRef) override {
    ops::scale_add(gradient, scale, nullptr, static_cast<float*>(input.data));
  }
  [[nodiscard]] Tensor residual() noexcept override { return {}; }
  void absorb(Tensor, StreamRef) override {}
  void commit() noexcept override {}
  [[nodiscard]] std::vector<NamedState> state() override { return {}; }
  [[nodiscard]] std::size_t bytes() const noexcept override { return 0; }
};

/// EF14: x = g + e; e = residual. Two residuals, the one in force and the one being written, change places at commit.
class ErrorFeedback final : public FeedbackRule {
 public:
  ErrorFeedback(std::size_t count, Space space)
      : count_(count), current_(count * sizeof(float), space), pending_(count * sizeof(float), space) {
    current_.fill_zero();
    pending_.fill_zero();
  }
  void compensate(ConstTensor gradient, float scale, Tensor input, StreamRef) override {
    ops::scale_add(gradient, scale, static_cast<const float*>(current_.tensor(count_).data),
                   static_cast<float*>(input.data));
  }
  [[nodiscard]] Tensor residual() noexcept override { return pending_.tensor(count_); }
  void absorb(Tensor, StreamRef) override {}
  void commit() noexcept override { std::swap(current_, pending_); }
  [[nodiscard]] std::vector<NamedState> state() override { return {{"residual", current_.tensor(count_)}}; }
  [[nodiscard]] std::size_t bytes() const noexcept override { return current_.size() + pending_.size(); }

 private:
  std::size_t count_;
  Buffer current_;
  Buffer pending_;
};

}  // namespace

FeedbackRule::~FeedbackRule() = default;

std::unique_ptr<FeedbackRule> make_rule(std::string_view spec, std::size_t count, Space space) {
  if (spec == "none") return std::make_unique<NoFeedback>();
  if (spec == "ef") return std::make_unique<ErrorFeedback>(count, space);
  fail(Errc::invalid_argument, "unknown feedback rule '{}': expected none or ef", spec);
}

std::vector<RuleInfo> list_rules() {
  return {
      {"none", "update = result; what compression loses is lost", "-"},
      {"ef", "x = g + e; e = residual; update = result",
       "EF14: Seide et al. 2014; Karimireddy et al. 2019 (arXiv 1901.09847)"},
  };
}

}  // namespace gradwire
