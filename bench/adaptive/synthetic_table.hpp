#pragma once
#include <cstdint>

#include "models.hpp"

#include "gradwire/plan.hpp"

namespace gradwire::adaptive {

/// A table of the model's matrices (what has more than one dimension; the rest travels dense) with gradients that
/// are drawn, not trained:
///
/// - norms are log-normal, with a second one for the window before;
/// - singular values fall as a power of their number that each layer draws from 0.3..1.2: errors of ranks are exact;
/// - elements are Student's t with 2.5 to 8 degrees of freedom: bits and densities are encoded on a sample of up to
///   16384 of them, and what that loses of its norm is taken for the layer; bytes of sparse frames are scaled up;
/// - times: backward's work is elements times positions. A candidate takes 20 us, its codec's time and the wire's at
///   `gbit` Gbit/s between 8 ranks: frames go 1.75 times over it, sparse ones half as far again (`sparse_scatter`).
///
/// The same for the same seed. Reference: q4.
[[nodiscard]] Table synthetic_table(const Model& model, std::uint64_t seed, double gbit);

}  // namespace gradwire::adaptive
