#pragma once
#include <cstdint>

#include "gradwire/transport.hpp"

namespace gradwire::tools {

/// What one rank put into an allreduce and what it got out.
struct CheckedTensors {
  ConstTensor input;
  ConstTensor result;
  ConstTensor residual;       ///< null data: nothing is owed
  bool lossless = false;      ///< the result itself must be the exact sum, too
  bool backend_sums = false;  ///< `dense`: with 16-bit tensors the backend rounds, and no residual keeps what it drops
};

struct CheckResult {
  double rel_error = 0;     ///< l2 norm of (result - exact sum) over that of the exact sum
  std::uint64_t wrong = 0;  ///< elements that violate the contract
};

/// Collective; the answer is rank 0's, the others get zeros. An element is wrong when
///
/// - its result differs between two ranks in any bit, or
/// - |sum of inputs - result - sum of residuals| > (n + 2) 2^-22 scale, where the sums are taken in f64, n is the
///   number of ranks and scale is the sum over ranks of max |input| + max |residual|: some eight times the rounding
///   that n + 2 additions in f32 can cause. With 16-bit tensors under `dense`, n u scale more, where u is 2^-11 (f16)
///   or 2^-8 (bf16);
/// - `lossless` holds and |sum of inputs - result| exceeds the same bound.
[[nodiscard]] CheckResult check(const Communicator& comm, const CheckedTensors& mine, Deadline deadline);

}  // namespace gradwire::tools
