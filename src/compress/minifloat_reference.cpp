/// \file f8, mx* and nvfp4 as obvious scalar loops: the oracle that every instruction set equals bit for bit.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/half.hpp"
#include "compress/isa.hpp"
#include "compress/minifloat_codes.hpp"
#include "compress/minifloat_kernels.hpp"
#include "compress/random.hpp"

namespace gradwire {
namespace {

using namespace minifloat;

float most_of(const float* x, std::size_t n) {
  float most = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (!std::isfinite(x[i])) return HUGE_VALF;
    most = std::max(most, std::fabs(x[i]));
  }
  return most;
}

void write_f32(std::byte* at, float value) { std::memcpy(at, &value, sizeof value); }

float read_f32(const std::byte* at) {
  float value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/// Writes the scales of one block and gives the unit of each of its rows; none when the block has no scale.
std::vector<MinifloatUnit> scale_block(const kernels::MinifloatEncode& job, const std::vector<float>& x,
                                       std::size_t first) {
  const MinifloatLayout layout{job.params, job.x.count};
  const MinifloatShape shape = job.params.shape();
  const std::size_t block = first / job.params.block;
  std::vector<MinifloatUnit> rows((x.size() + MinifloatLayout::kRow - 1) / MinifloatLayout::kRow);
  const float most = most_of(x.data(), x.size());
  if (!(most <= most_magnitude(job.params.scale))) return {};
  switch (job.params.scale) {
    case MinifloatScale::f32: {
      std::fill(rows.begin(), rows.end(), unit_of_block(most, shape));
      write_f32(job.payload + block * sizeof(float), rows[0].unit);
      break;
    }
    case MinifloatScale::e8m0: {
      const std::uint8_t scale = e8m0_of_block(most, shape);
      std::fill(rows.begin(), rows.end(), unit_of_e8m0(most, scale));
      job.payload[block] = static_cast<std::byte>(scale);
      break;
    }
    case MinifloatScale::nvfp4: {
      const MinifloatUnit span = unit_of_span(most);
      write_f32(job.payload + block * sizeof(float), span.unit);
      for (std::size_t row = 0; row < rows.size(); ++row) {
        const std::size_t i = row * MinifloatLayout::kRow;
        const float scale = most_of(x.data() + i, std::min(MinifloatLayout::kRow, x.size() - i)) * span.inv;
        const std::uint32_t code = group_scale_of(scale, job.params.round);
        job.payload[layout.group_scale_offset() + first / MinifloatParams::kGroup + row] = static_cast<std::byte>(code);
        rows[row] = unit_of_group(code, span.unit);
      }
      break;
    }
  }
  return rows;
}

float unit_of_element(const kernels::MinifloatDecode& job, const MinifloatLayout& layout, std::size_t i) {
  const std::size_t block = i / job.params.block;
  if (job.params.scale == MinifloatScale::e8m0) return value_of_e8m0(static_cast<std::uint8_t>(job.payload[block]));
  const float unit = read_f32(job.payload + block * sizeof(float));
  if (job.params.scale == MinifloatScale::f32) return unit;
  const auto code = job.payload[layout.group_scale_offset() + i / MinifloatParams::kGroup];
  return shape_of(MinifloatFormat::e4m3).value(static_cast<std::uint32_t>(code)) * unit;
}

/// Calls visit(byte offset, bit in the byte, bit in the code, width) for the element's share of each plane.
template <class Visit>
void visit_planes(const MinifloatLayout& layout, std::size_t element, Visit visit) {
  const std::size_t row = element / MinifloatLayout::kRow;
  const std::size_t column = element % MinifloatLayout::kRow;
  unsigned code_bit = 0;
  for (const unsigned width : {8u, 4u, 2u}) {
    if (!layout.has_plane(width)) continue;
    const std::size_t rows_per_unit = 8 / width;
    const std::size_t byte = layout.plane_offset(width) + 16 * (row / rows_per_unit) + column;
    visit(byte, static_cast<unsigned>(width * (row % rows_per_unit)), code_bit, width);
    code_bit += width;
  }
}

std::size_t encode(const kernels::MinifloatEncode& job) {
  const MinifloatLayout layout{job.params, job.x.count};
  const MinifloatShape shape = job.params.shape();
  const RandomStream random(job.key);
  if (job.x.count == 0) return 0;
  std::memset(job.payload, 0, layout.payload_bytes());
  for (std::size_t first = 0; first < job.x.count; first += job.params.block) {
    std::vector<float> x(std::min<std::size_t>(job.params.block, job.x.count - first));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = load_f32(job.x.data, job.x.dtype, first + i);
    const std::vector<MinifloatUnit> rows = scale_block(job, x, first);
    if (rows.empty()) return first;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const MinifloatUnit& scale = rows[i / MinifloatLayout::kRow];
      const float u = RandomStream::unit_interval(random.at(job.key.first_element + first + i));
      const std::uint32_t code = code_of(shape, x[i] * scale.inv, {job.params.round, u});
      visit_planes(layout, first + i, [&](std::size_t byte, unsigned bit, unsigned code_bit, unsigned width) {
        job.payload[byte] |= static_cast<std::byte>(((code >> code_bit) & ((1u << width) - 1u)) << bit);
      });
      if (job.residual != nullptr)
        store_f32(job.residual, DType::f32, first + i, x[i] - shape.value(code) * scale.unit);
    }
  }
  return job.x.count;
}

void decode(const kernels::MinifloatDecode& job) {
  const MinifloatLayout layout{job.params, job.y.count};
  const MinifloatShape shape = job.params.shape();
  for (std::size_t i = 0; i < job.y.count; ++i) {
    unsigned code = 0;
    visit_planes(layout, i, [&](std::size_t byte, unsigned bit, unsigned code_bit, unsigned width) {
      const unsigned part = (static_cast<unsigned>(job.payload[byte]) >> bit) & ((1u << width) - 1u);
      code |= part << code_bit;
    });
    const float value = shape.value(code) * unit_of_element(job, layout, i);
    const float sum = job.write == Write::add ? load_f32(job.y.data, job.y.dtype, i) + value : value;
    store_f32(job.y.data, job.y.dtype, i, saturate(sum, job.y.dtype));
  }
}

}  // namespace

template <>
const MinifloatKernels& isa::scalar_kernels<MinifloatKernels>() noexcept {
  static constexpr MinifloatKernels kKernels{encode, decode};
  return kKernels;
}

}  // namespace gradwire
