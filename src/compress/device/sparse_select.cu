#include "base/device.hpp"
#include "compress/device/scan.cuh"
#include "compress/device/sparse_select.cuh"
#include "compress/quantize_params.hpp"

namespace gradwire::device {
namespace {

constexpr std::size_t kThreadElems = 2 * kRowPart;
constexpr std::size_t kTile = kThreadElems * kBlockThreads;
/// Blocks of a pass that counts digits: each adds all its counts to those in memory in the end.
constexpr std::size_t kCountingBlocks = 1024;

/// Elements beside one another, those of one thread of a tile.
struct Strip {
  float values[kThreadElems];
  std::size_t first;
  std::size_t size;

  __device__ static Strip load(const ConstTensor& x, std::size_t tile) {
    Strip strip;
    strip.first = tile * kTile + threadIdx.x * kThreadElems;
    strip.size = strip.first < x.count ? min(x.count - strip.first, kThreadElems) : 0;
    for (std::size_t j = 0; j < kThreadElems; j += kRowPart)
      load_row(x.data, x.dtype, strip.first + j, strip.part(j), strip.values + j);
    return strip;
  }
  __device__ void copy_to(float* residual) const {
    for (std::size_t j = 0; j < kThreadElems; j += kRowPart)
      store_row(residual, DType::f32, first + j, part(j), values + j);
  }

 private:
  [[nodiscard]] __device__ std::size_t part(std::size_t j) const { return size > j ? min(size - j, kRowPart) : 0; }
  [[nodiscard]] __device__ static std::size_t min(std::size_t a, std::size_t b) { return a < b ? a : b; }
};

/// Elements above the cut's threshold in the low half, at it in the high half: sums of both in one addition.
struct Ranks {
  std::uint64_t packed;
  [[nodiscard]] __device__ std::size_t above() const { return static_cast<std::uint32_t>(packed); }
  [[nodiscard]] __device__ std::size_t ties() const { return packed >> 32; }
  [[nodiscard]] __device__ static std::uint64_t of(float value, std::uint32_t threshold) {
    const std::uint32_t m = sparse::magnitude(value);
    return m > threshold ? 1 : m == threshold ? std::uint64_t{1} << 32 : 0;
  }
};

__device__ sparse::Cut cut_of(const SelectState& state, bool takes_zeros) {
  return takes_zeros ? sparse::Cut{state.prefix, state.rank} : sparse::cut_at(state.prefix, state.rank);
}

/// How often each value of a digit occurs, among elements whose higher digits are known.
__global__ void __launch_bounds__(kBlockThreads)
    count_digits(const ConstTensor x, unsigned which, sparse::Digit digit, std::size_t tiles, SelectState* state) {
  __shared__ std::uint32_t counts[1u << sparse::kHistogramBits];
  const unsigned bins = 1u << digit.width;
  for (unsigned bin = threadIdx.x; bin < bins; bin += kBlockThreads) counts[bin] = 0;
  const std::uint32_t prefix = state->prefix;
  __syncthreads();
  for (std::size_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const Strip strip = Strip::load(x, tile);
    for (std::size_t j = 0; j < kThreadElems; ++j) {
      const std::uint32_t m = j < strip.size ? sparse::magnitude(strip.values[j]) : 0;
      if (j < strip.size && m >> digit.shift >> digit.width == prefix)
        atomicAdd(&counts[(m >> digit.shift) & (bins - 1)], 1u);
    }
  }
  __syncthreads();
  for (unsigned bin = threadIdx.x; bin < bins; bin += kBlockThreads)
    if (counts[bin] != 0) atomicAdd(&state->counts[which][bin], counts[bin]);
}

/// One block: the digit of the `wanted`-th largest (which is known for the first digit), and its rank among those with
/// the same digits so far.
__global__ void __launch_bounds__(kBlockThreads)
    settle_digit(unsigned which, sparse::Digit digit, std::uint32_t wanted, SelectState* state) {
  __shared__ BlockSums shared;
  const std::uint32_t* const counts = state->counts[which];
  const std::uint32_t each = (1u << digit.width) / kBlockThreads;
  const std::uint32_t top = (1u << digit.width) - 1 - each * threadIdx.x;
  const std::uint32_t prefix = state->prefix;
  const std::size_t k = which == 0 ? wanted : state->rank;
  std::uint64_t own = 0;
  for (std::uint32_t j = 0; j < each; ++j) own += counts[top - j];
  std::uint64_t all = 0;
  const std::uint64_t larger = exclusive_sum(own, shared, all);  // no thread writes before all have read
  if (larger >= k || k > larger + own) return;
  std::size_t rank = k - larger;
  state->prefix = prefix << digit.width | sparse::find_digit(counts, top, rank);
  state->rank = static_cast<std::uint32_t>(rank);
}

__global__ void __launch_bounds__(kBlockThreads)
    count_tiles(const ConstTensor x, std::size_t tiles, const SelectState* state, std::uint64_t* counts) {
  __shared__ BlockSums shared;
  const std::uint32_t threshold = state->prefix;
  for (std::size_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const Strip strip = Strip::load(x, tile);
    std::uint64_t own = 0;
    for (std::size_t j = 0; j < kThreadElems; ++j)
      if (j < strip.size) own += Ranks::of(strip.values[j], threshold);
    std::uint64_t all = 0;
    (void)exclusive_sum(own, shared, all);
    if (threadIdx.x == 0) counts[tile] = all;
  }
}

/// One block.
__global__ void __launch_bounds__(kBlockThreads)
    rank_tiles(std::size_t tiles, bool takes_zeros, SelectState* state, std::uint64_t* counts) {
  __shared__ BlockSums shared;
  const Ranks all{exclusive_sums(counts, tiles, shared)};
  if (threadIdx.x != 0) return;
  const sparse::Cut cut = cut_of(*state, takes_zeros);
  state->chosen = static_cast<std::uint32_t>(all.above() + (all.ties() < cut.ties ? all.ties() : cut.ties));
}

/// Writes the places of what the cut takes, in order.
__global__ void __launch_bounds__(kBlockThreads)
    take_tiles(const ConstTensor x, std::size_t tiles, bool takes_zeros, const SelectState* state,
               const std::uint64_t* before, float* residual, std::uint32_t* places) {
  __shared__ BlockSums shared;
  const sparse::Cut whole = cut_of(*state, takes_zeros);
  for (std::size_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const Strip strip = Strip::load(x, tile);
    if (residual != nullptr) strip.copy_to(residual);
    std::uint64_t own = 0;
    for (std::size_t j = 0; j < kThreadElems; ++j)
      if (j < strip.size) own += Ranks::of(strip.values[j], whole.threshold);
    std::uint64_t all = 0;
    const Ranks ranks{before[tile] + exclusive_sum(own, shared, all)};
    const std::size_t taken_ties = ranks.ties() < whole.ties ? ranks.ties() : whole.ties;
    sparse::Cut cut{whole.threshold, whole.ties - taken_ties};
    std::size_t entry = ranks.above() + taken_ties;
    for (std::size_t j = 0; j < kThreadElems; ++j)
      if (j < strip.size && cut.takes(strip.values[j])) places[entry++] = static_cast<std::uint32_t>(strip.first + j);
  }
}

/// The places of the k largest of x, of which there are as many, ties going to the lower place.
void select_largest(const ConstTensor& x, std::size_t k, bool takes_zeros, float* residual, const Selection& selection,
                    StreamRef stream) {
  const std::size_t tiles = select_tiles(x.count);
  const std::size_t counting = tiles < kCountingBlocks ? tiles : kCountingBlocks;
  for (unsigned which = 0; which < std::size(sparse::kDigits); ++which) {
    const sparse::Digit digit = sparse::kDigits[which];
    launch("count_digits", count_digits, counting * kBlockThreads, stream, x, which, digit, tiles, selection.state);
    launch("settle_digit", settle_digit, kBlockThreads, stream, which, digit, static_cast<std::uint32_t>(k),
           selection.state);
  }
  const std::size_t threads = tiles * kBlockThreads;
  launch("count_tiles", count_tiles, threads, stream, x, tiles, selection.state, selection.tiles);
  launch("rank_tiles", rank_tiles, kBlockThreads, stream, tiles, takes_zeros, selection.state, selection.tiles);
  launch("take_tiles", take_tiles, threads, stream, x, tiles, takes_zeros, selection.state, selection.tiles, residual,
         selection.places);
}

}  // namespace

std::size_t select_tiles(std::size_t units) noexcept { return (units + kTile - 1) / kTile; }

void select_entries(const SparseEncode& job, const Selection& selection, StreamRef stream) {
  zero(selection.state, sizeof(SelectState), stream);
  if (job.shape.most == 0) return;
  float* const copy = job.residual == job.x.data ? nullptr : job.residual;
  select_largest(job.x, job.shape.most, job.rule.takes_zeros, copy, selection, stream);
}

}  // namespace gradwire::device
