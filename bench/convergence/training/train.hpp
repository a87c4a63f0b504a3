#pragma once
#include "options.hpp"
#include "task.hpp"

namespace training {

struct Result {
  double score = 0;
  double loss = 0;                  ///< of the last tenth of the steps, in nats; mean over ranks
  double dense_bytes_per_step = 0;  ///< one rank's, mean over ranks and steps
  double wire_bytes_per_step = 0;
  double seconds = 0;  ///< of training, the score aside
  std::uint64_t skipped_steps = 0;
};

/// Trains `options.ranks` replicas as threads. Throws std::runtime_error when one fails, or when replicas differ in the
/// end: all ranks got the same updates, bit for bit, or the collective is wrong.
[[nodiscard]] Result train(const Task& task, const Options& options);

}  // namespace training
