#pragma once
#include <cstddef>
#include <cstdint>

#include "compress/device/jobs.hpp"
#include "compress/random.hpp"
#include "compress/rotate_kernels.hpp"
#include "compress/thc_arithmetic.hpp"

#include "gradwire/types.hpp"

/// \file What integer coders do on device memory; all pointers are of the device, aligned to what they point to. As in
/// device/codecs.hpp, calls only launch.
namespace gradwire::device {

/// Each of `to`, a range, is the largest of its column: of `rows` rows of as many floats, `pitch` floats apart. `to`
/// may be one of them.
void largest_of_rows(const float* first, std::size_t rows, std::size_t pitch, Tensor to, StreamRef stream);

/// A tensor as `thc` codes it: blocks without factors, whose last one is padded with zeros.
struct ThcBlocks {
  Rotation rotation;
  thc::Scale scale;
  kernels::SignKey signs;
};
/// A range for each block, NaN where an element is not finite or too large.
void thc_ranges(const ThcBlocks& blocks, ConstTensor x, float* ranges, StreamRef stream);
/// Codes of all elements and of the padding, as u8, u16 or u32. In a block whose range is NaN they are of no use.
void thc_encode(const ThcBlocks& blocks, ConstTensor x, const float* ranges, const RandomKey& own, Tensor codes,
                StreamRef stream);
/// residual = x - what x's own codes stand for.
void thc_residual(const ThcBlocks& blocks, ConstTensor codes, const float* ranges, ConstTensor x, float* residual,
                  StreamRef stream);
/// y = what sums of codes stand for, `offset` being the largest code times their number; NaN where a range is.
void thc_decode(const ThcBlocks& blocks, ConstTensor codes, std::int32_t offset, const float* ranges, Tensor y,
                StreamRef stream);

/// One element of each of `chosen` strata of `count` elements: the codes of `randomk`.
struct DrawnValues {
  std::size_t count = 0;
  std::size_t chosen = 0;
  RandomStream::Keys keys{};
  bool is_scaled = false;  ///< values are multiplied by the number of elements of their stratum
};
/// `codes` are the values there, and residual = x - those, unless it is null. All of the codes are NaN where an element
/// of x, drawn or not, is not finite or would not be when multiplied by the largest stratum's number.
void draw_values(const DrawnValues& drawn, ConstTensor x, float* codes, float* residual, StreamRef stream);
/// y = the codes at their places, and 0 elsewhere.
void put_values(const DrawnValues& drawn, const float* codes, Tensor y, StreamRef stream);

}  // namespace gradwire::device
