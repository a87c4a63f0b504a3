#include <algorithm>

#include "compress/isa.hpp"
#include "plan/bins.hpp"

namespace gradwire {
namespace {

template <class T>
void relax(const kernels::Relax<T>& job) {
  for (std::size_t b = 0; b < job.cells; ++b) {
    T least = job.before[b] + job.costs[0];
    for (std::size_t i = 1; i < job.items && job.bins[i] <= b; ++i)
      least = std::min(least, job.before[b - job.bins[i]] + job.costs[i]);
    job.after[b] = least;
  }
}

constexpr BinKernels kReference{relax<std::uint32_t>, relax<double>};

}  // namespace

template <>
const BinKernels& isa::scalar_kernels<BinKernels>() noexcept {
  return kReference;
}

}  // namespace gradwire
