#pragma once
#include "ranks/adam_suite.hpp"

#include "gradwire/optimizer.hpp"

namespace gradwire::test {

inline ZeroOneAdamOptions small_options() {
  ZeroOneAdamOptions options;
  options.beta2 = 0.95F;
  options.freeze = 40;
  options.variance_updates = 4;
  options.local_doubling = 16;
  options.most_local_steps = 8;
  options.bucket_bytes = 50'000;
  options.timeout = std::chrono::seconds(50);
  return options;
}

inline ZeroOneStep step(ZeroOneAdam& adam, NoisyModel& model, unsigned number, float rate) {
  model.compute_gradients(number);
  return adam.step(model.tensors(model.weights), model.tensors(model.gradients), rate);
}

/// Steps from 1 on: variance updates at 1, 2, 3, 4 (interval 1), 6, 8, 10, 12 (2), 16, 20, 24, 28 (4), 32, 40 (8);
/// then exchanges in every step up to 56, every second up to 72, every fourth up to 88, every eighth from there.
inline ZeroOneStep::Kind expected_kind(unsigned s) {
  for (const unsigned learns : {1u, 2u, 3u, 4u, 6u, 8u, 10u, 12u, 16u, 20u, 24u, 28u, 32u, 40u}) {
    if (s == learns) return ZeroOneStep::Kind::variance;
  }
  if (s <= 40) return ZeroOneStep::Kind::gradient;
  const unsigned interval = s <= 56 ? 1 : s <= 72 ? 2 : s <= 88 ? 4 : 8;
  return s % interval == 0 ? ZeroOneStep::Kind::synchronise : ZeroOneStep::Kind::local;
}

}  // namespace gradwire::test
