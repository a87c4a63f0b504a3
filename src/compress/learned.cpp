#include "compress/learned.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "base/fail.hpp"
#include "compress/device/codecs.hpp"
#include "compress/frame.hpp"
#include "compress/isa.hpp"
#include "compress/kernels.hpp"
#include "compress/quantize_bound.hpp"
#include "compress/refuse.hpp"
#include "compress/step_cache.hpp"

namespace gradwire {

static_assert(CompressorImpl<LearnedCompressor>);

/// By seed, parameter and first element.
class LearnedCompressor::Cache : public StepCache<std::tuple<std::uint64_t, ParamId, std::uint64_t>, Codebook> {};

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
  const std::tuple piece(key.seed, key.param, key.first_element);
  if (const auto cached = cache_->find(piece, key.step, options_.refresh)) return *cached;
  const Codebook learned = learn_levels(x, learn);
  cache_->store(piece, key.step, learned);
  return learned;
}

std::size_t LearnedCompressor::encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key,
                                      StreamRef stream) const {
  if (x.space == Space::device)
    fail(Errc::unsupported, "{} learns its levels on a host: it encodes host memory only; device memory is decoded",
         spec_);
  const std::size_t frame_bytes = frame::begin_fixed(*this, identity(), x, out, residual, stream);
  const Codebook codebook = levels_for(x, key);
  const std::size_t encoded = isa::kernels<QuantizeKernels>().encode(
      {params_, x, out.data + frame::kHeaderBytes, static_cast<float*>(residual.data), key, codebook.data()});
  if (encoded != x.count)
    refuse_non_finite(x, {encoded, std::min<std::size_t>(params_.bucket, x.count - encoded), spec_});
  return frame_bytes;
}

std::size_t LearnedCompressor::decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const {
  const kernels::QuantizeDecode job{params_, in.data + frame::kHeaderBytes, y, write};
  if (y.space == Space::device) {
    const frame::OnDevice found = frame::open_device(*this, identity(), in, y, stream);
    device::quantize_decode(device::QuantizeDecodeRun{job, found.start}, stream);
    return found.bytes;
  }
  const frame::Opened opened = frame::open_fixed(*this, identity(), in, y, stream);
  isa::kernels<QuantizeKernels>().decode(job);
  return opened.bytes;
}

void LearnedCompressor::add_memories(std::vector<StepMemory*>& all) const {
  if (options_.refresh > 1) all.push_back(cache_.get());
}

}  // namespace gradwire
