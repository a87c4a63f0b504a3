#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "problem.hpp"

namespace gradwire::convergence {

/// Distributed gradient descent from x = 0 with a constant rate, its gradients summed by a compressed all-reduce.
struct DescentOptions {
  std::string rule = "ef";
  std::string compressor = "topk(0.05)";
  std::string algorithm = "gather_sum";
  double rate = 0.1;
  std::uint64_t steps = 1000;
  double sigma = 0;  ///< of each worker's gradient noise: E||noise||^2 = sigma^2
  std::uint64_t seed = 1;
  int parts = 1;  ///< x travels as so many parameters of equal size, each compressed by itself
  std::uint64_t record_every = 10;
};

struct Point {
  std::uint64_t step = 0;  ///< updates made before it
  double distance_squared = 0;
  double gradient_norm = 0;  ///< of f, without noise
};

struct Descent {
  std::vector<Point> history;  ///< the start, then every record_every steps
  bool diverged = false;       ///< the distance grew a thousandfold; the history ends there
  /// What the conservation law says is zero, at the end: ||H - sum of h_i|| where a rule keeps estimates, otherwise
  /// ||sum of all gradients - sum of all updates - sum of residuals||. NaN for rules with momentum of their own.
  double drift = 0;
  double owed = 0;                 ///< at the end: square root of the sum over workers of ||residual||^2
  double wire_bytes_per_step = 0;  ///< sent by rank 0; 0 where nothing was sent

  /// Infinity where it diverged.
  [[nodiscard]] double last_distance_squared() const;
  /// Mean over the last fifth of the history; infinity where it diverged.
  [[nodiscard]] double floor() const;
  /// -d ln(distance^2) / d step by least squares over the points whose distance^2 is in (lowest, highest).
  [[nodiscard]] double decay(double lowest, double highest) const;
};

/// One thread a worker over make_local(n); the library's own collective and rule.
[[nodiscard]] Descent descend(const Problem& problem, const DescentOptions& options);

/// What becomes of the error that a chunk's owner makes when it encodes the sum.
enum class OwnerError {
  credited,  ///< the owner owes it: what scatter_reduce does, and the same values bit for bit
  dropped,   ///< nobody does, as in a textbook rule over a reduce-scatter and an all-gather
};

/// `scatter_reduce` again, from the compressor alone and in one thread: part k is the chunk of worker k, so `parts`
/// must be the number of workers. Compressors that draw random numbers draw others than the library's collective.
[[nodiscard]] Descent descend_two_steps(const Problem& problem, const DescentOptions& options, OwnerError owner_error);

}  // namespace gradwire::convergence
