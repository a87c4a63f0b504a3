/// \file The obvious scalar loops: the oracle that every instruction set equals bit for bit, and the kernels of the
/// instruction set "scalar".
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/half.hpp"
#include "compress/isa.hpp"
#include "compress/kernels.hpp"
#include "compress/random.hpp"

namespace gradwire {
namespace {

float load(const void* data, DType dtype, std::size_t i) { return load_f32(data, dtype, i); }

void store(void* data, DType dtype, std::size_t i, float value) { store_f32(data, dtype, i, saturate(value, dtype)); }

void store_residual(float* residual, std::size_t i, float value) {
  if (residual != nullptr) store(residual, DType::f32, i, value);
}

void put(Tensor y, Write write, std::size_t i, float value) {
  store(y.data, y.dtype, i, write == Write::add ? load(y.data, y.dtype, i) + value : value);
}

bool cast_encode(const kernels::CastEncode& job) {
  bool finite = true;
  for (std::size_t i = 0; i < job.x.count; ++i) {
    const float x = load(job.x.data, job.x.dtype, i);
    finite = finite && std::isfinite(x);
    store(job.payload, job.to, i, x);
    store_residual(job.residual, i, x - load(job.payload, job.to, i));
  }
  return finite;
}

void cast_decode(const kernels::CastDecode& job) {
  for (std::size_t i = 0; i < job.y.count; ++i) put(job.y, job.write, i, load(job.payload, job.from, i));
}

bool find_scale(const QuantizeParams& params, const std::vector<float>& x, BucketScale& scale) {
  for (const float value : x)
    if (!std::isfinite(value)) return false;
  if (params.norm == Norm::minmax) {
    const auto [min, max] = std::minmax_element(x.begin(), x.end());
    return scale_from_norm(params, *max - *min, *min, scale);
  }
  float s = 0;
  if (params.norm == Norm::linf) {
    for (const float value : x) s = std::max(s, std::fabs(value));
  } else {
    std::array<float, 16> sums{};
    for (std::size_t i = 0; i < x.size(); ++i) sums[i % 16] += x[i] * x[i];
    s = norm_from_partial_sums(sums.data());
  }
  return scale_from_norm(params, s, 0, scale);
}

/// `u` is not used when rounding to nearest.
int code_of(const QuantizeParams& params, const BucketScale& scale, float x, float u) {
  const bool nearest = params.round == Round::nearest;
  const int levels = levels_of(params);
  float code = 0;
  switch (shape_of(params)) {
    case CodeShape::levels:
      code = nearest ? static_cast<float>(levels) + std::rint(x * scale.inv)
                     : std::trunc(x * scale.inv + (static_cast<float>(levels) + u));
      break;
    case CodeShape::sign:
      code = nearest ? (x >= 0 ? 1.0f : 0.0f) : std::trunc((x * scale.inv + 1.0f) * 0.5f + u);
      break;
    case CodeShape::steps:
      code = nearest ? std::rint((x - scale.min) * scale.inv) : std::trunc((x - scale.min) * scale.inv + u);
      break;
  }
  return std::clamp(static_cast<int>(code), 0, top_code(params));
}

float value_of(const QuantizeParams& params, const BucketScale& scale, int code) {
  switch (shape_of(params)) {
    case CodeShape::levels: return static_cast<float>(code - levels_of(params)) * scale.unit;
    case CodeShape::sign: return code != 0 ? scale.unit : -scale.unit;
    case CodeShape::steps: return scale.min + static_cast<float>(code) * scale.unit;
  }
  return 0;
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

std::size_t quantize_encode(const kernels::QuantizeEncode& job) {
  const QuantizeLayout layout{job.params, job.x.count};
  const RandomStream random(job.key);
  if (job.x.count == 0) return 0;
  std::memset(job.payload, 0, layout.payload_bytes());
  for (std::size_t first = 0; first < job.x.count; first += job.params.bucket) {
    std::vector<float> x(std::min<std::size_t>(job.params.bucket, job.x.count - first));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = load(job.x.data, job.x.dtype, first + i);
    BucketScale scale;
    if (!find_scale(job.params, x, scale)) return first;
    std::byte* scales = job.payload + first / job.params.bucket * layout.scale_floats() * sizeof(float);
    store(scales, DType::f32, 0, scale.unit);
    if (job.params.norm == Norm::minmax) store(scales, DType::f32, 1, scale.min);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float u = RandomStream::unit_interval(random.at(job.key.first_element + first + i));
      const int code = code_of(job.params, scale, x[i], u);
      visit_planes(layout, first + i, [&](std::size_t byte, unsigned bit, unsigned code_bit, unsigned width) {
        const unsigned part = (static_cast<unsigned>(code) >> code_bit) & ((1u << width) - 1u);
        job.payload[byte] |= static_cast<std::byte>(part << bit);
      });
      store_residual(job.residual, first + i, x[i] - value_of(job.params, scale, code));
    }
  }
  return job.x.count;
}

void quantize_decode(const kernels::QuantizeDecode& job) {
  const QuantizeLayout layout{job.params, job.y.count};
  for (std::size_t i = 0; i < job.y.count; ++i) {
    const std::byte* scales = job.payload + i / job.params.bucket * layout.scale_floats() * sizeof(float);
    BucketScale scale;
    scale.unit = load(scales, DType::f32, 0);
    if (job.params.norm == Norm::minmax) scale.min = load(scales, DType::f32, 1);
    unsigned code = 0;
    visit_planes(layout, i, [&](std::size_t byte, unsigned bit, unsigned code_bit, unsigned width) {
      const unsigned part = (static_cast<unsigned>(job.payload[byte]) >> bit) & ((1u << width) - 1u);
      code |= part << code_bit;
    });
    put(job.y, job.write, i, value_of(job.params, scale, static_cast<int>(code)));
  }
}

void scale_add(const kernels::ScaleAdd& job) {
  for (std::size_t i = 0; i < job.x.count; ++i) {
    const float scaled = load(job.x.data, job.x.dtype, i) * job.scale;
    store(job.out, DType::f32, i, job.addend == nullptr ? scaled : scaled + load(job.addend, DType::f32, i));
  }
}

bool all_finite(ConstTensor x) {
  for (std::size_t i = 0; i < x.count; ++i)
    if (!std::isfinite(load(x.data, x.dtype, i))) return false;
  return true;
}

double sum_squares(const float* x, std::size_t n) {
  std::array<double, 16> sums{};
  for (std::size_t i = 0; i < n; ++i) {
    const auto value = static_cast<double>(load(x, DType::f32, i));
    sums[i % 16] += value * value;
  }
  for (std::size_t half = 8; half != 0; half /= 2)
    for (std::size_t j = 0; j < half; ++j) sums[j] += sums[j + half];
  return sums[0];
}

}  // namespace

template <>
const ElementKernels& isa::scalar_kernels<ElementKernels>() noexcept {
  static constexpr ElementKernels kKernels{cast_encode, cast_decode, scale_add, all_finite, sum_squares};
  return kKernels;
}

template <>
const QuantizeKernels& isa::scalar_kernels<QuantizeKernels>() noexcept {
  static constexpr QuantizeKernels kKernels{quantize_encode, quantize_decode};
  return kKernels;
}

}  // namespace gradwire
