// A build without CUDA.
#include "base/device.hpp"
#include "base/fail.hpp"
#include "train/rules/each.hpp"

namespace gradwire::rules {
namespace {
[[noreturn]] void refuse() { fail(Errc::unsupported, "no device memory: {}", device::problem()); }
}  // namespace

template <class Formula, std::size_t N>
void each_on_device(const Formula&, const Inputs<N>&, float*, std::size_t, StreamRef) {
  refuse();
}
void find_nonzero_on_device(const float*, std::size_t, std::uint32_t*, StreamRef) { refuse(); }

#define GRADWIRE_HAS_NONE(Formula, N) \
  template void each_on_device(const Formula&, const Inputs<N>&, float*, std::size_t, StreamRef);
GRADWIRE_RULE_FORMULAS(GRADWIRE_HAS_NONE)
#undef GRADWIRE_HAS_NONE

}  // namespace gradwire::rules
