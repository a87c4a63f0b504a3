#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/simd/rotate_kernels.cpp"
#include "compress/rotate_kernels.hpp"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "compress/simd/export_kernels.hpp"

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#include "compress/simd/rotate-inl.hpp"
#endif

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
const RotateKernels* rotate_kernels() { return nullptr; }
#else
const RotateKernels* rotate_kernels() {
  static constexpr RotateKernels kKernels{rotate_forward, rotate_inverse, rotate_products, rotate_clamp};
  return &kKernels;
}
#endif

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gradwire {
GRADWIRE_EXPORT_KERNELS(RotateKernels, rotate_kernels)
}  // namespace gradwire
#endif
