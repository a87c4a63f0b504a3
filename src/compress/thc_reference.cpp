/// \file `thc` as obvious loops: the oracle.
#include <cstring>

#include "compress/isa.hpp"
#include "compress/random.hpp"
#include "compress/thc_arithmetic.hpp"
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
  for (std::size_t i = 0; i < job.codes.count; ++i)
    store(job.codes, i, thc::code_of(job.y[i], job.inv, job.top, random.at(job.key.first_element + i)));
}

void decode(const kernels::ThcDecode& job) {
  for (std::size_t i = 0; i < job.codes.count; ++i)
    job.v[i] = thc::value_of(load(job.codes, i), job.offset, job.half_unit);
}

}  // namespace

template <>
const ThcKernels& isa::scalar_kernels<ThcKernels>() noexcept {
  static constexpr ThcKernels kKernels{encode, decode};
  return kKernels;
}

}  // namespace gradwire
