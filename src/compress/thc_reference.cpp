/// \file `thc` as obvious loops: the oracle.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "compress/isa.hpp"
#include "compress/random.hpp"
#include "compress/thc_kernels.hpp"

namespace gradwire {
namespace {

std::uint32_t load(ConstTensor codes, std::size_t i) {
  std::uint32_t code = 0;
  const std::size_t bytes = size_of(codes.dtype);
  std::memcpy(&code, static_cast<const std::byte*>(codes.data) + i * bytes, bytes);
  return code;
}

void store(Tensor codes, std::size_t i, std::uint32_t code) {
  const std::size_t bytes = size_of(codes.dtype);
  std::memcpy(static_cast<std::byte*>(codes.data) + i * bytes, &code, bytes);
}

void encode(const kernels::ThcEncode& job) {
  const RandomStream random(job.key);
  const float middle = static_cast<float>(job.top) * 0.5f;
  for (std::size_t i = 0; i < job.codes.count; ++i) {
    const float u = RandomStream::unit_interval(random.at(job.key.first_element + i));
    const float code = std::trunc(std::clamp(job.y[i] * job.inv, -middle, middle) + (middle + u));
    store(job.codes, i, std::min(static_cast<std::uint32_t>(code), job.top));
  }
}

void decode(const kernels::ThcDecode& job) {
  for (std::size_t i = 0; i < job.codes.count; ++i) {
    const auto twice = static_cast<std::int32_t>(2 * load(job.codes, i));
    job.v[i] = static_cast<float>(twice - job.offset) * job.half_unit;
  }
}

}  // namespace

template <>
const ThcKernels& isa::scalar_kernels<ThcKernels>() noexcept {
  static constexpr ThcKernels kKernels{encode, decode};
  return kKernels;
}

}  // namespace gradwire
