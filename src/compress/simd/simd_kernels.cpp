#include "compress/simd/simd_kernels.hpp"

// SSSE3 without SSE4 is of no interest. Vectors of a length unknown to the compiler cannot be members of classes.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#define HWY_WANT_AVX3_DL

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/simd/simd_kernels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

// Highway's plain C++ targets, one of which is always there as the fallback, get no kernels: the reference code serves.
#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#include "compress/simd/quantize-inl.hpp"
#endif

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
const kernels::Table* simd_table() { return nullptr; }
#else
constexpr std::string_view isa_name() {
  switch (HWY_TARGET) {
    case HWY_AVX3_DL: return "avx3_dl";
    case HWY_AVX3: return "avx3";
    case HWY_AVX2: return "avx2";
    case HWY_SSE4: return "sse4";
    case HWY_NEON: return "neon";
    default: return "simd128";
  }
}

const kernels::Table* simd_table() {
  static constexpr kernels::Table kTable{isa_name(),      cast_encode, cast_decode, quantize_encode,
                                         quantize_decode, scale_add,   all_finite,  sum_squares};
  return &kTable;
}
#endif

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gradwire {

HWY_EXPORT(simd_table);

std::vector<const kernels::Table*> simd_kernels() {
  std::vector<const kernels::Table*> tables;
  const auto add = [&](const kernels::Table* table) {
    if (table != nullptr) tables.push_back(table);
  };
#if (HWY_TARGETS & (HWY_TARGETS - 1)) == 0
  add(HWY_STATIC_DISPATCH(simd_table)());
#else
  // Highway's own choice is one for the whole process; a choice of ours leaves other users of Highway alone.
  for (std::int64_t left = HWY_TARGETS & hwy::SupportedTargets(); left != 0; left &= left - 1) {
    hwy::ChosenTarget chosen;  // better targets have lower bits
    chosen.Update(left & -left);
    add(HWY_DISPATCH_TABLE(simd_table)[chosen.GetIndex()]());
  }
#endif
  return tables;
}

}  // namespace gradwire
#endif
