#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "compress/frame.hpp"
#include "compress/learn_levels.hpp"
#include "compress/quantize_params.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire {

/// `quantize(levels=learned)`: levels found by Lloyd-Max (Lloyd, IEEE Trans. IT 28(2), 1982) on a sample of the input,
/// sent along, 2 to 4 bits an element. With refresh=1 every encode learns its own; else a piece of a parameter, as one
/// rank sends it, keeps its levels for `refresh` steps, and what they are depends on the history of the run. Frames in
/// device memory are decoded, but not encoded: levels are learned on a host.
class LearnedCompressor {
 public:
  struct Options {
    std::uint32_t bits = 4;
    std::uint32_t bucket = 512;
    std::uint32_t refresh = 1;
    std::uint32_t sample = 4096;
  };

  explicit LearnedCompressor(const Options& options);

  [[nodiscard]] std::string_view spec() const noexcept { return spec_; }
  [[nodiscard]] CompressorTraits traits() const noexcept;
  [[nodiscard]] std::size_t max_frame_size(std::size_t count, DType dtype) const;
  /// Allocates when a piece is first seen and refresh is above 1.
  std::size_t encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key, StreamRef stream) const;
  std::size_t decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const;
  [[nodiscard]] double error_bound(std::size_t count) const noexcept;
  void add_memories(std::vector<StepMemory*>& all) const;

 private:
  class Cache;

  [[nodiscard]] frame::Identity identity() const noexcept { return {frame::Codec::levels, params_.options()}; }
  [[nodiscard]] Codebook levels_for(ConstTensor x, const RandomKey& key) const;

  Options options_;
  QuantizeParams params_;
  std::string spec_;
  std::shared_ptr<Cache> cache_;  ///< shared by copies, like the options
};

}  // namespace gradwire
