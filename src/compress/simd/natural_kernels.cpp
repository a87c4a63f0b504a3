#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/simd/natural_kernels.cpp"
#include "compress/natural_kernels.hpp"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "compress/simd/export_kernels.hpp"

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#include "compress/simd/natural-inl.hpp"
#endif

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
const NaturalKernels* natural_kernels() { return nullptr; }
#else
const NaturalKernels* natural_kernels() {
  static constexpr NaturalKernels kKernels{natural_encode, natural_decode};
  return &kKernels;
}
#endif

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gradwire {
GRADWIRE_EXPORT_KERNELS(NaturalKernels, natural_kernels)
}  // namespace gradwire
#endif
