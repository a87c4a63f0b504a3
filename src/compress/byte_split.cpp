#include "compress/byte_split.hpp"

#include "compress/isa.hpp"

namespace gradwire {
namespace {

void split(const kernels::ByteSplit& job) {
  for (std::size_t i = 0; i < job.words; ++i)
    for (std::size_t b = 0; b < job.width; ++b) job.to[b * job.words + i] = job.from[i * job.width + b];
}

void merge(const kernels::ByteSplit& job) {
  for (std::size_t i = 0; i < job.words; ++i)
    for (std::size_t b = 0; b < job.width; ++b) job.to[i * job.width + b] = job.from[b * job.words + i];
}

}  // namespace

template <>
const ByteSplitKernels& isa::scalar_kernels<ByteSplitKernels>() noexcept {
  static constexpr ByteSplitKernels kKernels{split, merge};
  return kKernels;
}

}  // namespace gradwire
