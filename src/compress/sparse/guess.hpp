#pragma once
#include <cstddef>
#include <cstdint>

#include "compress/sparse/scanner.hpp"

/// \file Thresholds guessed from a sample, after Deep Gradient Compression (arXiv:1712.01887).
namespace gradwire::sparse {

/// Whether k of `count` elements are few, of a tensor so large that finding them by a guess pays.
[[nodiscard]] constexpr bool worth_guessing(std::size_t count, std::size_t k) noexcept {
  return count > 32768 && k < count / 8;
}

/// How large a sample is, and what it is for.
struct SamplePlan {
  std::size_t size;
  double expected;  ///< how many of the sample the k chosen elements are, on average

  /// Of a tensor that has entries to choose, 1 <= k.
  static SamplePlan of(std::size_t count, std::size_t k) noexcept;
  /// Place in the sample, 1 the largest, of a threshold that `share` of k elements reach on average.
  [[nodiscard]] std::size_t rank(double share) const noexcept;
  /// Of fewer, their number strays too far for a guess from both sides.
  [[nodiscard]] bool is_trusted() const noexcept { return expected >= 32; }
};

/// Magnitudes of one element of each of some strata, drawn at random. They lie where Survivors will: ask first.
class Sample {
 public:
  /// Of a tensor that has entries to choose, 1 <= k.
  Sample(const Choice& choice, std::size_t k);

  [[nodiscard]] const SamplePlan& plan() const noexcept { return plan_; }
  /// A threshold that fewer than k elements reach once in some ten thousand times.
  [[nodiscard]] std::uint32_t generous() const { return at(generous_rank()); }
  /// How many elements reach it on average.
  [[nodiscard]] std::size_t generous_count() const noexcept;
  /// One that `share` of k elements reach on average.
  [[nodiscard]] std::uint32_t share_of_k(double share) const { return at(plan_.rank(share)); }

 private:
  [[nodiscard]] std::size_t generous_rank() const noexcept;
  /// The magnitude at this rank from the top, 1 the largest; at least 1, so that zeros do not reach it.
  [[nodiscard]] std::uint32_t at(std::size_t rank) const;

  std::size_t count_;
  SamplePlan plan_;
  Scratch memory_;
};

/// Elements that a scan found, in memory that stays with the thread.
class Survivors {
 public:
  explicit Survivors(std::size_t room) : memory_(scratch(Use::survivors, room)), room_(room) {}

  /// All elements of at least this magnitude; false where there is no room for them.
  bool gather(Scanner& scanner, std::uint32_t threshold);
  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  /// Writes the k largest of them, or all where there are fewer, in order; returns how many. `threshold`, unless null,
  /// becomes the least magnitude written.
  std::size_t take_largest(std::size_t k, const Entries& out, std::uint32_t* threshold = nullptr);

 private:
  Scratch memory_;
  std::size_t room_;
  std::size_t count_ = 0;
};

/// The k largest, whatever it takes: from among those that pass a generous guess, or else by radix over the whole.
/// `threshold`, unless null, becomes the least magnitude chosen.
std::size_t select_largest(const Choice& choice, Scanner& scanner, std::size_t k, const Entries& out,
                           std::uint32_t* threshold = nullptr);

}  // namespace gradwire::sparse
