#pragma once
#include <cstddef>
#include <cstdint>

#include "compress/device/frame_start.hpp"
#include "compress/kernels.hpp"

/// \file What kernels on devices do and those on hosts do not.
namespace gradwire::device {

/// A codec's job on one frame, and that frame's first 16 bytes: to be written, or to be found in front of the payload.
template <class Job>
struct Framed {
  Job job;
  FrameStart start;
};

/// Buckets of whole tiles, and norms that are found without a sum over them: one kernel reads payloads once.
[[nodiscard]] constexpr bool can_quantize_sum(const QuantizeParams& params) noexcept {
  return params.packing == Packing::planes && params.bucket % 128 == 0 &&
         (params.norm == Norm::linf || params.norm == Norm::minmax) && params.levels != Levels::learned;
}

/// Frames of the same codec and size behind one another, each of `elements` elements of the same tensor in turn.
struct FrameRun {
  std::size_t frames = 1;
  std::size_t elements = 0;
  std::size_t bytes = 0;  ///< from one to the next
};
/// A job on a run of frames, of which it is the first one's.
template <class Job>
struct FramedRun {
  Job job;
  FrameStart start;
  FrameRun run{};
};
using QuantizeEncodeRun = FramedRun<kernels::QuantizeEncode>;
using QuantizeDecodeRun = FramedRun<kernels::QuantizeDecode>;

/// What an owner of a chunk encodes: its own input (f32) and, added to it in turn, what a frame of each message holds,
/// of the same layout.
struct QuantizeSum {
  kernels::QuantizeEncode own;
  FrameStart start;   ///< of all of these frames
  std::size_t first;  ///< byte at which the frame begins in each message
};
struct SumMessages {
  static constexpr std::size_t kMost = 63;

  const std::byte* at[kMost] = {};
  std::uint32_t count = 0;

  /// The payload of the message's frame that begins at `first`.
  [[nodiscard]] constexpr const std::byte* payload(std::uint32_t message, std::size_t first) const noexcept {
    return at[message] + first + sizeof(FrameStart);
  }
};

/// A frame of rotate, as far as it does not depend on the inner compressor. Its payload: the key of the signs, and
/// factors.
struct Rotation {
  std::size_t count = 0;
  /// Elements of a transform; those of the last one are followed by zeros, up to fewer than that.
  std::size_t block = 0;
  bool has_factors = false;
  /// A multiple of `block`: what is before that element was done by rotate_quantize_encode() or its counterpart.
  std::size_t begin = 0;
};

/// Whole spans of a rotation: each one frame of `quantize`.
struct RotatedSpans {
  FrameRun run;
  QuantizeParams params;
  FrameStart start;  ///< of each of the frames
};
inline constexpr std::size_t kRotationChunk = 4096;  ///< elements in a thread block's shared memory

/// Whether a kernel rotates and quantises them at once: blocks and buckets within chunks, buckets of whole tiles, and
/// norms that are found without a sum over them.
[[nodiscard]] constexpr bool can_rotate_and_quantize(const Rotation& rotation, const RotatedSpans& spans) noexcept {
  return rotation.block <= kRotationChunk && spans.run.elements % kRotationChunk == 0 &&
         kRotationChunk % spans.params.bucket == 0 && can_quantize_sum(spans.params);
}

}  // namespace gradwire::device
