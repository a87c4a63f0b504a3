#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/simd/factor_kernels.cpp"
#include "compress/factor_kernels.hpp"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "compress/simd/export_kernels.hpp"

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#include "compress/simd/factor-inl.hpp"
#endif

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
const FactorKernels* factor_kernels() { return nullptr; }
#else
const FactorKernels* factor_kernels() {
  static constexpr FactorKernels kKernels{times, transposed_times, expand};
  return &kKernels;
}
#endif

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gradwire {
GRADWIRE_EXPORT_KERNELS(FactorKernels, factor_kernels)
}  // namespace gradwire
#endif
