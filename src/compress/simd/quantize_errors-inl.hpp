// quantize: what it would lose, without encoding. Included once per instruction set.
#if defined(GRADWIRE_SIMD_QUANTIZE_ERRORS_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_QUANTIZE_ERRORS_INL_
#undef GRADWIRE_SIMD_QUANTIZE_ERRORS_INL_
#else
#define GRADWIRE_SIMD_QUANTIZE_ERRORS_INL_
#endif

#include "compress/kernels.hpp"
#include "compress/simd/coder-inl.hpp"
#include "compress/simd/elementwise-inl.hpp"
#include "compress/simd/norms-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

/// Rows that stay in the first-level cache between two passes.
inline constexpr std::size_t kLostRows = 64;

template <CodeShape shape>
HWY_INLINE void lose_rows(const Coder<shape, Rounding::nearest>& coder, const float* x, std::size_t rows, float* lost) {
  for (std::size_t i = 0; i < rows * kRow; i += hn::Lanes(DF())) {
    const VF v = hn::LoadU(DF(), x + i);
    hn::Store(hn::Sub(v, coder.value(coder.code(v, nullptr).level)), DF(), lost + i);
  }
}

/// Adds the squares of what one bucket loses with one number of bits to partial sums, as sum_squares() has them.
template <CodeShape shape>
void add_lost(const QuantizeParams& params, const BucketScale& scale, const float* x, std::size_t n, double* sums) {
  HWY_ALIGN float lost[kLostRows * kRow];
  const Coder<shape, Rounding::nearest> coder({params, nullptr}, scale);
  for (std::size_t row = 0; row < n / kRow; row += kLostRows) {
    const std::size_t rows = std::min(kLostRows, n / kRow - row);
    lose_rows<shape>(coder, x + row * kRow, rows, lost);
    add_squares(lost, rows, sums);
  }
  const std::size_t rest = n % kRow;
  if (rest == 0) return;
  PaddedRow<float> tail(x + (n - rest), rest);
  std::fill(tail.data + rest, tail.data + kRow, scale.min);  // of which nothing is lost
  lose_rows<shape>(coder, tail.data, 1, lost);
  add_squares(lost, 1, sums);
}

inline std::size_t quantize_errors(const kernels::QuantizeErrors& job) {
  double sums[8][kRow] = {};
  QuantizeParams params = job.params;
  const bool steps = params.norm == Norm::minmax;
  for (std::size_t first = 0; first < job.count; first += params.bucket) {
    const float* const x = job.x + first;
    const std::size_t n = std::min<std::size_t>(params.bucket, job.count - first);
    const Extent extent = steps ? extent_of(x, n) : Extent{0, norm_of(params, x, n)};
    for (std::size_t w = 0; w < job.widths; ++w) {
      params.bits = job.bits[w];
      BucketScale scale;
      if (!scale_from_norm(params, extent.range, extent.min, scale)) return first;
      steps ? add_lost<CodeShape::steps>(params, scale, x, n, sums[w])
            : add_lost<CodeShape::levels>(params, scale, x, n, sums[w]);
    }
  }
  for (std::size_t w = 0; w < job.widths; ++w) job.squares[w] = add_pairwise(sums[w]);
  return job.count;
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
