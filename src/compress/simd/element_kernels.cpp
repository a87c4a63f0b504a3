#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/simd/element_kernels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "compress/kernels.hpp"
#include "compress/simd/export_kernels.hpp"

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#include "compress/simd/elementwise-inl.hpp"
#endif

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
const ElementKernels* element_kernels() { return nullptr; }
#else
const ElementKernels* element_kernels() {
  static constexpr ElementKernels kKernels{cast_encode, cast_decode, scale_add, all_finite, sum_squares};
  return &kKernels;
}
#endif

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gradwire {
GRADWIRE_EXPORT_KERNELS(ElementKernels, element_kernels)
}  // namespace gradwire
#endif
