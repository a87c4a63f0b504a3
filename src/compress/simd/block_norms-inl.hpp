// Norms of blocks. Included once per instruction set.
#if defined(GRADWIRE_SIMD_BLOCK_NORMS_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_BLOCK_NORMS_INL_
#undef GRADWIRE_SIMD_BLOCK_NORMS_INL_
#else
#define GRADWIRE_SIMD_BLOCK_NORMS_INL_
#endif

#include <hwy/cache_control.h>

#include <algorithm>

#include "compress/simd/elementwise-inl.hpp"
#include "compress/sparse/kernels.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

/// What becomes of the elements that are read: nothing, or a copy, which `streamed` writes around the caches.
enum class Copy { none, stored, streamed };

/// One pass: a block's rows are visited column by column, which keeps its sums in registers while it is in the
/// first-level cache.
template <DType dtype, Copy kCopy, bool kLargest>
class BlockNormer {
 public:
  using Raw = typename Element<dtype>::Raw;

  explicit BlockNormer(const sparse::BlockNorms& job) : job_(job) {}

  std::uint32_t run() {
    const auto* const x = static_cast<const Raw*>(job_.x.data);
    VU most = hn::Zero(DU());
    std::uint32_t* norm = job_.norms;
    for (std::size_t first = 0; first < job_.x.count; first += job_.block) {
      const std::size_t n = std::min(job_.block, job_.x.count - first);
      HWY_ALIGN float sums[kRow] = {};
      VU largest = add_rows(x + first, n / kRow, job_.residual + (kCopy != Copy::none ? first : 0), sums);
      if (const std::size_t rest = n % kRow; rest != 0) {
        const std::size_t whole = first + n - rest;
        const PaddedRow<Raw> tail(x + whole, rest);
        PaddedRow<float> copy;
        largest = hn::Max(largest, add_rows(tail.data, 1, copy.data, sums));
        if constexpr (kCopy != Copy::none) copy.copy_to(job_.residual + whole, rest);
      }
      *norm++ = kLargest ? hn::GetLane(hn::MaxOfLanes(DU(), largest)) : l2(sums);
      most = hn::Max(most, largest);
    }
    if constexpr (kCopy == Copy::streamed) hwy::FlushStream();
    return hn::GetLane(hn::MaxOfLanes(DU(), most));
  }

 private:
  HWY_INLINE VU add_rows(const Raw* x, std::size_t rows, float* copy, float* sums) {
    VU most = hn::Zero(DU());
    for (std::size_t j = 0; j < kRow; j += hn::Lanes(DF())) {
      VF sum = hn::Load(DF(), sums + j);
      for (std::size_t i = j; i < rows * kRow; i += kRow) {
        const VF v = load<dtype>(x + i);
        if constexpr (kCopy == Copy::stored) hn::StoreU(v, DF(), copy + i);
        if constexpr (kCopy == Copy::streamed) hn::Stream(v, DF(), copy + i);
        most = hn::Max(most, magnitude_bits(v));
        if constexpr (!kLargest) sum = hn::Add(sum, hn::Mul(v, v));
      }
      hn::Store(sum, DF(), sums + j);
    }
    return most;
  }

  /// norm_from_partial_sums, which compilers make less of; a block is short.
  static HWY_INLINE std::uint32_t l2(const float* sums) {
    const hn::FixedTag<float, 4> d;
    const auto quarters = hn::Add(hn::Add(hn::Load(d, sums), hn::Load(d, sums + 8)),
                                  hn::Add(hn::Load(d, sums + 4), hn::Load(d, sums + 12)));
    const auto pairs = hn::Add(quarters, hn::Shuffle1032(quarters));
    const auto norm = hn::Sqrt(hn::Add(pairs, hn::Shuffle2301(pairs)));
    return hn::GetLane(hn::BitCast(hn::RebindToUnsigned<decltype(d)>(), hn::Abs(norm)));
  }

  const sparse::BlockNorms& job_;
};

template <DType dtype, Copy kCopy>
std::uint32_t block_norms_of(const sparse::BlockNorms& job) {
  return job.largest ? BlockNormer<dtype, kCopy, true>(job).run() : BlockNormer<dtype, kCopy, false>(job).run();
}

inline std::uint32_t sparse_block_norms(const sparse::BlockNorms& job) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(job.residual) % (sizeof(float) * hn::Lanes(DF())) == 0;
  return visit_dtype(job.x.dtype, [&](auto tag) HWY_ATTR {
    constexpr DType kDType = decltype(tag)::value;
    if (job.residual == nullptr) return block_norms_of<kDType, Copy::none>(job);
    if (job.streamed && aligned) return block_norms_of<kDType, Copy::streamed>(job);
    return block_norms_of<kDType, Copy::stored>(job);
  });
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
