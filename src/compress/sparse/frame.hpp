#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "compress/random.hpp"
#include "compress/sparse/values.hpp"

#include "gradwire/compressor.hpp"

/// \file Frames of codec 11, one for all sparsifiers: docs/wire-format.md section 1.11.
namespace gradwire::sparse {

/// What a frame of entries is of.
struct FrameShape {
  std::size_t count;                         ///< elements of the tensor
  DType dtype = DType::f32;                  ///< of the tensor
  std::size_t block = 0;                     ///< a multiple of 32: where entries fill whole blocks, blocks are indexed
  const RandomStream::Keys* seed = nullptr;  ///< entries are the places that these keys draw: no index is written
  bool fixed = false;  ///< places are coded as devices do, in a number of bytes that follows from that of places
};

/// Bytes that hold any frame of `entries` entries or fewer.
[[nodiscard]] std::size_t max_frame_bytes(std::size_t count, std::size_t entries, const ValueCoding& values);

/// Writes a frame and returns its size; replaces each value by what decode_frame will give for it.
std::size_t encode_frame(const Entries& entries, const FrameShape& shape, const ValueCoding& values, Bytes out,
                         const RandomKey& key);

/// Reads all of a frame before it touches y. Throws Errc::bad_frame. Returns the frame's size.
std::size_t decode_frame(ConstBytes in, Tensor y, Write write, const ValueCoding& values, std::string_view spec);

}  // namespace gradwire::sparse
