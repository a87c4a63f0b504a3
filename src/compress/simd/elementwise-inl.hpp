// Casts and the loops of vector_ops. Included once per instruction set.
#if defined(GRADWIRE_SIMD_ELEMENTWISE_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_ELEMENTWISE_INL_
#undef GRADWIRE_SIMD_ELEMENTWISE_INL_
#else
#define GRADWIRE_SIMD_ELEMENTWISE_INL_
#endif

#include <algorithm>

#include "compress/kernels.hpp"
#include "compress/simd/element-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

/// Calls visit(DTypeTag<dtype>).
template <DType dtype>
struct DTypeTag {
  static constexpr DType value = dtype;
};
template <class Visit>
HWY_INLINE auto visit_dtype(DType dtype, Visit visit) {
  switch (dtype) {
    case DType::f16: return visit(DTypeTag<DType::f16>());
    case DType::bf16: return visit(DTypeTag<DType::bf16>());
    default: return visit(DTypeTag<DType::f32>());
  }
}

inline constexpr std::size_t kCastAheadElems = 4096 / sizeof(float);

/// Largest magnitude of n (whole vectors) elements, saturated and written as `To`.
template <DType From, DType To, bool kResidual>
VU cast_encode_vectors(const typename Element<From>::Raw* x, typename Element<To>::Raw* out, float* residual,
                       std::size_t n) {
  const VF limit = hn::Set(DF(), Element<To>::kMax);
  VU most = hn::Zero(DU());
  for (std::size_t i = 0; i < n; i += hn::Lanes(DF())) {
    // Three streams are more than the hardware's prefetchers serve well when two of them are written.
    if constexpr (kResidual) __builtin_prefetch(residual + std::min(i + kCastAheadElems, n), 0, 2);
    const auto raw_in = hn::LoadU(typename Element<From>::Tag(), x + i);
    const VF v = Element<From>::widen(raw_in);
    most = hn::Max(most, magnitude_bits(v));
    if constexpr (From == To) {
      hn::StoreU(raw_in, typename Element<To>::Tag(), out + i);
      if constexpr (kResidual) hn::StoreU(hn::Sub(v, v), DF(), residual + i);
    } else {
      const auto raw_out = Element<To>::narrow(hn::Max(hn::Min(v, limit), hn::Neg(limit)));
      hn::StoreU(raw_out, typename Element<To>::Tag(), out + i);
      if constexpr (kResidual) hn::StoreU(hn::Sub(v, Element<To>::widen(raw_out)), DF(), residual + i);
    }
  }
  return most;
}

template <DType From, DType To, bool kResidual>
bool cast_encode_as(const kernels::CastEncode& job) {
  const auto* x = static_cast<const typename Element<From>::Raw*>(job.x.data);
  auto* out = reinterpret_cast<typename Element<To>::Raw*>(job.payload);
  const std::size_t whole = job.x.count / kRow * kRow;
  const std::size_t rest = job.x.count - whole;
  VU most = cast_encode_vectors<From, To, kResidual>(x, out, job.residual, whole);
  if (rest != 0) {
    const PaddedRow<typename Element<From>::Raw> tail(x + whole, rest);
    PaddedRow<typename Element<To>::Raw> tail_out;
    PaddedRow<float> tail_residual;
    most = hn::Max(most, cast_encode_vectors<From, To, kResidual>(tail.data, tail_out.data, tail_residual.data, kRow));
    tail_out.copy_to(out + whole, rest);
    if constexpr (kResidual) tail_residual.copy_to(job.residual + whole, rest);
  }
  return is_finite(most);
}

inline bool cast_encode(const kernels::CastEncode& job) {
  return visit_dtype(job.x.dtype, [&](auto from) HWY_ATTR {
    return visit_dtype(job.to, [&](auto to) HWY_ATTR {
      return job.residual == nullptr ? cast_encode_as<decltype(from)::value, decltype(to)::value, false>(job)
                                     : cast_encode_as<decltype(from)::value, decltype(to)::value, true>(job);
    });
  });
}

template <DType From, DType To, Write write>
void cast_decode_vectors(const typename Element<From>::Raw* from, typename Element<To>::Raw* y, std::size_t n) {
  for (std::size_t i = 0; i < n; i += hn::Lanes(DF())) {
    VF v = load<From>(from + i);
    if constexpr (write == Write::add) v = hn::Add(load<To>(y + i), v);
    store<To>(v, y + i);
  }
}

template <DType From, DType To, Write write>
void cast_decode_as(const kernels::CastDecode& job) {
  const auto* from = reinterpret_cast<const typename Element<From>::Raw*>(job.payload);
  auto* y = static_cast<typename Element<To>::Raw*>(job.y.data);
  if constexpr (From == To && write == Write::assign) {
    if (job.y.count != 0) std::memcpy(y, from, job.y.bytes());
  } else {
    const std::size_t whole = job.y.count / kRow * kRow;
    const std::size_t rest = job.y.count - whole;
    cast_decode_vectors<From, To, write>(from, y, whole);
    if (rest == 0) return;
    const PaddedRow<typename Element<From>::Raw> tail_from(from + whole, rest);
    PaddedRow<typename Element<To>::Raw> tail_y(y + whole, rest);
    cast_decode_vectors<From, To, write>(tail_from.data, tail_y.data, kRow);
    tail_y.copy_to(y + whole, rest);
  }
}

inline void cast_decode(const kernels::CastDecode& job) {
  visit_dtype(job.from, [&](auto from) HWY_ATTR {
    visit_dtype(job.y.dtype, [&](auto to) HWY_ATTR {
      if (job.write == Write::add) return cast_decode_as<decltype(from)::value, decltype(to)::value, Write::add>(job);
      return cast_decode_as<decltype(from)::value, decltype(to)::value, Write::assign>(job);
    });
  });
}

template <DType From>
void scale_add_vectors(const typename Element<From>::Raw* x, const ops::ScaleAdd& job, const float* addend, float* out,
                       std::size_t n) {
  const VF scale = hn::Set(DF(), job.scale);
  for (std::size_t i = 0; i < n; i += hn::Lanes(DF())) {
    VF v = hn::Mul(load<From>(x + i), scale);
    if (addend != nullptr) v = hn::Add(v, hn::LoadU(DF(), addend + i));
    hn::StoreU(v, DF(), out + i);
  }
}

inline void scale_add(const ops::ScaleAdd& job) {
  visit_dtype(job.x.dtype, [&](auto from) HWY_ATTR {
    constexpr DType kFrom = decltype(from)::value;
    const auto* x = static_cast<const typename Element<kFrom>::Raw*>(job.x.data);
    const std::size_t whole = job.x.count / kRow * kRow;
    const std::size_t rest = job.x.count - whole;
    scale_add_vectors<kFrom>(x, job, job.addend, job.out, whole);
    if (rest == 0) return;
    const PaddedRow<typename Element<kFrom>::Raw> tail(x + whole, rest);
    PaddedRow<float> tail_addend;
    if (job.addend != nullptr) tail_addend = PaddedRow<float>(job.addend + whole, rest);
    PaddedRow<float> tail_out;
    scale_add_vectors<kFrom>(tail.data, job, job.addend == nullptr ? nullptr : tail_addend.data, tail_out.data, kRow);
    tail_out.copy_to(job.out + whole, rest);
  });
}

inline bool all_finite(ConstTensor x) {
  return visit_dtype(x.dtype, [&](auto dtype) HWY_ATTR {
    constexpr DType kDType = decltype(dtype)::value;
    using Raw = typename Element<kDType>::Raw;
    const auto* data = static_cast<const Raw*>(x.data);
    const std::size_t whole = x.count / kRow * kRow;
    VU most = hn::Zero(DU());
    for (std::size_t i = 0; i < whole; i += hn::Lanes(DF()))
      most = hn::Max(most, magnitude_bits(load<kDType>(data + i)));
    if (whole != x.count) {
      const PaddedRow<Raw> tail(data + whole, x.count - whole);
      for (std::size_t i = 0; i < kRow; i += hn::Lanes(DF()))
        most = hn::Max(most, magnitude_bits(load<kDType>(tail.data + i)));
    }
    return is_finite(most);
  });
}

#if HWY_HAVE_FLOAT64
/// Adds the squares of columns [column, column + Lanes) of `rows` rows to the partial sums.
HWY_INLINE void add_squares(const float* x, std::size_t rows, double* sums) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<float, decltype(d)> df;
  for (std::size_t column = 0; column < kRow; column += hn::Lanes(d)) {
    auto sum = hn::LoadU(d, sums + column);
    for (std::size_t row = 0; row < rows; ++row) {
      const auto v = hn::PromoteTo(d, hn::LoadU(df, x + kRow * row + column));
      sum = hn::Add(sum, hn::Mul(v, v));
    }
    hn::StoreU(sum, d, sums + column);
  }
}
#else
HWY_INLINE void add_squares(const float* x, std::size_t rows, double* sums) {
  for (std::size_t i = 0; i < kRow * rows; ++i) sums[i % kRow] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
}
#endif

/// Of 16 partial sums.
inline double add_pairwise(double* sums) {
  for (std::size_t half = kRow / 2; half != 0; half /= 2)
    for (std::size_t j = 0; j < half; ++j) sums[j] += sums[j + half];
  return sums[0];
}

inline double sum_squares(const float* x, std::size_t n) {
  constexpr std::size_t kBlockRows = 64;  // stays in the first-level cache while its columns are visited in turn
  double sums[kRow] = {};
  std::size_t row = 0;
  for (; row + kBlockRows <= n / kRow; row += kBlockRows) add_squares(x + kRow * row, kBlockRows, sums);
  add_squares(x + kRow * row, n / kRow - row, sums);
  const std::size_t whole = n / kRow * kRow;
  if (whole != n) add_squares(PaddedRow<float>(x + whole, n - whole).data, 1, sums);
  return add_pairwise(sums);
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
