#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

#include "compress/device/frame_start.hpp"
#include "compress/random.hpp"
#include "compress/sparse/values.hpp"

#include "gradwire/compressor.hpp"

/// \file Sparsifiers on device memory: docs/adr/0010, "Sparsifiers". As in device/codecs.hpp, calls only launch.
namespace gradwire::device {

/// A threshold that serves later steps, in device memory; zero before it is first learned.
struct StepThreshold {
  std::uint64_t step;       ///< when it was learned
  std::uint32_t magnitude;  ///< as bits; 0: not learned
  std::uint32_t zero;
};

/// A threshold that is tried first, of the rule `largest`: it serves where at least 4/5 of those wanted and at most
/// SparseShape::most elements reach it.
struct ThresholdGuess {
  std::size_t sample = 0;  ///< elements drawn, one of each of so many strata, with SparseRule's keys; 0: none are
  std::size_t rank = 0;    ///< of the threshold in the sample, 1 the largest
  StepThreshold* memory = nullptr;  ///< where no sample is drawn: what StepCache::find() would find is tried
  std::uint64_t step = 0;
  std::uint32_t refresh = 0;
};

/// What devices know how to choose.
struct SparseRule {
  enum class Kind : std::uint8_t { largest, largest_blocks, random };
  Kind kind = Kind::largest;
  std::size_t wanted = 0;     ///< elements or blocks
  RandomStream::Keys keys{};  ///< of Strata
  bool is_scaled = false;     ///< random only: values are multiplied by the number of elements of their stratum
  bool by_largest = false;    ///< blocks only: their norm is the largest magnitude, not l2
  bool takes_zeros = false;   ///< not random: where fewer than wanted are not zero, the first zeros go along
  bool guesses = false;       ///< largest only
  ThresholdGuess guess{};
};

/// What frames of one tensor have in common, whatever its data.
struct SparseShape {
  std::size_t count = 0;     ///< elements of the tensor
  std::size_t block = 0;     ///< not 0: what is chosen are blocks of so many elements
  std::size_t most = 0;      ///< most that are chosen: elements, or blocks
  std::size_t capacity = 0;  ///< bytes of device memory that hold a frame, a multiple of 16
  bool is_seeded = false;    ///< places are drawn
  sparse::ValueCoding::Kind values{};
  std::size_t value_bytes = 0;  ///< Kind::frame only: of the frame of the values of `most`; there are never fewer
};

struct SparseEncode {
  SparseShape shape;
  SparseRule rule;
  ConstTensor x;
  std::byte* frame = nullptr;
  float* residual = nullptr;  ///< null; or x, or memory of its own
};

/// Of Kind::frame. An encoder writes the values' frame and replaces the values by what decoding it will give; a decoder
/// gives the values. Only launches, on the job's stream.
using CodeValues = std::function<void(Tensor values, Bytes section)>;
using ReadValues = std::function<void(ConstBytes section, Tensor values)>;

/// `start` is right but for the last word, the frame's size.
void sparse_encode(const SparseEncode& job, const FrameStart& start, const CodeValues& code, StreamRef stream);

struct SparseDecode {
  SparseShape shape;
  const std::byte* frame = nullptr;
  Tensor y;
  Write write{};
};
void sparse_decode(const SparseDecode& job, const FrameStart& expected, const ReadValues& read, StreamRef stream);

}  // namespace gradwire::device
