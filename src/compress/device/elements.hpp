#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "compress/device/frame_start.hpp"
#include "compress/device/jobs.hpp"
#include "compress/device/memory.hpp"
#include "compress/kernels.hpp"

/// \file What single threads do of the casts and the loops over elements: each has a row part, 4 elements.
namespace gradwire::device {

/// Row parts of a payload, with the zeros that fill its last 16 bytes.
[[nodiscard]] constexpr std::size_t payload_parts(const kernels::CastEncode& job) noexcept {
  const std::size_t bytes = (job.x.count * size_of(job.to) + 15) / 16 * 16;
  return bytes / size_of(job.to) / kRowPart;
}

GRADWIRE_HD inline void cast_encode_part(const kernels::CastEncode& job, std::size_t part) {
  const std::size_t first = part * kRowPart;
  const std::size_t n = there_from(job.x.count, first);
  float values[kRowPart] = {};
  load_row(job.x.data, job.x.dtype, first, n, values);
  store_row(job.payload, job.to, first, kRowPart, values);
  if (job.residual == nullptr || n == 0) return;
  float sent[kRowPart];
  load_row(job.payload, job.to, first, kRowPart, sent);
  GRADWIRE_UNROLL
  for (std::size_t c = 0; c < kRowPart; ++c) values[c] -= sent[c];
  store_row(job.residual, DType::f32, first, n, values);
}

/// A frame of `none` is of its input's dtype: what its first bytes say, if that goes with `expected` (of whatever
/// dtype) and the frame's size. kNoDType otherwise.
inline constexpr DType kNoDType = DType::u8;
[[nodiscard]] GRADWIRE_HD inline DType input_dtype(const kernels::CastDecode& job, const FrameStart& expected) {
  const std::uint32_t found = load_word(job.payload - sizeof expected) >> 24;
  if (!has_start(job.payload, expected) || found > static_cast<std::uint32_t>(DType::bf16)) return kNoDType;
  const auto dtype = static_cast<DType>(found);
  const std::size_t blocks = 1 + (job.y.count * size_of(dtype) + 15) / 16;
  return blocks == expected.words[3] ? dtype : kNoDType;
}

GRADWIRE_HD inline void cast_decode_part(const kernels::CastDecode& job, std::size_t part, bool is_ours) {
  const std::size_t first = part * kRowPart;
  const std::size_t n = there_from(job.y.count, first);
  if (n == 0) return;
  float values[kRowPart] = {kNaN, kNaN, kNaN, kNaN};
  if (is_ours) load_row(job.payload, job.from, first, n, values);
  if (job.write == Write::add) {
    float sum[kRowPart] = {};
    load_row(job.y.data, job.y.dtype, first, n, sum);
    GRADWIRE_UNROLL
    for (std::size_t c = 0; c < kRowPart; ++c) values[c] = sum[c] + values[c];
  }
  store_row(job.y.data, job.y.dtype, first, n, values);
}

/// Bits as they are, NaNs' too.
template <class Word, class Four>
GRADWIRE_HD void copy_words(const ops::CopyJob& job, std::size_t first, std::size_t n) {
  auto* const to = static_cast<std::byte*>(job.to.data) + first * sizeof(Word);
  const auto* const from =
      job.from == nullptr ? nullptr : static_cast<const std::byte*>(job.from) + first * sizeof(Word);
  const auto is_aligned = [](const std::byte* at) { return reinterpret_cast<std::uintptr_t>(at) % sizeof(Four) == 0; };
  if (GRADWIRE_ROWS_AT_ONCE && n == kRowPart && is_aligned(to) && is_aligned(from)) {
    store_part(to, from == nullptr ? Four{} : load_part<Four>(from));
    return;
  }
  GRADWIRE_UNROLL
  for (std::size_t c = 0; c < kRowPart; ++c) {
    if (c >= n) continue;
    const std::size_t at = c * sizeof(Word);
    store_part(to + at, from == nullptr ? Word{} : load_part<Word>(from + at));
  }
}
GRADWIRE_HD inline void copy_part(const ops::CopyJob& job, std::size_t part) {
  const std::size_t first = part * kRowPart;
  const std::size_t n = there_from(job.to.count, first);
  if (size_of(job.to.dtype) == sizeof(float)) {
    copy_words<std::uint32_t, FourWords>(job, first, n);
  } else {
    copy_words<std::uint16_t, FourHalves>(job, first, n);
  }
}

GRADWIRE_HD inline void scale_add_part(const ops::ScaleAdd& job, std::size_t part) {
  const std::size_t first = part * kRowPart;
  const std::size_t n = there_from(job.x.count, first);
  float values[kRowPart] = {};
  float addend[kRowPart] = {};
  load_row(job.x.data, job.x.dtype, first, n, values);
  if (job.addend != nullptr) load_row(job.addend, DType::f32, first, n, addend);
  GRADWIRE_UNROLL
  for (std::size_t c = 0; c < kRowPart; ++c) {
    values[c] *= job.scale;
    if (job.addend != nullptr) values[c] += addend[c];
  }
  store_row(job.out, DType::f32, first, n, values);
}

GRADWIRE_HD inline void scale_part(const Tensor& tensor, float factor, std::size_t part) {
  const std::size_t first = part * kRowPart;
  const std::size_t n = there_from(tensor.count, first);
  float values[kRowPart] = {};
  load_row(tensor.data, tensor.dtype, first, n, values);
  GRADWIRE_UNROLL
  for (std::size_t c = 0; c < kRowPart; ++c) values[c] *= factor;
  store_row(tensor.data, tensor.dtype, first, n, values);
}

[[nodiscard]] GRADWIRE_HD inline bool is_finite_part(const ConstTensor& x, std::size_t part) {
  float values[kRowPart] = {};
  load_row(x.data, x.dtype, part * kRowPart, there_from(x.count, part * kRowPart), values);
  bool all = true;
  GRADWIRE_UNROLL
  for (std::size_t c = 0; c < kRowPart; ++c) all = all && std::isfinite(values[c]);
  return all;
}

}  // namespace gradwire::device
