#include "compress/sparse/randomk.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "base/fail.hpp"
#include "base/half.hpp"
#include "compress/sparse/index_coding.hpp"
#include "compress/sparse/scanner.hpp"
#include "compress/vector_ops.hpp"

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

std::optional<device::SparseRule> RandomK::device_rule(std::size_t count, const RandomKey& key) const {
  device::SparseRule rule{device::SparseRule::Kind::random, density_.of(count), place_keys(key)};
  rule.is_scaled = unbiased();
  return rule;
}

std::unique_ptr<const IntegerCoder> RandomK::coder() const { return std::make_unique<RandomKCoder>(*this); }

/// Which places are drawn is not known here: any value that its scale takes beyond f32 is refused, wherever it is.
void RandomKCoder::find_ranges(ConstTensor x, float*, StreamRef) const {
  if (x.space == Space::device) return;
  Scanner({x, nullptr, {}, spec_}).scan(kMagnitudeMask, [](const std::uint32_t*, const float*, std::size_t) {
    return true;
  });
  const std::size_t k = codes(x.count);
  if (!selection_.unbiased() || k == 0) return;
  const auto largest = static_cast<float>((x.count + k - 1) / k);
  for (std::size_t i = 0; i < x.count; ++i) {
    if (std::isfinite(load_f32(x.data, x.dtype, i) * largest)) continue;
    fail(Errc::non_finite, "{}: element {} of {} times {} is beyond f32", spec_, i, x.count, largest);
  }
}

void RandomKCoder::encode(ConstTensor x, const float*, Tensor codes, Tensor residual, const CodingKeys& keys,
                          StreamRef stream) const {
  if (x.space == Space::device) {
    return device::draw_values(drawn(x.count, codes.count, keys.shared), x, static_cast<float*>(codes.data),
                               static_cast<float*>(residual.data), stream);
  }
  if (residual.data != nullptr) ops::convert(x, residual);
  const std::size_t k = codes.count;
  if (k == 0) return;
  const RandomStream::Keys places = place_keys(keys.shared);
  Strata strata(0, k, x.count);
  for (std::size_t j = 0; j < k; ++j) {
    const auto [place, size] = strata.next(places);
    const float value = load_f32(x.data, x.dtype, place);
    const float sent = selection_.unbiased() ? value * static_cast<float>(size) : value;
    store_f32(codes.data, DType::f32, j, sent);
    if (residual.data != nullptr) store_f32(residual.data, DType::f32, place, value - sent);
  }
}

void RandomKCoder::decode(ConstTensor codes, int, const float*, Tensor y, const RandomKey& shared,
                          StreamRef stream) const {
  if (y.space == Space::device) {
    return device::put_values(drawn(y.count, codes.count, shared), static_cast<const float*>(codes.data), y, stream);
  }
  std::memset(y.data, 0, y.bytes());
  const std::size_t k = codes.count;
  if (k == 0) return;
  const RandomStream::Keys places = place_keys(shared);
  Strata strata(0, k, y.count);
  for (std::size_t j = 0; j < k; ++j) {
    store_f32(y.data, y.dtype, strata.next(places).place, load_f32(codes.data, DType::f32, j));
  }
}

}  // namespace gradwire::sparse
