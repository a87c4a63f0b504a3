#pragma once
#include <cmath>
#include <cstddef>
#include <limits>

#include "base/host_device.hpp"
#include "compress/factor_kernels.hpp"
#include "compress/random.hpp"

/// \file The steps of an orthonormalisation that hosts and devices share: Householder's QR in f64, and Q from its
/// reflectors by their compact form, Q = I - V T V^T (Schreiber and Van Loan 1989; LAPACK's larft). Sums over the
/// length of a column are kSumLanes interleaved ones (element i in number i mod kSumLanes), added pairwise.
namespace gradwire::qr {

inline constexpr std::size_t kSumLanes = 256;

/// A column of which less than this remains outside the span of those before it is rounding.
inline constexpr double kDependent = 0x1p-20;

/// What one orthonormalisation works on: f64, of the memory that its caller has.
struct Scratch {
  double* v = nullptr;             ///< length x rank: what is left of the columns, then reflectors
  double* tau = nullptr;           ///< their scales
  double* independence = nullptr;  ///< what remained of a column outside of the span of those before it, relative
  double* dots = nullptr;          ///< by column
  double* gram = nullptr;          ///< rank x rank, columns contiguous: dots of reflectors, then T V_top^T
  double* t = nullptr;             ///< rank x rank: T
  std::size_t length = 0;
  std::size_t rank = 0;

  [[nodiscard]] static constexpr std::size_t doubles(std::size_t length, std::size_t rank) noexcept {
    return length * rank + 3 * rank + 2 * rank * rank;
  }
  [[nodiscard]] static constexpr Scratch at(double* memory, std::size_t length, std::size_t rank) noexcept {
    double* const tau = memory + length * rank;
    double* const gram = tau + 3 * rank;
    return {memory, tau, tau + rank, tau + 2 * rank, gram, gram + rank * rank, length, rank};
  }
  [[nodiscard]] constexpr double* column(std::size_t j) const noexcept { return v + j * length; }
};

/// Not where there is NaN, which must not be lost.
[[nodiscard]] GRADWIRE_HD inline bool is_dependent(const Scratch& s, std::size_t j) {
  return s.independence[j] <= kDependent;
}

struct Reflection {
  double tau;
  double inverse;  ///< of what the column below its head is divided by
  double independence;
};

/// The reflection that makes column j zero below its head, given the sum of squares there.
[[nodiscard]] GRADWIRE_HD inline Reflection reflect(const Scratch& s, std::size_t j, double tail) {
  const double* const column = s.column(j);
  const double head = column[j];
  double above = 0;  // what earlier reflections have left there
  for (std::size_t i = 0; i < j; ++i) above += column[i] * column[i];
  const double length = std::sqrt(above + head * head + tail);
  double beta = head;
  Reflection reflection{0, 0, 0};
  if (!(tail <= std::numeric_limits<double>::min())) {
    beta = std::sqrt(head * head + tail);
    if (head >= 0) beta = -beta;
    reflection.tau = (beta - head) / beta;
    reflection.inverse = 1 / (head - beta);
  }
  if (!(length <= 0)) reflection.independence = std::fabs(beta) / length;
  return reflection;
}

/// What a reflection takes from element j of a later column k, given its product with the column below. Below, it
/// takes that times the reflector's element.
[[nodiscard]] GRADWIRE_HD inline double taken(const Scratch& s, const Reflection& r, std::size_t j, std::size_t k,
                                              double dot) {
  return r.tau * (s.column(k)[j] + dot * r.inverse);
}

/// T's entry above its diagonal, given its columns before j.
[[nodiscard]] GRADWIRE_HD inline double t_entry(const Scratch& s, std::size_t i, std::size_t j) {
  double sum = 0;
  for (std::size_t m = i; m < j; ++m) sum += s.t[m * s.rank + i] * s.gram[j * s.rank + m];
  return -s.tau[j] * sum;
}

/// An entry of T V_top^T.
[[nodiscard]] GRADWIRE_HD inline double top_entry(const Scratch& s, std::size_t m, std::size_t k) {
  double sum = 0;
  for (std::size_t p = m; p <= k; ++p) sum += s.t[p * s.rank + m] * s.column(p)[k];
  return sum;
}

/// Entry (i, k) of Q.
[[nodiscard]] GRADWIRE_HD inline double basis_entry(const Scratch& s, std::size_t i, std::size_t k) {
  double entry = i == k ? 1 : 0;
  for (std::size_t m = 0; m < s.rank; ++m) entry -= s.column(m)[i] * s.gram[k * s.rank + m];
  return entry;
}

/// A reflector's element at or above its head, which V has and the columns do not.
[[nodiscard]] constexpr double head_entry(std::size_t i, std::size_t j) noexcept { return i == j ? 1 : 0; }

[[nodiscard]] constexpr float random_entry(const RandomStream& random, std::size_t place) noexcept {
  return 2 * RandomStream::unit_interval(random.at(place)) - 1;
}

}  // namespace gradwire::qr
