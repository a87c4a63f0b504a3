#pragma once
#include <cstddef>
#include <cstdint>

#include "compress/random.hpp"

#include "gradwire/types.hpp"

/// \file The inner loops of `rotate`, a family of kernels (compress/isa.hpp). docs/wire-format.md section 1.9 has the
/// arithmetic and its order.
namespace gradwire::kernels {

/// The random signs D: bit e mod 32 of hash number word + e / 32 makes element e negative.
struct SignKey {
  RandomStream::Keys keys{};
  std::uint32_t word = 0;

  /// Of the elements from `elements` on, a multiple of 32.
  [[nodiscard]] constexpr SignKey from(std::size_t elements) const noexcept {
    return {keys, word + static_cast<std::uint32_t>(elements / 32)};
  }
};

/// Elements of a transform: a power of two.
inline constexpr std::size_t kMinRotation = 32;
inline constexpr std::size_t kMaxRotation = 8192;
/// Magnitudes up to this can be summed in a transform, and their products scaled, without overflow.
inline constexpr float kMaxRotated = 0x1p112f;

/// y = H D x / sqrt(size), where x is followed by zeros up to `size`. y may be x.
struct RotateForward {
  ConstTensor x;
  std::size_t size;
  SignKey signs;
  float* y;
  std::size_t ahead;  ///< elements of f32 memory behind x that may be asked for in advance
};

/// v = D H (v factor), in place; negated when asked for.
struct RotateInverse {
  float* v;
  std::size_t size;
  SignKey signs;
  float factor;
  bool negate;
  const float* target;  ///< where v goes next, so that it can be asked for in advance; or null
};

/// Scalar products as 16 interleaved partial sums in double, added pairwise as norms are.
struct Products {
  double yy;
  double yq;
  double qq;
};

}  // namespace gradwire::kernels

namespace gradwire {

struct RotateKernels {
  /// False when an element is not finite or above kMaxRotated; y is unspecified then.
  bool (*forward)(const kernels::RotateForward&);
  void (*inverse)(const kernels::RotateInverse&);
  kernels::Products (*products)(const float* y, const float* q, std::size_t size);
  /// out = min(max(v, -limit), limit).
  void (*clamp)(const float* v, std::size_t size, float limit, float* out);
};

/// 1 / sqrt(size) in f32.
[[nodiscard]] float rotation_factor(std::size_t size) noexcept;

}  // namespace gradwire
