#include "compress/quantize_bound.hpp"

#include <algorithm>
#include <cmath>

namespace gradwire {
namespace {

// Proofs are for one bucket of b elements. v is an element's magnitude in units of the norm s, e the expectation of its
// squared error in units of s^2, and N = ||x||^2 / s^2: N >= 1 for linf, N = 1 for l2. A bound R for linf holds when
// sum of (e - R v^2) <= R over the b - 1 elements besides the largest, which lies on a level.

/// |x| <= s. Nearest: sum of (s - |x|)^2, which is (b - 1) ||x||^2 at most; stochastic: sum of s^2 - x^2.
double sign_bound(double b) { return b - 1; }

/// s = ||x||_1 / b: the error is ||x||^2 - ||x||_1^2 / b, and ||x||_1 >= ||x||, with equality for a single element
/// beside zeros, where the rounding of x - s to f32 shows.
double mean_sign_bound(double b) { return b == 1 ? 0 : 1 - 1 / b + 0x1p-22; }

/// range^2 <= 2 ||x||^2; (unit / 2)^2 an element.
double steps_bound(double b, double steps) { return b / (2 * steps * steps); }

/// The element that lies on a level is decoded as that many units, rounded twice to f32: within 2^-23 of itself.
constexpr double kRoundings = 0x1p-46;

double levels_bound(const QuantizeParams& params, double b) {
  const auto levels = static_cast<double>(levels_of(params));
  // With linf one element lies on a level. An error is at most half a unit, and never more than the element itself.
  const double others = params.norm == Norm::linf ? b - 1 : b;
  const double halves = others / (4 * levels * levels);
  if (params.round == Rounding::nearest)
    return params.norm == Norm::linf ? halves / (1 + halves) + kRoundings : std::min(halves, 1.0);
  return std::min(halves, std::sqrt(others) / levels) + kRoundings;  // QSGD, lemma 3.1
}

/// m is the least level beside 0. From m on, nearest errs by v / 3 at most (half-way between powers), stochastic has
/// e = (v - p)(2p - v) <= v^2 / 8 between p and 2p.
///
/// Below m, nearest, e <= min(v^2, m^2/4, (m - v)^2), so e - R v^2 <= (1 - R) m^2/4. With a = (b-1) m^2/4 and
/// R >= 1/9 the sum is at most (1 - R) a, so R = max(1/9, a/(1+a)) holds for linf. For l2, R = 1/9 + 8/9 b m^2/4.
///
/// Below m, stochastic, e = v (m - v), so e - R v^2 <= m^2 / (4 (1 + R)), and R (1 + R) = a gives linf's. For l2 let
/// elements below m have squares t^2 in all: their e sums to at most m sqrt(b) t - t^2, the others' to (1 - t^2)/8.
double exponential_bound(const QuantizeParams& params, double b) {
  const double least = std::exp2(1 - levels_of(params));
  const bool nearest = params.round == Rounding::nearest;
  if (params.norm == Norm::linf) {
    const double a = (b - 1) * least * least / 4;
    return nearest ? std::max(1.0 / 9, a / (1 + a)) : std::max(1.0 / 8, (std::sqrt(1 + 4 * a) - 1) / 2);
  }
  const double a = b * least * least;
  if (nearest) return std::min(1.0, 1.0 / 9 + a * 2 / 9);
  const double t = std::sqrt(a) * 4 / 9;
  return t <= 1 ? 1.0 / 8 + a * 2 / 9 : std::sqrt(a) - 1;
}

/// Not clipped: one exponential level, m = 1. Clipped at s = c ||x|| / sqrt(b): with a share t^2 of ||x||^2 not above
/// s, e there sums to s sqrt(b) t ||x|| - t^2 ||x||^2, and above it (|x| - s)^2 <= x^2, in all (1 + c t - 2 t^2)
/// ||x||^2. The largest of that for t <= 1 also covers s = max |x|, where t = 1 and the sum (c - 1) ||x||^2.
double ternary_bound(const QuantizeParams& params, double b) {
  const auto c = static_cast<double>(params.clip);
  if (c == 0) return (std::sqrt(b) - 1) / 2;
  return c <= 4 ? 1 + c * c / 8 : c - 1;
}

/// 0 is a level, so e <= v^2, and the outermost is at least c = kLeastOutermost: the largest element, v = 1, errs by
/// 1 - c at most.
double learned_bound(double b) {
  const auto c = static_cast<double>(kLeastOutermost);
  return 1 - (1 - (1 - c) * (1 - c)) / b;
}

}  // namespace

double quantize_error_bound(const QuantizeParams& params, std::size_t elems) noexcept {
  const auto b = static_cast<double>(std::max<std::size_t>(elems, 1));
  switch (shape_of(params)) {
    case CodeShape::sign: return params.norm == Norm::mean ? mean_sign_bound(b) : sign_bound(b);
    case CodeShape::steps: return steps_bound(b, static_cast<double>(top_code(params)));
    case CodeShape::levels: return levels_bound(params, b);
    case CodeShape::exponential: return exponential_bound(params, b);
    case CodeShape::ternary: return ternary_bound(params, b);
    case CodeShape::learned: return learned_bound(b);
  }
  return 0;
}

}  // namespace gradwire
