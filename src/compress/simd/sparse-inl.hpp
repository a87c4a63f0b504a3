// The scans of sparsifiers. Included once per instruction set.
#if defined(GRADWIRE_SIMD_SPARSE_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_SPARSE_INL_
#undef GRADWIRE_SIMD_SPARSE_INL_
#else
#define GRADWIRE_SIMD_SPARSE_INL_
#endif

#include <algorithm>

#include "compress/simd/elementwise-inl.hpp"
#include "compress/sparse/kernels.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

/// One scan. Few elements pass: a row without any costs a comparison and a branch that is mostly right.
template <DType dtype, bool kCopy>
class SparseScanner {
 public:
  using Raw = typename Element<dtype>::Raw;

  explicit SparseScanner(const sparse::Scan& job)
      : job_(job), below_(hn::Set(DI(), static_cast<std::int32_t>(job.threshold) - 1)) {}

  sparse::Scanned run() {
    const auto* const x = static_cast<const Raw*>(job_.x.data);
    const std::size_t whole = job_.x.count / kRow * kRow;
    const std::size_t rest = job_.x.count - whole;
    VU most = hn::Zero(DU());
    for (std::size_t i = 0; i < whole; i += kRow) most = hn::Max(most, row(x + i, i, job_.residual + (kCopy ? i : 0)));
    if (rest != 0) {
      const PaddedRow<Raw> tail(x + whole, rest);
      PaddedRow<float> copy;
      most = hn::Max(most, row(tail.data, whole, copy.data));
      if constexpr (kCopy) copy.copy_to(job_.residual + whole, rest);
      // Padding passes where the threshold is zero: it lies at the end, behind all elements.
      while (found_ != 0 && job_.index[found_ - 1] >= job_.base + job_.x.count) --found_;
    }
    return {found_, hn::GetLane(hn::MaxOfLanes(DU(), most))};
  }

 private:
  HWY_INLINE VU row(const Raw* x, std::size_t i, float* copy) {
    VU most = hn::Zero(DU());
    for (std::size_t j = 0; j < kRow; j += hn::Lanes(DF())) {
      const VF v = load<dtype>(x + j);
      if constexpr (kCopy) hn::StoreU(v, DF(), copy + j);
      const VU magnitudes = magnitude_bits(v);
      most = hn::Max(most, magnitudes);
      const auto passes = hn::Gt(hn::BitCast(DI(), magnitudes), below_);
      if (HWY_LIKELY(hn::AllFalse(DI(), passes))) continue;
      const VU places = hn::Iota(DU(), job_.base + static_cast<std::uint32_t>(i + j));
      // A compressing store to memory takes a hundred cycles on some CPUs; there is room for whole vectors.
      hn::StoreU(hn::Compress(places, hn::RebindMask(DU(), passes)), DU(), job_.index + found_);
      hn::StoreU(hn::Compress(v, hn::RebindMask(DF(), passes)), DF(), job_.value + found_);
      found_ += hn::CountTrue(DI(), passes);
    }
    return most;
  }

  const sparse::Scan& job_;
  const VI below_;
  std::size_t found_ = 0;
};

inline sparse::Scanned sparse_scan(const sparse::Scan& job) {
  return visit_dtype(job.x.dtype, [&](auto tag) HWY_ATTR {
    constexpr DType kDType = decltype(tag)::value;
    return job.residual == nullptr ? SparseScanner<kDType, false>(job).run() : SparseScanner<kDType, true>(job).run();
  });
}

/// Neighbours have like exponents: four tables, so that a count does not wait for the one before it.
template <DType dtype>
class SparseCounter {
 public:
  using Raw = typename Element<dtype>::Raw;

  explicit SparseCounter(const sparse::Histogram& job) : job_(job) {}

  void run() {
    const auto* const x = static_cast<const Raw*>(job_.x.data);
    const std::size_t whole = job_.x.count / kRow * kRow;
    const std::size_t rest = job_.x.count - whole;
    if (job_.shift + job_.width == 31) {
      count_all(x, whole);
    } else {
      count_some(x, whole);
    }
    if (rest == 0) return;
    // What the row is padded with is counted and taken off again.
    const PaddedRow<Raw> tail(x + whole, rest);
    count_some(tail.data, kRow);
    if (job_.prefix == 0) job_.counts[0] -= static_cast<std::uint32_t>(kRow - rest);
  }

 private:
  HWY_INLINE VU digits(VU magnitudes) const {
    const auto shifted = hn::ShiftRightSame(magnitudes, static_cast<int>(job_.shift));
    return hn::And(shifted, hn::Set(DU(), (1u << job_.width) - 1));
  }

  void count_all(const Raw* x, std::size_t n) {
    std::uint32_t tables[4][1u << sparse::kHistogramBits] = {};
    HWY_ALIGN std::uint32_t bins[kRow];
    for (std::size_t i = 0; i < n; i += kRow) {
      for (std::size_t j = 0; j < kRow; j += hn::Lanes(DF()))
        hn::Store(digits(magnitude_bits(load<dtype>(x + i + j))), DU(), bins + j);
      for (std::size_t j = 0; j < kRow; j += 4) {
        ++tables[0][bins[j]];
        ++tables[1][bins[j + 1]];
        ++tables[2][bins[j + 2]];
        ++tables[3][bins[j + 3]];
      }
    }
    for (std::size_t bin = 0; bin < (std::size_t{1} << job_.width); ++bin)
      job_.counts[bin] += tables[0][bin] + tables[1][bin] + tables[2][bin] + tables[3][bin];
  }

  void count_some(const Raw* x, std::size_t n) {
    const VU prefix = hn::Set(DU(), job_.prefix);
    HWY_ALIGN std::uint32_t bins[kRow] = {};
    for (std::size_t i = 0; i < n; i += hn::Lanes(DF())) {
      const VU magnitudes = magnitude_bits(load<dtype>(x + i));
      const VU high = hn::ShiftRightSame(magnitudes, static_cast<int>(job_.shift + job_.width));
      const auto counted = hn::Eq(high, prefix);
      if (HWY_LIKELY(hn::AllFalse(DU(), counted))) continue;
      hn::Store(hn::Compress(digits(magnitudes), counted), DU(), bins);
      const std::size_t found = hn::CountTrue(DU(), counted);
      for (std::size_t j = 0; j < found; ++j) ++job_.counts[bins[j]];
    }
  }

  const sparse::Histogram& job_;
};

inline void sparse_histogram(const sparse::Histogram& job) {
  visit_dtype(job.x.dtype, [&](auto tag) HWY_ATTR { SparseCounter<decltype(tag)::value>(job).run(); });
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
