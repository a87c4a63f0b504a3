#pragma once
#include <gmock/gmock.h>

#include <functional>
#include <map>

#include "unit/compress_support.hpp"

#include "gradwire/feedback.hpp"

namespace gradwire::testing {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

/// What one rank's compressor made of x in one step.
struct Contribution {
  Floats x;
  Floats sent;  // C(x)
};

/// One rank's rule for a parameter, with the memory that the hook would give it.
class RankRule {
 public:
  RankRule(const std::string& spec, const RuleContext& context)
      : rule_(make_rule(spec, context)), input_(context.count), scratch_(rule_->needs_scratch() ? context.count : 0) {}

  [[nodiscard]] FeedbackRule& rule() { return *rule_; }
  [[nodiscard]] Tensor scratch() { return rule_->needs_scratch() ? tensor_of(scratch_) : Tensor{}; }
  [[nodiscard]] static Tensor tensor_of(Floats& values) { return {values.data(), values.size()}; }

  /// compensate, then the compressor; null: nothing is lost.
  Contribution contribute(ConstTensor gradient, float scale, const Compressor* compressor, const RandomKey& key = {}) {
    const Tensor input = tensor_of(input_);
    rule_->compensate(gradient, scale, input, StreamRef::host());
    Contribution made{input_, input_};
    const Tensor residual = rule_->residual(scratch());
    if (compressor == nullptr) {
      if (residual.data != nullptr) std::fill_n(static_cast<float*>(residual.data), residual.count, 0.0F);
      return made;
    }
    std::vector<std::byte> frame(compressor->max_frame_size(input_.size(), DType::f32));
    const std::size_t size = compressor->encode(input, {frame.data(), frame.size()}, residual, key);
    compressor->decode({frame.data(), size}, tensor_of(made.sent), Write::assign);
    return made;
  }
  /// The update.
  Floats absorb(Floats result) {
    rule_->absorb(tensor_of(result), scratch(), StreamRef::host());
    return result;
  }
  [[nodiscard]] std::map<std::string, Floats> state() {
    std::map<std::string, Floats> all;
    for (const NamedState& named : rule_->state()) {
      Floats values(named.values->count());
      named.values->read(values.data());
      all[named.name] = values;
    }
    return all;
  }

 private:
  std::unique_ptr<FeedbackRule> rule_;
  Floats input_;
  Floats scratch_;
};

/// A step of all ranks over an all-gather: result = the sum of what was sent. Gradients count 1/n each.
struct StepOfAll {
  std::vector<Contribution> contributions;
  Floats update;  // the same on all ranks
};

inline StepOfAll run_step(std::vector<RankRule>& ranks, const std::vector<Floats>& gradients,
                          const Compressor* compressor, std::uint64_t step, bool commit = true) {
  StepOfAll made;
  Floats result(gradients.front().size());
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const RandomKey key{rank, step};
    made.contributions.push_back(ranks[rank].contribute({gradients[rank].data(), gradients[rank].size()},
                                                        1.0F / static_cast<float>(ranks.size()), compressor, key));
    for (std::size_t i = 0; i < result.size(); ++i) result[i] += made.contributions.back().sent[i];
  }
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    Floats update = ranks[rank].absorb(result);
    if (rank == 0) made.update = update;
    EXPECT_EQ(update, made.update) << "rank " << rank << " has another update than rank 0";
    if (commit) ranks[rank].rule().commit();
  }
  return made;
}

inline std::vector<RankRule> make_ranks(const std::string& spec, std::size_t ranks, std::size_t count) {
  std::vector<RankRule> all;
  for (std::size_t rank = 0; rank < ranks; ++rank)
    all.emplace_back(spec, RuleContext{.count = count, .ranks = static_cast<int>(ranks)});
  return all;
}

/// Different on every rank and in every step, with something in common.
inline std::vector<Floats> random_gradients(std::size_t ranks, std::size_t count, std::uint64_t step) {
  const Floats common = normal_gradients(count, 5);
  std::vector<Floats> all;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    all.push_back(normal_gradients(count, static_cast<unsigned>(1000 * step + rank + 7)));
    for (std::size_t i = 0; i < count; ++i) all.back()[i] += common[i];
  }
  return all;
}

/// Within `tolerance` of each other, relative to the largest element.
inline void expect_near(const Floats& actual, const Doubles& expected, double tolerance, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double largest = 1;
  for (const double value : expected) largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < actual.size(); ++i)
    ASSERT_NEAR(static_cast<double>(actual[i]), expected[i], tolerance * largest) << what << ", element " << i;
}

}  // namespace gradwire::testing
