#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "compress/isa.hpp"
#include "compress/refuse.hpp"
#include "compress/sparse/cut.hpp"
#include "compress/sparse/selection.hpp"

namespace gradwire::sparse {

/// The cut that takes the k largest of n keys, 1 <= k <= n; zeros are not taken. Destroys the keys.
[[nodiscard]] Cut cut_keys(std::uint32_t* keys, std::size_t n, std::size_t k);

/// Goes over a tensor, in blocks that stay in the first-level cache; makes the copy that the residual starts as on the
/// way, once however often it goes.
class Scanner {
 public:
  explicit Scanner(const Choice& choice) noexcept : choice_(choice), kernels_(isa::kernels<SparseKernels>()) {
    if (choice.residual == nullptr || static_cast<const void*>(choice.residual) == choice.x.data)
      copied_ = choice.x.count;
  }

  /// Calls sink(index, value, n) with the elements of at least this magnitude, a block at a time and in order, until it
  /// returns false or the tensor ends; false in the first case. Throws Errc::non_finite at the end of the tensor.
  template <class Sink>
  bool scan(std::uint32_t threshold, Sink&& sink) {
    std::uint32_t index[kBlock + 16];
    float value[kBlock + 16];
    std::uint32_t most = 0;
    for (std::size_t first = 0; first < choice_.x.count; first += kBlock) {
      const std::size_t n = std::min(kBlock, choice_.x.count - first);
      float* const residual = first < copied_ ? nullptr : choice_.residual + first;
      const Scanned scanned = kernels_.scan(
          {choice_.x.slice(first, n), static_cast<std::uint32_t>(first), threshold, index, value, residual});
      copied_ = std::max(copied_, first + n);
      most = std::max(most, scanned.most);
      if (scanned.found != 0 && !sink(index, value, scanned.found)) return false;
    }
    if (most >= kInfinity) refuse_non_finite(choice_.x, {0, choice_.x.count, choice_.spec});
    return true;
  }

  /// The cut that takes the k largest, 1 <= k <= count, by three passes. Throws Errc::non_finite.
  [[nodiscard]] Cut cut(std::size_t k) const;

  /// Writes what the cut takes; returns how many that are.
  std::size_t take(Cut cut, const Entries& out);

 private:
  static constexpr std::size_t kBlock = 4096;

  const Choice& choice_;
  const SparseKernels& kernels_;
  std::size_t copied_ = 0;
};

}  // namespace gradwire::sparse
