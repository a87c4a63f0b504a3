#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "gradwire/types.hpp"

namespace gradwire {

/// Levels by code, as a frame carries them: the first 2^bits are in use. With L = 2^(bits-1) - 1, code L is 0, codes
/// above it ascend, those below mirror them, and code 2^bits - 1 is not used.
using Codebook = std::array<float, 16>;

struct LearnOptions {
  std::uint32_t bits;    ///< 2 to 4
  std::uint32_t bucket;  ///< elements normalised by their largest magnitude
  std::uint32_t sample;  ///< elements to learn from, in whole buckets
};

/// Lloyd-Max levels for what elements of x are of their buckets' largest magnitudes; 0 is a level, the outermost is
/// kLeastOutermost at least. Squared errors of elements count, not those of normalised ones. Buckets without a finite
/// scale, or flat, teach nothing; nothing at all gives equally spaced levels.
[[nodiscard]] Codebook learn_levels(ConstTensor x, const LearnOptions& options);

}  // namespace gradwire
