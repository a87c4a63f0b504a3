#pragma once
#include <cstdint>
#include <vector>

#include "ranks/worlds.hpp"

#include "gradwire/hook.hpp"

namespace gradwire::test {

/// Least squares from noisy gradients, as Adam wants them: rank r pulls weight i of parameter p towards target(r, p,
/// i), so the optimum is the mean of the ranks' targets.
class NoisyModel {
 public:
  explicit NoisyModel(const Communicator& comm) : rank_(comm.rank()), size_(comm.size()) {
    for (const std::vector<std::size_t>& shape : kShapes) {
      const std::size_t p = params.size();
      std::size_t count = 1;
      for (const std::size_t extent : shape) count *= extent;
      params.push_back({ParamId{static_cast<std::uint32_t>(p)}, fmt::format("w{}", p), shape});
      weights.emplace_back(count);
      gradients.emplace_back(count);
      for (int rank = 0; rank < size_; ++rank) {
        const std::vector<float> values =
            uniform(count, static_cast<unsigned>(1 + rank * 10) + static_cast<unsigned>(p));
        if (rank == 0) optimum_.emplace_back(count);
        for (std::size_t i = 0; i < count; ++i) optimum_[p][i] += values[i] / static_cast<float>(size_);
        if (rank == rank_) targets_.push_back(values);
      }
    }
  }

  void compute_gradients(unsigned step) {
    for (std::size_t p = 0; p < weights.size(); ++p) {
      const std::vector<float> noise =
          uniform(weights[p].size(), 1000 + step * 64 + static_cast<unsigned>(rank_) * 4 + static_cast<unsigned>(p));
      for (std::size_t i = 0; i < noise.size(); ++i) {
        gradients[p][i] = weights[p][i] - targets_[p][i] + noise[i];
      }
    }
  }
  [[nodiscard]] std::vector<Tensor> tensors(std::vector<std::vector<float>>& values) const {
    std::vector<Tensor> all;
    for (std::vector<float>& each : values) all.push_back({each.data(), each.size()});
    return all;
  }
  void step(GradientHook& hook, unsigned number) {
    compute_gradients(number);
    send(hook);
  }
  void send(GradientHook& hook) {
    for (std::size_t p = weights.size(); p-- > 0;) hook.ready(params[p].id, {gradients[p].data(), gradients[p].size()});
    wait(hook.finish_step());
  }
  void descend(float rate) {
    for (std::size_t p = 0; p < weights.size(); ++p) {
      for (std::size_t i = 0; i < weights[p].size(); ++i) weights[p][i] -= rate * gradients[p][i];
    }
  }
  /// Root of the mean square over all weights; 0.6 / sqrt(ranks) at the start.
  [[nodiscard]] double distance() const {
    double sum = 0;
    std::size_t count = 0;
    for (std::size_t p = 0; p < weights.size(); ++p) {
      for (std::size_t i = 0; i < weights[p].size(); ++i) {
        const double off = static_cast<double>(weights[p][i]) - static_cast<double>(optimum_[p][i]);
        sum += off * off;
      }
      count += weights[p].size();
    }
    return std::sqrt(sum / static_cast<double>(count));
  }
  [[nodiscard]] bool equal_on_all_ranks(const Communicator& comm) const {
    std::vector<Agreement> bits;
    for (const auto& each : weights) {
      bits.push_back({"weights", std::string(reinterpret_cast<const char*>(each.data()), each.size() * sizeof(float))});
    }
    const Outcome outcome = outcome_of([&] { comm.agree(bits, patience()); });
    EXPECT_THAT(outcome.code, ::testing::AnyOf(Errc::ok, Errc::rank_mismatch)) << outcome.message;
    return outcome.code == Errc::ok;
  }

  inline static const std::vector<std::vector<std::size_t>> kShapes{{192, 96}, {32}, {70, 50}};
  std::vector<ParamInfo> params;
  std::vector<std::vector<float>> weights;
  std::vector<std::vector<float>> gradients;

 private:
  /// In [-1, 1), independent for each seed (splitmix64).
  static std::vector<float> uniform(std::size_t count, std::uint64_t seed) {
    std::vector<float> values(count);
    std::uint64_t state = seed << 32;
    for (float& value : values) {
      std::uint64_t z = (state += 0x9e3779b97f4a7c15);
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
      z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
      value = static_cast<float>(z >> 40) * 0x1p-23F - 1;
    }
    return values;
  }

  int rank_;
  int size_;
  std::vector<std::vector<float>> targets_;
  std::vector<std::vector<float>> optimum_;
};

/// Down to 0 over `steps`.
inline float falling_rate(float highest, unsigned step, unsigned steps) {
  return highest * (1 - static_cast<float>(step) / static_cast<float>(steps));
}

}  // namespace gradwire::test
