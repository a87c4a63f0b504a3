#include "compress/simd/simd_kernels.hpp"

// SSSE3 without SSE4 is of no interest. Vectors of a length unknown to the compiler cannot be members of classes.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#define HWY_WANT_AVX3_DL

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/simd/simd_kernels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "compress/simd/dequantize-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

constexpr std::string_view isa_name() {
  switch (HWY_TARGET) {
    case HWY_AVX3_DL: return "avx3_dl";
    case HWY_AVX3: return "avx3";
    case HWY_AVX2: return "avx2";
    case HWY_SSE4: return "sse4";
    case HWY_NEON: return "neon";
    case HWY_PPC8: return "ppc8";
    case HWY_WASM: return "wasm";
    default: return "emu128";  // Highway's plain C++
  }
}

const kernels::Table* simd_table() {
  static constexpr kernels::Table kTable{isa_name(),      cast_encode, cast_decode, quantize_encode,
                                         quantize_decode, scale_add,   all_finite,  sum_squares};
  return &kTable;
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gradwire {

HWY_EXPORT(simd_table);

std::vector<const kernels::Table*> simd_kernels() {
  std::vector<const kernels::Table*> tables;
#if (HWY_TARGETS & (HWY_TARGETS - 1)) == 0
  tables.push_back(HWY_STATIC_DISPATCH(simd_table)());
#else
  // Highway's own choice is one for the whole process; a choice of ours leaves other users of Highway alone.
  const std::int64_t usable = HWY_TARGETS & (hwy::SupportedTargets() | HWY_STATIC_TARGET);
  for (std::int64_t left = usable; left != 0; left &= left - 1) {  // better ones have lower bits
    hwy::ChosenTarget chosen;
    chosen.Update(left & -left);
    tables.push_back(HWY_DISPATCH_TABLE(simd_table)[chosen.GetIndex()]());
  }
#endif
  return tables;
}

}  // namespace gradwire
#endif
