#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "problem.hpp"

namespace gradwire::convergence {

/// delta of E||x - C(x)||^2 <= (1 - delta) ||x||^2 that the library proves for tensors of `count` elements; 0 for a
/// compressor that is not contractive.
[[nodiscard]] double contraction(const std::string& compressor, std::size_t count);

/// Least-squares slope of ln y over ln x; NaN with fewer than two points or a value that is not positive and finite.
[[nodiscard]] double log_slope(std::span<const double> x, std::span<const double> y);

/// EF21 (Richtarik et al. 2021, theorem 2, Polyak-Lojasiewicz functions): at any rate up to rate(),
///
///     f(x_t) - f* <= (1 - rate mu)^t (f(x_0) - f* + rate / theta  1/n sum ||h_i - grad f_i(x_0)||^2)
///
/// with theta = 1 - sqrt(1 - delta), beta = (1 - delta) / theta, for exact sums, and the h_i starting from 0 here.
struct Ef21Theory {
  Ef21Theory(const Problem& problem, double delta);
  [[nodiscard]] double rate() const noexcept { return rate_; }
  /// What the theorem allows of ||x_t - x*||^2, by f(x) - f* >= mu/2 ||x - x*||^2.
  [[nodiscard]] double distance_squared(std::uint64_t step) const;

 private:
  double mu_;
  double rate_;
  double start_;
};

}  // namespace gradwire::convergence
