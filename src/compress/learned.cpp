#include "compress/learned.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <compare>
#include <map>
#include <mutex>
#include <optional>

#include "compress/frame.hpp"
#include "compress/isa.hpp"
#include "compress/kernels.hpp"
#include "compress/quantize_bound.hpp"
#include "compress/refuse.hpp"

namespace gradwire {

static_assert(CompressorImpl<LearnedCompressor>);

/// What was learned of each piece, and when. Ranks draw from seeds of their own, so that those that share this
/// compressor as threads of one process do not meet here.
class LearnedCompressor::Cache {
 public:
  [[nodiscard]] std::optional<Codebook> find(const RandomKey& key, std::uint32_t refresh) {
    const std::scoped_lock lock(mutex_);
    const auto found = pieces_.find(Piece{key.seed, key.first_element, key.param});
    if (found == pieces_.end() || key.step < found->second.step || key.step - found->second.step >= refresh) return {};
    return found->second.codebook;
  }

  void put(const RandomKey& key, const Codebook& codebook) {
    constexpr std::size_t kMostPieces = 1 << 16;  // those of a run's changing plans and seeds must not pile up
    const std::scoped_lock lock(mutex_);
    if (pieces_.size() >= kMostPieces) pieces_.clear();
    pieces_.insert_or_assign(Piece{key.seed, key.first_element, key.param}, Learned{key.step, codebook});
  }

 private:
  struct Piece {
    std::uint64_t seed;
    std::uint64_t first_element;
    ParamId param;
    auto operator<=>(const Piece&) const = default;
  };
  struct Learned {
    std::uint64_t step;
    Codebook codebook;
  };

  std::mutex mutex_;
  std::map<Piece, Learned> pieces_;
};

LearnedCompressor::LearnedCompressor(const Options& options)
    : options_(options),
      params_{.bits = options.bits, .bucket = options.bucket, .levels = gradwire::Levels::learned},
      spec_(fmt::format("quantize(bits={},bucket={},norm=linf,round=nearest,levels=learned,refresh={},sample={})",
                        options.bits, options.bucket, options.refresh, options.sample)),
      cache_(std::make_shared<Cache>()) {}

CompressorTraits LearnedCompressor::traits() const noexcept {
  CompressorTraits traits;
  traits.block_elems = params_.bucket;
  return traits;
}

double LearnedCompressor::error_bound(std::size_t count) const noexcept {
  return quantize_error_bound(params_, std::min<std::size_t>(params_.bucket, count));
}

std::size_t LearnedCompressor::max_frame_size(std::size_t count, DType) const {
  frame::check_count(count, spec_);
  return frame::kHeaderBytes + QuantizeLayout{params_, count}.payload_bytes();
}

Codebook LearnedCompressor::levels_for(ConstTensor x, const RandomKey& key) const {
  const LearnOptions learn{options_.bits, options_.bucket, options_.sample};
  if (options_.refresh == 1) return learn_levels(x, learn);
  if (const auto cached = cache_->find(key, options_.refresh)) return *cached;
  const Codebook learned = learn_levels(x, learn);
  cache_->put(key, learned);
  return learned;
}

std::size_t LearnedCompressor::encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key,
                                      StreamRef stream) const {
  frame::check_host(stream, spec_);
  const std::size_t frame_bytes = max_frame_size(x.count, x.dtype);
  frame::check_encode(x, out, residual, frame_bytes, spec_);
  frame::write_header(out.data, {frame::Codec::levels, x.dtype, params_.options(), static_cast<std::uint32_t>(x.count),
                                 static_cast<std::uint32_t>(frame_bytes / frame::kAlign)});
  const Codebook codebook = levels_for(x, key);
  const std::size_t encoded = isa::kernels<QuantizeKernels>().encode(
      {params_, x, out.data + frame::kHeaderBytes, static_cast<float*>(residual.data), key, codebook.data()});
  if (encoded != x.count)
    refuse_non_finite(x, {encoded, std::min<std::size_t>(params_.bucket, x.count - encoded), spec_});
  return frame_bytes;
}

std::size_t LearnedCompressor::decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const {
  frame::check_host(stream, spec_);
  frame::check_decode(in, y, spec_);
  const frame::Header header = frame::read_header(in, {frame::Codec::levels, params_.options(), y.count, spec_});
  const std::size_t frame_bytes = max_frame_size(y.count, header.dtype);
  frame::check_size(in, header, frame_bytes, spec_);
  isa::kernels<QuantizeKernels>().decode({params_, in.data + frame::kHeaderBytes, y, write});
  return frame_bytes;
}

}  // namespace gradwire
