#include "compress/device/launch.cuh"
#include "train/rules/each.hpp"

namespace gradwire::rules {
namespace {

template <class Formula, std::size_t... Place>
__device__ float at(const Formula& formula, const float* const* in, std::size_t i, std::index_sequence<Place...>) {
  return formula(in[Place][i]...);
}

/// A thread an element, of neighbours in neighbouring threads.
template <class Formula, std::size_t N>
__global__ void __launch_bounds__(device::kBlockThreads)
    each_element(const Formula formula, const Inputs<N> in, float* out, std::size_t count) {
  for (std::size_t i = device::thread_index(); i < count; i += device::thread_count())
    out[i] = at(formula, in.at, i, std::make_index_sequence<N>());
}

__global__ void __launch_bounds__(device::kBlockThreads)
    find_nonzero_elements(const float* x, std::size_t count, std::uint32_t* found) {
  bool any = false;
  for (std::size_t i = device::thread_index(); i < count; i += device::thread_count()) any = any || x[i] != 0;
  if (any) *found = 1;  // whoever comes last writes the same
}

}  // namespace

template <class Formula, std::size_t N>
void each_on_device(const Formula& formula, const Inputs<N>& in, float* out, std::size_t count, StreamRef stream) {
  if (count == 0) return;
  device::launch("each_element", each_element<Formula, N>, count, stream, formula, in, out, count);
}

void find_nonzero_on_device(const float* x, std::size_t count, std::uint32_t* found, StreamRef stream) {
  if (count == 0) return;
  device::launch("find_nonzero_elements", find_nonzero_elements, count, stream, x, count, found);
}

#define GRADWIRE_HAS_KERNEL(Formula, N) \
  template void each_on_device(const Formula&, const Inputs<N>&, float*, std::size_t, StreamRef);
GRADWIRE_RULE_FORMULAS(GRADWIRE_HAS_KERNEL)
#undef GRADWIRE_HAS_KERNEL

}  // namespace gradwire::rules
