#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/simd/sparse_kernels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "compress/simd/export_kernels.hpp"
#include "compress/sparse/kernels.hpp"

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#include "compress/simd/block_norms-inl.hpp"
#include "compress/simd/sparse-inl.hpp"
#endif

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
const SparseKernels* sparse_kernels() { return nullptr; }
#else
const SparseKernels* sparse_kernels() {
  static constexpr SparseKernels kKernels{sparse_scan, sparse_histogram, sparse_block_norms};
  return &kKernels;
}
#endif

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gradwire {
GRADWIRE_EXPORT_KERNELS(SparseKernels, sparse_kernels)
}  // namespace gradwire
#endif
