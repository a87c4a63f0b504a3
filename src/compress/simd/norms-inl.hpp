// Scales of buckets. Included once per instruction set.
#if defined(GRADWIRE_SIMD_NORMS_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_NORMS_INL_
#undef GRADWIRE_SIMD_NORMS_INL_
#else
#define GRADWIRE_SIMD_NORMS_INL_
#endif

#include <algorithm>

#include "compress/quantize_params.hpp"
#include "compress/simd/element-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

HWY_INLINE VU max_magnitude(VU most, const float* row) {
  for (std::size_t j = 0; j < kRow; j += hn::Lanes(DF()))
    most = hn::Max(most, magnitude_bits(hn::LoadU(DF(), row + j)));
  return most;
}

/// max |x|; Inf or NaN when one is among x.
inline float linf_norm(const float* x, std::size_t n) {
  VU a = hn::Zero(DU());
  VU b = hn::Zero(DU());
  std::size_t i = 0;
  for (; i + 2 * kRow <= n; i += 2 * kRow) {
    a = max_magnitude(a, x + i);
    b = max_magnitude(b, x + i + kRow);
  }
  if (i + kRow <= n) a = max_magnitude(a, x + i);
  if (n % kRow != 0) b = max_magnitude(b, PaddedRow<float>(x + n / kRow * kRow, n % kRow).data);
  return hn::GetLane(hn::BitCast(DF(), hn::MaxOfLanes(DU(), hn::Max(a, b))));
}

enum class Sum { magnitudes, squares };

/// Adds `rows` rows to 16 partial sums, row after row.
template <Sum what>
HWY_INLINE void add_rows(const float* x, std::size_t rows, float* sums) {
  for (std::size_t j = 0; j < kRow; j += hn::Lanes(DF())) {
    VF sum = hn::Load(DF(), sums + j);
    for (std::size_t row = 0; row < rows; ++row) {
      const VF v = hn::LoadU(DF(), x + kRow * row + j);
      sum = hn::Add(sum, what == Sum::squares ? hn::Mul(v, v) : hn::Abs(v));
    }
    hn::Store(sum, DF(), sums + j);
  }
}

template <Sum what>
HWY_INLINE PaddedRow<float> partial_sums(const float* x, std::size_t n) {
  PaddedRow<float> sums;
  add_rows<what>(x, n / kRow, sums.data);
  if (n % kRow != 0) add_rows<what>(PaddedRow<float>(x + n / kRow * kRow, n % kRow).data, 1, sums.data);
  return sums;
}

inline float l2_norm(const float* x, std::size_t n) {
  return norm_from_partial_sums(partial_sums<Sum::squares>(x, n).data);
}

inline float mean_magnitude(const float* x, std::size_t n) {
  return mean_from_partial_sums(partial_sums<Sum::magnitudes>(x, n).data, n);
}

struct Extent {
  float min;
  float range;  ///< max - min; infinite when an element is not finite
};

inline Extent extent_of(const float* x, std::size_t n) {
  VF min = hn::Set(DF(), 0x1.fffffep127f);
  VF max = hn::Set(DF(), -0x1.fffffep127f);
  VU most = hn::Zero(DU());  // NaN would get lost in min and max
  const auto visit = [&](const float* row) HWY_ATTR {
    for (std::size_t j = 0; j < kRow; j += hn::Lanes(DF())) {
      const VF v = hn::LoadU(DF(), row + j);
      min = hn::Min(min, v);
      max = hn::Max(max, v);
      most = hn::Max(most, magnitude_bits(v));
    }
  };
  for (std::size_t i = 0; i + kRow <= n; i += kRow) visit(x + i);
  if (n % kRow != 0) {
    PaddedRow<float> tail(x + n / kRow * kRow, n % kRow);
    std::fill(tail.data + n % kRow, tail.data + kRow, tail.data[0]);
    visit(tail.data);
  }
  const float least = hn::GetLane(hn::MinOfLanes(DF(), min));
  if (!is_finite(most)) return {least, HUGE_VALF};
  return {least, hn::GetLane(hn::MaxOfLanes(DF(), max)) - least};
}

inline float norm_of(const QuantizeParams& params, const float* x, std::size_t n) {
  switch (params.norm) {
    case Norm::l2: return l2_norm(x, n);
    case Norm::mean: return mean_magnitude(x, n);
    case Norm::clipped: return clipped_norm(params.clip, linf_norm(x, n), l2_norm(x, n), n);
    default: return linf_norm(x, n);
  }
}

HWY_INLINE bool find_scale(const QuantizeParams& params, const float* x, std::size_t n, BucketScale& scale) {
  if (params.norm == Norm::minmax) {
    const Extent extent = extent_of(x, n);
    return scale_from_norm(params, extent.range, extent.min, scale);
  }
  return scale_from_norm(params, norm_of(params, x, n), 0, scale);
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
