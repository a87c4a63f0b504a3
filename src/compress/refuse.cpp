#include "compress/refuse.hpp"

#include <cmath>

#include "base/fail.hpp"
#include "compress/isa.hpp"
#include "compress/kernels.hpp"

namespace gradwire {

void refuse_non_finite(ConstTensor x, const RefusedRange& range) {
  for (std::size_t i = range.first; i < range.first + range.count; ++i) {
    float value = 0;
    isa::kernels<ElementKernels>().scale_add({x.slice(i, 1), 1.0f, nullptr, &value});
    if (!std::isfinite(value)) fail(Errc::non_finite, "{}: element {} of {} is {}", range.spec, i, x.count, value);
  }
  fail(Errc::non_finite, "{}: the scale of elements {} to {} {}", range.spec, range.first,
       range.first + range.count - 1, range.reason);
}

}  // namespace gradwire
