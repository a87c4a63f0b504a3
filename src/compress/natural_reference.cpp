/// \file The obvious scalar loops of `natural`: the oracle for NaturalKernels.
#include <cmath>

#include "compress/isa.hpp"
#include "compress/natural_codes.hpp"
#include "compress/natural_kernels.hpp"
#include "compress/random.hpp"
#include "compress/reference.hpp"

namespace gradwire {
namespace {
using namespace reference;

bool natural_encode(const kernels::NaturalEncode& job) {
  const RandomStream random(job.key);
  bool finite = true;
  for (std::size_t i = 0; i < job.x.count; ++i) {
    const float x = load(job.x.data, job.x.dtype, i);
    finite = finite && std::isfinite(x);
    job.codes[i] = natural::code_of(job.round, x, random.at(job.key.first_element + i));
    store_residual(job.residual, i, x - natural::value_of(job.codes[i]));
  }
  return finite;
}

void natural_decode(const kernels::NaturalDecode& job) {
  for (std::size_t i = 0; i < job.y.count; ++i) put(job.y, job.write, i, natural::value_of(job.codes[i]));
}

}  // namespace

template <>
const NaturalKernels& isa::scalar_kernels<NaturalKernels>() noexcept {
  static constexpr NaturalKernels kKernels{natural_encode, natural_decode};
  return kKernels;
}

}  // namespace gradwire
