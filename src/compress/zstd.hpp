#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "compress/spec.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire {

/// `|zstd(level,split)`: a lossless stage behind any compressor that makes frames. Source: Zstandard, RFC 8878; the
/// split of floats into planes of bytes is the "shuffle" of Blosc and HDF5.
///
/// The inner compressor's frame goes through libzstd, and is carried as it is where that does not shrink it. Each
/// thread keeps libzstd's contexts and one buffer, as large as the largest inner frame it has met: nothing is allocated
/// once that has come. Same values, same input: the frame's bytes may differ between versions of libzstd, what they
/// decode to does not.
///
/// A sparsifier's facet is passed on, with its frames compressed. Integer coders and low-rank schemes exchange no
/// frames, so theirs is not: algorithms that ask for it say so.
class ZstdCompressor {
 public:
  struct Options {
    std::uint32_t level = 1;
    bool split = true;  ///< floats by planes of bytes
  };

  ZstdCompressor(Compressor inner, const Options& options);

  [[nodiscard]] std::string_view spec() const noexcept { return spec_; }
  [[nodiscard]] CompressorTraits traits() const noexcept;
  [[nodiscard]] std::size_t max_frame_size(std::size_t count, DType dtype) const;
  std::size_t encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key, StreamRef stream) const;
  std::size_t decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const;
  [[nodiscard]] double error_bound(std::size_t count) const { return inner_.error_bound(count); }
  [[nodiscard]] const Sparsifier* sparsifier() const noexcept { return sparsifier_.get(); }
  void add_memories(std::vector<StepMemory*>& all) const {
    for (StepMemory* const memory : inner_.step_memories()) all.push_back(memory);
  }

 private:
  Compressor inner_;
  Options options_;
  std::string spec_;
  std::shared_ptr<const Sparsifier> sparsifier_;
};

/// "zstd(...)" behind `inner`. Throws Errc::invalid_argument for options that are wrong and for an inner compressor
/// that makes no frames.
[[nodiscard]] Compressor make_zstd(const Spec& spec, const Compressor& inner);

}  // namespace gradwire
