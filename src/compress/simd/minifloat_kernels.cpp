#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/simd/minifloat_kernels.cpp"
#include "compress/minifloat_kernels.hpp"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "compress/simd/export_kernels.hpp"

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#include "compress/simd/minifloat-inl.hpp"
#endif

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
const MinifloatKernels* minifloat_kernels() { return nullptr; }
#else
const MinifloatKernels* minifloat_kernels() {
  static constexpr MinifloatKernels kKernels{minifloat_encode, minifloat_decode};
  return &kKernels;
}
#endif

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gradwire {
GRADWIRE_EXPORT_KERNELS(MinifloatKernels, minifloat_kernels)
}  // namespace gradwire
#endif
