#pragma once
/// \file How a kernel file hands out its tables. Its last lines, inside `#if HWY_ONCE` and namespace gradwire, are
///
///     GRADWIRE_EXPORT_KERNELS(QuantizeKernels, quantize_kernels)
///
/// where each instruction set's namespace has `const QuantizeKernels* quantize_kernels()`; null means the reference.
#include <hwy/highway.h>

#include "compress/isa.hpp"

#if (HWY_TARGETS & (HWY_TARGETS - 1)) == 0
#define GRADWIRE_EXPORT_KERNELS(Kernels, tables)                     \
  template <>                                                        \
  const Kernels* isa::simd_kernels<Kernels>(std::int64_t) noexcept { \
    return HWY_STATIC_DISPATCH(tables)();                            \
  }
#else
// Highway's own choice is one for the whole process; a choice of ours leaves other users of Highway alone.
#define GRADWIRE_EXPORT_KERNELS(Kernels, tables)                            \
  HWY_EXPORT(tables);                                                       \
  template <>                                                               \
  const Kernels* isa::simd_kernels<Kernels>(std::int64_t target) noexcept { \
    hwy::ChosenTarget chosen;                                               \
    chosen.Update(target);                                                  \
    return HWY_DISPATCH_TABLE(tables)[chosen.GetIndex()]();                 \
  }
#endif
