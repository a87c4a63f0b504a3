#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "plan/simd/bins_kernels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "compress/simd/export_kernels.hpp"
#include "plan/bins.hpp"

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128 && HWY_HAVE_FLOAT64
#include "plan/simd/bins-inl.hpp"
#endif

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128 || !HWY_HAVE_FLOAT64
const BinKernels* bin_kernels() { return nullptr; }
#else
const BinKernels* bin_kernels() {
  static constexpr BinKernels kKernels{relax<std::uint32_t>, relax<double>};
  return &kKernels;
}
#endif

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gradwire {
GRADWIRE_EXPORT_KERNELS(BinKernels, bin_kernels)
}  // namespace gradwire
#endif
