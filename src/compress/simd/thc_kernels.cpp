#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/simd/thc_kernels.cpp"
#include "compress/thc_kernels.hpp"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "compress/simd/export_kernels.hpp"

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#include "compress/simd/thc-inl.hpp"
#endif

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
const ThcKernels* thc_kernels() { return nullptr; }
#else
const ThcKernels* thc_kernels() {
  static constexpr ThcKernels kKernels{thc_encode, thc_decode};
  return &kKernels;
}
#endif

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gradwire {
GRADWIRE_EXPORT_KERNELS(ThcKernels, thc_kernels)
}  // namespace gradwire
#endif
