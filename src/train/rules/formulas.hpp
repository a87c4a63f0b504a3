#pragma once
#include <cmath>
#include <cstdint>

#include "base/host_device.hpp"

/// \file What rules do with elements, on hosts and on devices. Each operation is rounded on its own, so that all ranks
/// find the same bits, wherever they keep them.
namespace gradwire::rules {

struct Sum {
  GRADWIRE_HD float operator()(float a, float b) const { return a + b; }
};
struct Difference {
  GRADWIRE_HD float operator()(float a, float b) const { return a - b; }
};
struct ScaledSum {
  float factor;  ///< of the first
  GRADWIRE_HD float operator()(float a, float b) const { return factor * a + b; }
};
struct SumScaled {
  float factor;  ///< of both
  GRADWIRE_HD float operator()(float a, float b) const { return factor * (a + b); }
};
struct Blend {
  float keep;
  float take;
  GRADWIRE_HD float operator()(float old, float now) const { return keep * old + take * now; }
};

/// DGC's masking: momentum of what stays behind, of x sent and residual r. Where nothing of the tensor stays behind,
/// all of it.
struct Undelivered {
  const std::uint32_t* any_left;
  GRADWIRE_HD float operator()(float u, float x, float r) const { return *any_left == 0 || r == x ? u : 0.0F; }
};

/// Adam's second moment.
struct SecondMoment {
  float beta;
  GRADWIRE_HD float operator()(float old, float g) const { return beta * old + (1 - beta) * (g * g); }
};
struct AdamDirection {
  float epsilon;
  GRADWIRE_HD float operator()(float m, float v) const { return m / (std::sqrt(v) + epsilon); }
};
/// Nothing where v is 0: a code of one bit cannot say 0.
struct WhereUsed {
  GRADWIRE_HD float operator()(float x, float v) const { return v == 0 ? 0.0F : x; }
};
/// What 1-bit Adam sends: its share of the momentum, the gradient, and what is owed.
struct MomentumShare {
  float share;
  float rate;
  GRADWIRE_HD float operator()(float g, float m, float e) const { return share * m + rate * g + e; }
};

}  // namespace gradwire::rules

/// All of them, with the number of their arguments: what has kernels.
#define GRADWIRE_RULE_FORMULAS(each)                                                                         \
  each(Sum, 2) each(Difference, 2) each(ScaledSum, 2) each(SumScaled, 2) each(Blend, 2) each(Undelivered, 3) \
      each(SecondMoment, 2) each(AdamDirection, 2) each(WhereUsed, 2) each(MomentumShare, 3)
