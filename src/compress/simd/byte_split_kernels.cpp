#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/simd/byte_split_kernels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "compress/byte_split.hpp"
#include "compress/simd/export_kernels.hpp"

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#include "compress/simd/byte_split-inl.hpp"
#endif

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
const ByteSplitKernels* byte_split_kernels() { return nullptr; }
#else
const ByteSplitKernels* byte_split_kernels() {
  static constexpr ByteSplitKernels kKernels{byte_split, byte_merge};
  return &kKernels;
}
#endif

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gradwire {
GRADWIRE_EXPORT_KERNELS(ByteSplitKernels, byte_split_kernels)
}  // namespace gradwire
#endif
