#pragma once
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "compress/device/sparse.hpp"
#include "compress/random.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire::sparse {

/// What is chosen from.
struct Choice {
  ConstTensor x;
  float* residual;  ///< null; or gets x as f32 (may be x)
  RandomKey key;
  std::string_view spec;  ///< names the compressor in messages
};

/// What coding the values of entries loses: ValueCoding's error_bound for as many as there may be, and unbiased.
struct CodingError {
  double bound;
  bool unbiased;
};

/// A rule by which elements of a tensor are chosen. Immutable and safe to share between threads, as compressors are.
class Selection {
 public:
  virtual ~Selection() = default;
  [[nodiscard]] virtual std::string spec() const = 0;
  [[nodiscard]] virtual std::size_t max_entries(std::size_t count) const = 0;
  /// Writes the entries to `out`, which has room for max_entries, and returns how many there are. Zeros are never
  /// chosen but by random. Throws Errc::non_finite where any element of x is.
  virtual std::size_t select(const Choice& choice, const Entries& out) const = 0;
  /// The least share of ||x||^2 that the entries of `count` elements are proven to hold, in expectation where the
  /// choice is random.
  [[nodiscard]] virtual double kept(std::size_t count) const = 0;
  /// Compressor::error_bound of the whole.
  [[nodiscard]] virtual double error_bound(std::size_t count, const CodingError& coding) const;
  [[nodiscard]] virtual bool unbiased() const { return false; }
  /// Elements of a block where whole blocks are chosen; else 0.
  [[nodiscard]] virtual std::size_t block() const { return 0; }
  /// Whether the places are those that Strata draws, one for each of max_entries; and the keys.
  [[nodiscard]] virtual bool is_seeded() const { return false; }
  [[nodiscard]] virtual std::optional<RandomStream::Keys> seed(const RandomKey&) const { return {}; }
  /// Sparsifier::takes_largest.
  [[nodiscard]] virtual bool takes_largest() const noexcept { return false; }
  /// What it learned of earlier steps; null where it does not.
  [[nodiscard]] virtual StepMemory* memory() const { return nullptr; }
  /// Whether as many as max_entries are chosen, where as many are not zero.
  [[nodiscard]] virtual bool fills_frames() const { return false; }
  /// What encodes on device memory; none where only hosts choose so.
  [[nodiscard]] virtual std::optional<device::SparseRule> device_rule(std::size_t, const RandomKey&) const {
    return {};
  }
  /// Where all ranks can draw the same places: what sums the values at them. Null elsewhere.
  [[nodiscard]] virtual std::unique_ptr<const IntegerCoder> coder() const { return nullptr; }
};

/// How many of a tensor's elements (or blocks) to choose: a share, or a number.
struct Density {
  double share = 0.01;
  std::uint32_t number = 0;  ///< not 0: this many, whatever the tensor's size

  /// ceil(share * count), at least 1 of a tensor that has any.
  [[nodiscard]] std::size_t of(std::size_t count) const noexcept;
  /// "density=0.01" or "k=100".
  [[nodiscard]] std::string spec() const;
};

/// What the rules that draw places draw from: other numbers than those that round stochastically.
[[nodiscard]] RandomStream::Keys place_keys(const RandomKey& key) noexcept;

/// Memory that grows to the largest tensor's needs and stays with the thread: nothing is allocated in steady state.
/// What is never written takes no memory but addresses.
struct Scratch {
  std::uint32_t* index;
  float* value;
  std::uint32_t* keys;
};
/// Two of them, so that one holds what is chosen from the other. Each has room for `room` of everything.
enum class Use { survivors, entries };
[[nodiscard]] Scratch scratch(Use use, std::size_t room);
/// Such memory for words: the norms of blocks, or the places of a frame that is read.
[[nodiscard]] std::uint32_t* word_scratch(std::size_t room);

}  // namespace gradwire::sparse
