#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "compress/device/jobs.hpp"
#include "compress/frame.hpp"
#include "compress/rotate_kernels.hpp"
#include "compress/spec.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire {

/// How a block's decoded values are rescaled; Q is what the inner compressor makes of the rotated block y.
enum class RotateScale : std::uint8_t {
  none = 0,         ///< as they are
  contractive = 1,  ///< by <y,Q>/<Q,Q>: the least error
  unbiased = 2,     ///< by <y,y>/<y,Q>: the estimate's component along the block is the block (DRIVE, EDEN)
};

struct RotateParams {
  std::uint32_t block = 4096;  ///< a power of two
  RotateScale scale = RotateScale::none;
  frame::Codec codec = frame::Codec::rotate;  ///< what frames say they are
  float clip = 0;         ///< rotated values are clamped to so many times their block's root mean square; 0: not
  std::string spec = {};  ///< empty: rotate's own
};

/// How elements fall into blocks and blocks into spans, one inner frame each. A tail shorter than a block is followed
/// by zeros up to a power of two.
struct RotateLayout {
  std::size_t block = 0;
  std::size_t span = 0;  ///< a multiple of block

  /// Elements that a run of `count` takes once its tail is padded.
  [[nodiscard]] std::size_t padded(std::size_t count) const noexcept;
  /// Of the block at element `first` of `padded` ones.
  [[nodiscard]] std::size_t block_size(std::size_t padded, std::size_t first) const noexcept {
    return padded - first < block ? padded - first : block;
  }
  [[nodiscard]] std::size_t blocks(std::size_t count) const noexcept { return (count + block - 1) / block; }
};

/// Key of the signs of the elements from key.first_element on.
[[nodiscard]] kernels::SignKey sign_key(const RandomKey& key) noexcept;

/// f32 memory of the calling thread for a span of rotated values and one of decoded ones: at most 512 KiB, allocated
/// by a thread's first encode or decode.
struct RotateScratch {
  float* y;
  float* q;
};
[[nodiscard]] RotateScratch rotate_scratch(std::size_t elems);

/// `rotate(inner,...)`: a randomised Hadamard transform of blocks before a quantiser. It spreads a heavy tail over its
/// block: rotated values are nearly normal, whatever the input. After DRIVE (arXiv:2105.08339) and EDEN
/// (arXiv:2108.08842).
class RotateCompressor {
 public:
  /// Throws Errc::invalid_argument for an inner compressor that is no quantiser.
  RotateCompressor(const RotateParams& params, Compressor inner);

  [[nodiscard]] std::string_view spec() const noexcept { return spec_; }
  [[nodiscard]] CompressorTraits traits() const noexcept;
  [[nodiscard]] std::size_t max_frame_size(std::size_t count, DType dtype) const;
  std::size_t encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key, StreamRef stream) const;
  std::size_t decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const;
  [[nodiscard]] double error_bound(std::size_t count) const;
  void add_memories(std::vector<StepMemory*>& all) const {
    for (StepMemory* const memory : inner_.step_memories()) all.push_back(memory);
  }

  [[nodiscard]] const RotateLayout& layout() const noexcept { return layout_; }

 private:
  struct Spot;
  [[nodiscard]] std::uint32_t options() const noexcept;
  [[nodiscard]] std::size_t factor_bytes(std::size_t count) const noexcept;
  void rotate_span(ConstTensor x, const Spot& spot, float* y) const;
  const float* clip_span(const RotateScratch& scratch, std::size_t padded) const;
  void finish_span(ConstTensor x, const Spot& spot, std::byte* factors, float* residual) const;
  std::size_t encode_on_device(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key, StreamRef stream) const;
  std::size_t decode_on_device(ConstBytes in, Tensor y, Write write, StreamRef stream) const;
  [[nodiscard]] std::optional<device::RotatedSpans> whole_spans(std::size_t count) const;
  void encode_spans(const device::Rotation& rotation, const float* values, std::byte* frames, const RandomKey& key,
                    StreamRef stream) const;
  void decode_spans(const device::Rotation& rotation, const std::byte* frames, float* values, StreamRef stream) const;
  void check_inner_frames(ConstBytes frames, std::size_t count) const;
  [[nodiscard]] double inner_bound(std::size_t padded) const;

  static constexpr std::size_t kSignBytes = 16;

  RotateParams params_;
  Compressor inner_;
  RotateLayout layout_;
  frame::Header inner_header_;  ///< of any of the inner compressor's frames, but for count, dtype and size
  bool inner_may_refuse_;       ///< its payloads, so that they must be tried before output is touched
  std::string spec_;
};

/// "rotate(q4,block=1024,scale=unbiased)".
[[nodiscard]] Compressor make_rotate(const Spec& spec);

}  // namespace gradwire
