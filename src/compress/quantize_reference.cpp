/// \file The obvious scalar loops of `quantize`, `sign` and `ternary`: the oracle for QuantizeKernels.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "compress/isa.hpp"
#include "compress/kernels.hpp"
#include "compress/quantize_codes.hpp"
#include "compress/random.hpp"
#include "compress/reference.hpp"

namespace gradwire {
namespace {
using namespace reference;

float norm_of(const QuantizeParams& params, const std::vector<float>& x) {
  float most = 0;
  std::array<float, 16> magnitudes{};
  std::array<float, 16> squares{};
  for (std::size_t i = 0; i < x.size(); ++i) {
    most = std::max(most, std::fabs(x[i]));
    magnitudes[i % 16] += std::fabs(x[i]);
    squares[i % 16] += x[i] * x[i];
  }
  switch (params.norm) {
    case Norm::mean: return mean_from_partial_sums(magnitudes.data(), x.size());
    case Norm::l2: return norm_from_partial_sums(squares.data());
    case Norm::clipped: return clipped_norm(params.clip, most, norm_from_partial_sums(squares.data()), x.size());
    default: return most;
  }
}

bool find_scale(const QuantizeParams& params, const std::vector<float>& x, BucketScale& scale) {
  for (const float value : x)
    if (!std::isfinite(value)) return false;
  if (params.norm == Norm::minmax) {
    const auto [min, max] = std::minmax_element(x.begin(), x.end());
    return scale_from_norm(params, *max - *min, *min, scale);
  }
  return scale_from_norm(params, norm_of(params, x), 0, scale);
}

/// Calls visit(byte offset, bit in the byte, bit in the code, width) for the element's share of each plane.
template <class Visit>
void visit_planes(const QuantizeLayout& layout, std::size_t element, Visit visit) {
  const std::size_t row = element / QuantizeLayout::kRow;
  const std::size_t column = element % QuantizeLayout::kRow;
  unsigned code_bit = 0;
  for (const unsigned width : {8u, 4u, 2u, 1u}) {
    if (!layout.has_plane(width)) continue;
    const std::size_t rows_per_unit = 8 / width;
    const std::size_t byte = layout.plane_offset(width) + 16 * (row / rows_per_unit) + column;
    visit(byte, static_cast<unsigned>(width * (row % rows_per_unit)), code_bit, width);
    code_bit += width;
  }
}

std::size_t trit_byte(const QuantizeLayout& layout, std::size_t element) {
  const std::size_t row = element / QuantizeLayout::kRow;
  return layout.trit_offset() + 16 * (row / QuantizeLayout::kTritRows) + element % QuantizeLayout::kRow;
}

int trit_weight(std::size_t element) {
  constexpr int kWeights[] = {1, 3, 9, 27, 81};
  return kWeights[element / QuantizeLayout::kRow % QuantizeLayout::kTritRows];
}

/// Into a payload that is zero where codes go.
void put_code(const QuantizeLayout& layout, std::byte* payload, std::size_t element, int code) {
  if (layout.params.packing == Packing::trits) {
    std::byte& byte = payload[trit_byte(layout, element)];
    byte = static_cast<std::byte>(static_cast<int>(byte) + code * trit_weight(element));
    return;
  }
  visit_planes(layout, element, [&](std::size_t byte, unsigned bit, unsigned code_bit, unsigned width) {
    const unsigned part = (static_cast<unsigned>(code) >> code_bit) & ((1u << width) - 1u);
    payload[byte] |= static_cast<std::byte>(part << bit);
  });
}

int get_code(const QuantizeLayout& layout, const std::byte* payload, std::size_t element) {
  if (layout.params.packing == Packing::trits)
    return std::min(static_cast<int>(payload[trit_byte(layout, element)]), 242) / trit_weight(element) % 3;
  int code = 0;
  visit_planes(layout, element, [&](std::size_t byte, unsigned bit, unsigned code_bit, unsigned width) {
    const unsigned part = (static_cast<unsigned>(payload[byte]) >> bit) & ((1u << width) - 1u);
    code |= static_cast<int>(part << code_bit);
  });
  return code;
}

/// Where the scale of the element's bucket lies in the payload.
std::size_t scales_of(const QuantizeLayout& layout, std::size_t element) {
  return layout.scale_offset() + element / layout.params.bucket * layout.scale_floats() * sizeof(float);
}

std::size_t quantize_encode(const kernels::QuantizeEncode& job) {
  const QuantizeLayout layout{job.params, job.x.count};
  const RandomStream random(job.key);
  if (layout.payload_bytes() == 0) return 0;
  std::memset(job.payload, 0, layout.payload_bytes());
  if (job.codebook != nullptr) std::memcpy(job.payload, job.codebook, layout.scale_offset());
  for (std::size_t first = 0; first < job.x.count; first += job.params.bucket) {
    std::vector<float> x(std::min<std::size_t>(job.params.bucket, job.x.count - first));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = load(job.x.data, job.x.dtype, first + i);
    BucketScale scale;
    if (!find_scale(job.params, x, scale)) return first;
    std::byte* const scales = job.payload + scales_of(layout, first);
    store(scales, DType::f32, 0, scale.unit);
    if (job.params.norm == Norm::minmax) store(scales, DType::f32, 1, scale.min);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const int code = code_of(job.params, scale, x[i], random.at(job.key.first_element + first + i), job.codebook);
      put_code(layout, job.payload, first + i, code);
      store_residual(job.residual, first + i, x[i] - value_of(job.params, scale, code, job.codebook));
    }
  }
  return job.x.count;
}

void quantize_decode(const kernels::QuantizeDecode& job) {
  const QuantizeLayout layout{job.params, job.y.count};
  std::array<float, 16> codebook{};
  if (job.y.count != 0) std::memcpy(codebook.data(), job.payload, layout.scale_offset());
  for (std::size_t i = 0; i < job.y.count; ++i) {
    const std::byte* const scales = job.payload + scales_of(layout, i);
    BucketScale scale;
    scale.unit = load(scales, DType::f32, 0);
    if (job.params.norm == Norm::minmax) scale.min = load(scales, DType::f32, 1);
    put(job.y, job.write, i, value_of(job.params, scale, get_code(layout, job.payload, i), codebook.data()));
  }
}

std::size_t quantize_errors(const kernels::QuantizeErrors& job) {
  kernels::QuantizeEncode coding{job.params, {}, nullptr, nullptr, {}};
  std::vector<float> lost(job.count);
  for (std::size_t w = 0; w < job.widths; ++w) {
    coding.params.bits = job.bits[w];
    for (std::size_t first = 0; first < job.count; first += job.params.bucket) {
      const std::vector<float> x(job.x + first, job.x + std::min<std::size_t>(first + job.params.bucket, job.count));
      BucketScale scale;
      if (!find_scale(coding.params, x, scale)) return first;
      for (std::size_t i = 0; i < x.size(); ++i)
        lost[first + i] =
            x[i] - value_of(coding.params, scale, code_of(coding.params, scale, x[i], 0, nullptr), nullptr);
    }
    job.squares[w] = isa::scalar_kernels<ElementKernels>().sum_squares(lost.data(), lost.size());
  }
  return job.count;
}

}  // namespace

template <>
const QuantizeKernels& isa::scalar_kernels<QuantizeKernels>() noexcept {
  static constexpr QuantizeKernels kKernels{quantize_encode, quantize_decode, quantize_errors};
  return kKernels;
}

}  // namespace gradwire
