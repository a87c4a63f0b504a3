#include "base/device.hpp"
#include "compress/common_range.hpp"
#include "compress/device/integer_codes_tile.hpp"
#include "compress/device/launch.cuh"

namespace gradwire::device {
namespace {

/// A thread a column.
__global__ void __launch_bounds__(kBlockThreads)
    find_largest_of_rows(const float* first, std::size_t rows, std::size_t pitch, const Tensor to) {
  for (std::size_t i = thread_index(); i < to.count; i += thread_count()) {
    float largest = first[i];
    for (std::size_t row = 1; row < rows; ++row) largest = larger_range(largest, first[row * pitch + i]);
    static_cast<float*>(to.data)[i] = largest;
  }
}

/// A thread a row part.
__global__ void __launch_bounds__(kBlockThreads)
    see_all_values(const ConstTensor x, std::size_t parts, float* residual, std::uint32_t* most) {
  std::uint32_t own = 0;
  for (std::size_t part = thread_index(); part < parts; part += thread_count()) {
    const std::uint32_t seen = see_values(x, part, residual);
    own = seen > own ? seen : own;
  }
  own = __reduce_max_sync(kAllLanes, own);
  if (threadIdx.x % kWarp == 0 && own != 0) atomicMax(most, own);
}

/// A thread a stratum.
__global__ void __launch_bounds__(kBlockThreads)
    draw_all_values(const DrawnValues drawn, const ConstTensor x, const std::uint32_t* most, float* codes,
                    float* residual) {
  const bool can = can_draw(drawn, *most);
  for (std::size_t j = thread_index(); j < drawn.chosen; j += thread_count())
    draw_value(drawn, x, j, can, codes, residual);
}

__global__ void __launch_bounds__(kBlockThreads)
    put_all_values(const DrawnValues drawn, const float* codes, const Tensor y) {
  for (std::size_t j = thread_index(); j < drawn.chosen; j += thread_count()) {
    const std::size_t place = sparse::Strata(j, drawn.chosen, drawn.count).next(drawn.keys).place;
    store_element(y.data, y.dtype, place, codes[j]);
  }
}

}  // namespace

void largest_of_rows(const float* first, std::size_t rows, std::size_t pitch, Tensor to, StreamRef stream) {
  launch("find_largest_of_rows", find_largest_of_rows, to.count, stream, first, rows, pitch, to);
}

void draw_values(const DrawnValues& drawn, ConstTensor x, float* codes, float* residual, StreamRef stream) {
  if (drawn.chosen == 0) return;
  const Scratch memory(sizeof(std::uint32_t), stream);
  auto* const most = reinterpret_cast<std::uint32_t*>(memory.data());
  zero(most, sizeof *most, stream);
  const std::size_t parts = row_parts(x.count);
  launch("see_all_values", see_all_values, parts, stream, x, parts, residual, most);
  launch("draw_all_values", draw_all_values, drawn.chosen, stream, drawn, x, most, codes, residual);
}

void put_values(const DrawnValues& drawn, const float* codes, Tensor y, StreamRef stream) {
  if (drawn.chosen == 0) return;
  zero(y.data, y.bytes(), stream);
  launch("put_all_values", put_all_values, drawn.chosen, stream, drawn, codes, y);
}

}  // namespace gradwire::device
