#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/simd/quantize_kernels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "compress/kernels.hpp"
#include "compress/simd/export_kernels.hpp"

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#include "compress/simd/quantize-inl.hpp"
#include "compress/simd/quantize_errors-inl.hpp"
#endif

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
const QuantizeKernels* quantize_kernels() { return nullptr; }
#else
const QuantizeKernels* quantize_kernels() {
  static constexpr QuantizeKernels kKernels{quantize_encode, quantize_decode, quantize_errors};
  return &kKernels;
}
#endif

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gradwire {
GRADWIRE_EXPORT_KERNELS(QuantizeKernels, quantize_kernels)
}  // namespace gradwire
#endif
