/// \file The obvious scalar loops of `natural`: the oracle for NaturalKernels.
#include <bit>
#include <cmath>

#include "compress/isa.hpp"
#include "compress/natural_kernels.hpp"
#include "compress/powers.hpp"
#include "compress/random.hpp"
#include "compress/reference.hpp"

namespace gradwire {
namespace {
using namespace reference;

float value_of(std::uint8_t code) {
  const float power = kNaturalPowers.power(code & 0x7f);
  return code > 0x80 ? -power : power;
}

bool natural_encode(const kernels::NaturalEncode& job) {
  const RandomStream random(job.key);
  bool finite = true;
  for (std::size_t i = 0; i < job.x.count; ++i) {
    const float x = load(job.x.data, job.x.dtype, i);
    finite = finite && std::isfinite(x);
    const float v = std::fabs(x);
    const std::int32_t number = job.round == Rounding::nearest
                                    ? kNaturalPowers.nearest(v)
                                    : kNaturalPowers.stochastic(v, random.at(job.key.first_element + i));
    const int sign = number != 0 && std::signbit(x) ? 0x80 : 0;
    job.codes[i] = static_cast<std::uint8_t>(sign | number);
    store_residual(job.residual, i, x - value_of(job.codes[i]));
  }
  return finite;
}

void natural_decode(const kernels::NaturalDecode& job) {
  for (std::size_t i = 0; i < job.y.count; ++i) put(job.y, job.write, i, value_of(job.codes[i]));
}

}  // namespace

template <>
const NaturalKernels& isa::scalar_kernels<NaturalKernels>() noexcept {
  static constexpr NaturalKernels kKernels{natural_encode, natural_decode};
  return kKernels;
}

}  // namespace gradwire
