#include "compress/sparse/randomk.hpp"

#include <fmt/format.h>

#include <cmath>

#include "base/fail.hpp"
#include "base/half.hpp"
#include "compress/sparse/index_coding.hpp"
#include "compress/sparse/scanner.hpp"

namespace gradwire::sparse {

std::string RandomK::spec() const {
  return fmt::format("randomk({},scale={})", density_.spec(), scale_ == Scale::none ? "none" : "unbiased");
}

/// Each element is kept with probability 1/s, s <= ceil(d/k).
double RandomK::kept(std::size_t count) const {
  const std::size_t k = density_.of(count);
  return k == 0 ? 1 : 1 / static_cast<double>((count + k - 1) / k);
}

/// Unbiased: E sum (x - s x [chosen])^2 <= (S - 1) ||x||^2, S = ceil(d/k); the values have S ||x||^2 on average, and
/// what their coding loses adds its squares if it is unbiased, and its norm in any case.
double RandomK::error_bound(std::size_t count, const CodingError& coding) const {
  if (scale_ == Scale::none) return Selection::error_bound(count, coding);
  const double strata = 1 / kept(count);
  const double coded = strata * coding.bound;
  if (coding.unbiased) return strata - 1 + coded;
  const double norm = std::sqrt(strata - 1) + std::sqrt(coded);
  return norm * norm;
}

std::size_t RandomK::select(const Choice& choice, const Entries& out) const {
  const ConstTensor& x = choice.x;
  Scanner(choice).scan(kMagnitudeMask, [](const std::uint32_t*, const float*, std::size_t) { return true; });
  const std::size_t k = density_.of(x.count);
  const RandomStream::Keys keys = place_keys(choice.key);
  if (k == 0) return 0;
  Strata strata(0, k, x.count);
  for (std::size_t j = 0; j < k; ++j) {
    const auto [place, size] = strata.next(keys);
    float value = load_f32(x.data, x.dtype, place);
    if (scale_ == Scale::unbiased) value *= static_cast<float>(size);
    if (!std::isfinite(value))
      fail(Errc::non_finite, "{}: element {} of {} times {} is beyond f32", choice.spec, place, x.count, size);
    out.index[j] = static_cast<std::uint32_t>(place);
    out.value[j] = value;
  }
  return k;
}

}  // namespace gradwire::sparse
