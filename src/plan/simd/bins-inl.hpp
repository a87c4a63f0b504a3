// Least sums over sliding windows. Included once per instruction set.
#if defined(GRADWIRE_SIMD_BINS_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_BINS_INL_
#undef GRADWIRE_SIMD_BINS_INL_
#else
#define GRADWIRE_SIMD_BINS_INL_
#endif

#include <hwy/highway.h>

#include <algorithm>

#include "plan/bins.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Cells [first, last) of `after`, with items [from, job.items) as far as they reach.
template <class T>
inline void relax_rest(const kernels::Relax<T>& job, std::size_t from, std::size_t first, std::size_t last) {
  for (std::size_t i = from; i < job.items && job.bins[i] < last; ++i)
    for (std::size_t b = std::max<std::size_t>(job.bins[i], first); b < last; ++b)
      job.after[b] = std::min(job.after[b], job.before[b - job.bins[i]] + job.costs[i]);
}

/// Blocks of four vectors stay in registers while all items that reach their first cell pass by; `before` is read from
/// the first or second cache. Items that begin within a block come after, by themselves.
template <class T>
inline void relax(const kernels::Relax<T>& job) {
  const hn::CappedTag<T, 64 / sizeof(T)> d;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t block = 4 * lanes;
  std::size_t whole = 0;
  std::size_t b = 0;
  for (; b + block <= job.cells; b += block) {
    while (whole < job.items && job.bins[whole] <= b) ++whole;
    const auto first_cost = hn::Set(d, job.costs[0]);
    auto v0 = hn::Add(hn::LoadU(d, job.before + b), first_cost);
    auto v1 = hn::Add(hn::LoadU(d, job.before + b + lanes), first_cost);
    auto v2 = hn::Add(hn::LoadU(d, job.before + b + 2 * lanes), first_cost);
    auto v3 = hn::Add(hn::LoadU(d, job.before + b + 3 * lanes), first_cost);
    for (std::size_t i = 1; i < whole; ++i) {
      const T* const from = job.before + b - job.bins[i];
      const auto cost = hn::Set(d, job.costs[i]);
      v0 = hn::Min(v0, hn::Add(hn::LoadU(d, from), cost));
      v1 = hn::Min(v1, hn::Add(hn::LoadU(d, from + lanes), cost));
      v2 = hn::Min(v2, hn::Add(hn::LoadU(d, from + 2 * lanes), cost));
      v3 = hn::Min(v3, hn::Add(hn::LoadU(d, from + 3 * lanes), cost));
    }
    hn::StoreU(v0, d, job.after + b);
    hn::StoreU(v1, d, job.after + b + lanes);
    hn::StoreU(v2, d, job.after + b + 2 * lanes);
    hn::StoreU(v3, d, job.after + b + 3 * lanes);
    relax_rest(job, whole, b, b + block);
  }
  for (std::size_t i = b; i < job.cells; ++i) job.after[i] = job.before[i] + job.costs[0];
  relax_rest(job, 1, b, job.cells);
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
