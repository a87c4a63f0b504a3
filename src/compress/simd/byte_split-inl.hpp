// Bytes of words gathered by their place, and back. Included once per instruction set.
#if defined(GRADWIRE_SIMD_BYTE_SPLIT_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_BYTE_SPLIT_INL_
#undef GRADWIRE_SIMD_BYTE_SPLIT_INL_
#else
#define GRADWIRE_SIMD_BYTE_SPLIT_INL_
#endif

#include <hwy/highway.h>

#include "compress/byte_split.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DBytes = hn::CappedTag<std::uint8_t, 64>;

/// Words [0, return value) as whole vectors.
inline std::size_t split_vectors(const kernels::ByteSplit& job) {
  const DBytes d;
  const auto* const from = reinterpret_cast<const std::uint8_t*>(job.from);
  auto* const to = reinterpret_cast<std::uint8_t*>(job.to);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= job.words; i += hn::Lanes(d)) {
    hn::Vec<DBytes> b0, b1, b2, b3;
    if (job.width == 4) {
      hn::LoadInterleaved4(d, from + 4 * i, b0, b1, b2, b3);
      hn::StoreU(b2, d, to + 2 * job.words + i);
      hn::StoreU(b3, d, to + 3 * job.words + i);
    } else {
      hn::LoadInterleaved2(d, from + 2 * i, b0, b1);
    }
    hn::StoreU(b0, d, to + i);
    hn::StoreU(b1, d, to + job.words + i);
  }
  return i;
}

inline std::size_t merge_vectors(const kernels::ByteSplit& job) {
  const DBytes d;
  const auto* const from = reinterpret_cast<const std::uint8_t*>(job.from);
  auto* const to = reinterpret_cast<std::uint8_t*>(job.to);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= job.words; i += hn::Lanes(d)) {
    const auto b0 = hn::LoadU(d, from + i);
    const auto b1 = hn::LoadU(d, from + job.words + i);
    if (job.width == 4) {
      hn::StoreInterleaved4(b0, b1, hn::LoadU(d, from + 2 * job.words + i), hn::LoadU(d, from + 3 * job.words + i), d,
                            to + 4 * i);
    } else {
      hn::StoreInterleaved2(b0, b1, d, to + 2 * i);
    }
  }
  return i;
}

inline void byte_split(const kernels::ByteSplit& job) {
  for (std::size_t i = split_vectors(job); i < job.words; ++i)
    for (std::size_t b = 0; b < job.width; ++b) job.to[b * job.words + i] = job.from[i * job.width + b];
}

inline void byte_merge(const kernels::ByteSplit& job) {
  for (std::size_t i = merge_vectors(job); i < job.words; ++i)
    for (std::size_t b = 0; b < job.width; ++b) job.to[i * job.width + b] = job.from[b * job.words + i];
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
