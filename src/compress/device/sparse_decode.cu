#include "base/device.hpp"
#include "compress/device/carver.hpp"
#include "compress/device/scan.cuh"
#include "compress/device/sparse_places.hpp"

namespace gradwire::device {
namespace {

using Kind = sparse::ValueCoding::Kind;

/// Device memory of a decoder.
struct Reading {
  std::uint32_t* has_other_count = nullptr;  ///< zero before; not where groups hold other than `chosen` places
  std::uint32_t* has_bad_place = nullptr;    ///< zero before
  std::uint64_t* before = nullptr;           ///< room for most_groups()
  std::uint32_t* places = nullptr;           ///< room for shape.most
  const float* values = nullptr;             ///< decoded ones, where they are a frame
};

__global__ void __launch_bounds__(kBlockThreads)
    count_groups(const SparseDecode job, const FrameStart expected, const Reading reading) {
  const SparseFront front = read_front(job, expected);
  if (!front.is_ours) return;
  const std::size_t groups = groups_of(front);
  if (front.index.coding == sparse::IndexCoding::offsets) {
    for (std::size_t g = thread_index(); g < groups; g += thread_count())
      reading.before[g] = load_word(job.frame + sparse::kHeadBytes + g * sizeof(std::uint32_t));
    return;
  }
  const unsigned lane = threadIdx.x % kWarp;
  for (std::size_t g = thread_index() / kWarp; g < groups; g += thread_count() / kWarp) {
    const auto bits = static_cast<unsigned>(__popc(bitmap_word(job, front, g * kBitmapWords + lane)));
    const unsigned all = __reduce_add_sync(kAllLanes, bits);
    if (lane == 0) reading.before[g] = all;
  }
}

/// One block.
__global__ void __launch_bounds__(kBlockThreads)
    rank_groups(const SparseDecode job, const FrameStart expected, const Reading reading) {
  __shared__ BlockSums shared;
  const SparseFront front = read_front(job, expected);
  if (!front.is_ours) return;
  const std::size_t groups = groups_of(front);
  const std::uint64_t all = exclusive_sums(reading.before, groups, shared);
  if (threadIdx.x == 0 && groups != 0 && all != front.chosen) *reading.has_other_count = 1;
}

__device__ void read_bitmap(const SparseDecode& job, const SparseFront& front, const Reading& reading) {
  const unsigned lane = threadIdx.x % kWarp;
  const std::size_t groups = groups_of(front);
  for (std::size_t g = thread_index() / kWarp; g < groups; g += thread_count() / kWarp) {
    const std::size_t w = g * kBitmapWords + lane;
    std::uint32_t bits = bitmap_word(job, front, w);
    const auto own = static_cast<unsigned>(__popc(bits));
    unsigned sum = own;
    for (unsigned apart = 1; apart < kWarp; apart *= 2) {
      const unsigned below = __shfl_up_sync(kAllLanes, sum, apart);
      if (lane >= apart) sum += below;
    }
    std::size_t entry = reading.before[g] + sum - own;
    for (; bits != 0; bits &= bits - 1) {
      const auto place =
          static_cast<std::uint32_t>(32 * w) + static_cast<std::uint32_t>(__ffs(static_cast<int>(bits)) - 1);
      if (place >= front.units) atomicExch(reading.has_bad_place, 1u);
      reading.places[entry++] = place;
    }
  }
}

__global__ void __launch_bounds__(kBlockThreads)
    read_places(const SparseDecode job, const FrameStart expected, const Reading reading) {
  const SparseFront front = read_front(job, expected);
  if (!front.is_ours || *reading.has_other_count != 0) return;
  if (front.index.coding == sparse::IndexCoding::bitmap) return read_bitmap(job, front, reading);
  for (std::size_t e = thread_index(); e < front.chosen; e += thread_count()) {
    std::uint32_t place = 0;
    if (!read_place(job, front, reading.before, e, place)) atomicExch(reading.has_bad_place, 1u);
    reading.places[e] = place;
  }
}

/// Whether all of a frame has been found to be sound; and then its layout.
__device__ bool find_layout(const SparseDecode& job, const FrameStart& expected, const Reading& reading,
                            SparseLayout& layout) {
  const SparseFront front = read_front(job, expected);
  if (!front.is_ours || *reading.has_other_count != 0 || *reading.has_bad_place != 0) return false;
  const std::size_t n = front.chosen;
  layout = layout_of(job.shape, front.index, n, n == 0 ? 0 : reading.places[n - 1]);
  return layout.bytes() == front.bytes;
}

/// All elements before entries come: NaN for a frame that is not sound.
__global__ void __launch_bounds__(kBlockThreads)
    clear_output(const SparseDecode job, const FrameStart expected, const Reading reading) {
  SparseLayout layout;
  const bool is_sound = find_layout(job, expected, reading, layout);
  if (is_sound && job.write == Write::add) return;
  const float value = is_sound ? 0 : kNaN;
  float row[kRowPart];
  for (float& each : row) each = value;
  for (std::size_t r = thread_index(); r < row_parts(job.y.count); r += thread_count())
    store_row(job.y.data, job.y.dtype, r * kRowPart, there_from(job.y.count, r * kRowPart), row);
}

__global__ void __launch_bounds__(kBlockThreads)
    scatter_entries(const SparseDecode job, const FrameStart expected, const Reading reading) {
  SparseLayout layout;
  if (!find_layout(job, expected, reading, layout)) return;
  const DType dtype = sparse::dtype_of(job.shape.values);
  for (std::size_t e = thread_index(); e < layout.entries; e += thread_count()) {
    const std::size_t place = element_of(layout, reading.places, e);
    float value =
        reading.values != nullptr ? reading.values[e] : load_element(job.frame + layout.values_at(), dtype, e);
    if (job.write == Write::add) value += load_element(job.y.data, job.y.dtype, place);
    store_element(job.y.data, job.y.dtype, place, saturate(value, job.y.dtype));
  }
}

}  // namespace

void sparse_decode(const SparseDecode& job, const FrameStart& expected, const ReadValues& read, StreamRef stream) {
  const SparseShape& shape = job.shape;
  const SparseLayout full = full_layout(shape);
  const std::size_t coded = shape.values == Kind::frame ? full.entries : 0;
  const std::size_t groups = most_groups(shape);
  Carver carver;
  constexpr std::size_t kFlags = 2;
  const std::size_t flags_at = carver.take<std::uint32_t>(kFlags);
  const std::size_t before = carver.take<std::uint64_t>(groups);
  const std::size_t places = carver.take<std::uint32_t>(shape.most);
  const std::size_t values = carver.take<float>(coded);
  const Scratch scratch(carver.bytes(), stream);
  const auto at = [&](std::size_t offset) { return static_cast<void*>(scratch.data() + offset); };
  auto* const flags = static_cast<std::uint32_t*>(at(flags_at));
  Reading reading{flags, flags + 1, static_cast<std::uint64_t*>(at(before)), static_cast<std::uint32_t*>(at(places))};
  if (shape.values == Kind::frame) {
    auto* const decoded = static_cast<float*>(at(values));
    read({job.frame + full.values_at(), full.value_bytes, Space::device}, {decoded, coded, DType::f32, Space::device});
    reading.values = decoded;
  }
  zero(flags, kFlags * sizeof(std::uint32_t), stream);
  const std::size_t readers = std::max(groups * kWarp, shape.most);
  launch("count_groups", count_groups, groups * kWarp, stream, job, expected, reading);
  launch("rank_groups", rank_groups, kBlockThreads, stream, job, expected, reading);
  launch("read_places", read_places, readers, stream, job, expected, reading);
  launch("clear_output", clear_output, row_parts(shape.count), stream, job, expected, reading);
  const std::size_t entries = shape.block == 0 ? shape.most : shape.most * shape.block;
  launch("scatter_entries", scatter_entries, entries, stream, job, expected, reading);
}

}  // namespace gradwire::device
