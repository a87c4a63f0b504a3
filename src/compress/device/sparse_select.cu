#include <algorithm>
#include <cmath>

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
  if (state->guess_holds != 0) return;
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
  if (state->guess_holds != 0) return;
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

__global__ void __launch_bounds__(kBlockThreads) count_tiles(const ConstTensor x, std::size_t tiles, bool of_guess,
                                                             const SelectState* state, std::uint64_t* counts) {
  __shared__ BlockSums shared;
  if (state->guess_holds != 0) return;
  const std::uint32_t threshold = of_guess ? state->guess : state->prefix;
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
  if (state->guess_holds != 0) return;
  const Ranks all{exclusive_sums(counts, tiles, shared)};
  if (threadIdx.x != 0) return;
  const sparse::Cut cut = cut_of(*state, takes_zeros);
  state->chosen = static_cast<std::uint32_t>(all.above() + (all.ties() < cut.ties ? all.ties() : cut.ties));
}

/// One block: the same, where the guess is good.
__global__ void __launch_bounds__(kBlockThreads)
    rank_guess(std::size_t tiles, const SparseRule rule, std::size_t most, SelectState* state, std::uint64_t* counts) {
  __shared__ BlockSums shared;
  const Ranks all{exclusive_sums(counts, tiles, shared)};
  if (threadIdx.x != 0) return;
  const std::size_t reach = all.above() + all.ties();
  const bool takes_all = rule.guess.sample != 0 && state->guess == 1;  // there are no more that are not zero
  if (reach > most || (5 * reach < 4 * rule.wanted && !takes_all)) return;
  state->prefix = state->guess;
  state->rank = ~0u;
  state->chosen = static_cast<std::uint32_t>(reach);
  state->guess_holds = 1;
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

/// The cut that takes the k largest of x.
void find_cut(const ConstTensor& x, std::size_t k, SelectState* state, StreamRef stream) {
  const std::size_t tiles = select_tiles(x.count);
  const std::size_t threads = std::min(tiles, kCountingBlocks) * kBlockThreads;
  for (unsigned which = 0; which < std::size(sparse::kDigits); ++which) {
    const sparse::Digit digit = sparse::kDigits[which];
    launch("count_digits", count_digits, threads, stream, x, which, digit, tiles, state);
    launch("settle_digit", settle_digit, kBlockThreads, stream, which, digit, static_cast<std::uint32_t>(k), state);
  }
}

/// One element of each of some strata.
__global__ void __launch_bounds__(kBlockThreads)
    draw_sample(const ConstTensor x, std::size_t size, RandomStream::Keys keys, float* sample) {
  for (std::size_t j = thread_index(); j < size; j += thread_count())
    sample[j] = load_element(x.data, x.dtype, sparse::Strata(j, size, x.count).next(keys).place);
}

/// One thread: what the sample or an earlier step says.
__global__ void __launch_bounds__(kBlockThreads)
    make_guess(const ThresholdGuess guess, const SelectState* of_sample, SelectState* state) {
  if (thread_index() != 0) return;
  if (guess.sample != 0) {
    state->guess = of_sample->prefix == 0 ? 1 : of_sample->prefix;  // zeros do not reach it
    return;
  }
  const StepThreshold& known = *guess.memory;
  const bool serves = known.magnitude != 0 && guess.step > known.step && guess.step - known.step < guess.refresh;
  state->guess = serves ? known.magnitude : ~0u;  // which nothing reaches
}

/// Tries the guess: rank_tiles() and what it needs then have nothing to do.
void try_guess(const SparseEncode& job, const Selection& selection, StreamRef stream) {
  const ThresholdGuess& guess = job.rule.guess;
  if (guess.sample != 0) {
    zero(selection.of_sample, sizeof(SelectState), stream);
    launch("draw_sample", draw_sample, guess.sample, stream, job.x, guess.sample, job.rule.keys, selection.sample);
    find_cut({selection.sample, guess.sample, DType::f32, Space::device}, guess.rank, selection.of_sample, stream);
  }
  launch("make_guess", make_guess, 1, stream, guess, selection.of_sample, selection.state);
  const std::size_t tiles = select_tiles(job.x.count);
  launch("count_tiles", count_tiles, tiles * kBlockThreads, stream, job.x, tiles, true, selection.state,
         selection.tiles);
  launch("rank_guess", rank_guess, kBlockThreads, stream, tiles, job.rule, job.shape.most, selection.state,
         selection.tiles);
}

/// What the threshold would have been that gives what was chosen, where a guess did not hold.
__global__ void __launch_bounds__(kBlockThreads) find_least(const ConstTensor x, const Selection selection) {
  if (selection.state->guess_holds != 0) return;
  std::uint32_t closest = 0;
  for (std::size_t e = thread_index(); e < selection.state->chosen; e += thread_count()) {
    const float value = load_element(x.data, x.dtype, selection.places[e]);
    closest = std::max(closest, sparse::kMagnitudeMask - sparse::magnitude(value));
  }
  closest = __reduce_max_sync(kAllLanes, closest);
  if (threadIdx.x % kWarp == 0) atomicMax(&selection.state->closest, closest);
}

/// One thread: for later steps.
__global__ void __launch_bounds__(kBlockThreads) learn_threshold(const ThresholdGuess guess, const SelectState* state) {
  if (thread_index() != 0 || state->guess_holds != 0 || state->chosen == 0) return;
  *guess.memory = {guess.step, sparse::kMagnitudeMask - state->closest, 0};
}

/// The places of the k largest of x, of which there are as many, ties going to the lower place; or those that a guess
/// gives.
void select_largest(const ConstTensor& x, const SparseRule& rule, float* residual, const Selection& selection,
                    StreamRef stream) {
  find_cut(x, rule.wanted, selection.state, stream);
  const std::size_t tiles = select_tiles(x.count);
  const std::size_t threads = tiles * kBlockThreads;
  const bool takes_zeros = rule.takes_zeros;
  launch("count_tiles", count_tiles, threads, stream, x, tiles, false, selection.state, selection.tiles);
  launch("rank_tiles", rank_tiles, kBlockThreads, stream, tiles, takes_zeros, selection.state, selection.tiles);
  launch("take_tiles", take_tiles, threads, stream, x, tiles, takes_zeros, selection.state, selection.tiles, residual,
         selection.places);
}

constexpr unsigned kColumns = QuantizeLayout::kRow;

/// What element i is, beside its column's others: the residual's copy is made on the way.
__device__ float see_element(const ConstTensor& x, std::size_t i, float* residual) {
  const float value = load_element(x.data, x.dtype, i);
  if (residual != nullptr) residual[i] = value;
  return value;
}

/// A block's norm, by the threads of a half warp, each of a column: to all of them. Partial sums are added as
/// add_partial_sums() does.
__device__ std::uint32_t block_norm(const ConstTensor& x, std::size_t first, std::size_t size, bool by_largest,
                                    float* residual) {
  float sum = 0;
  std::uint32_t largest = 0;
  for (std::size_t i = threadIdx.x % kColumns; i < size; i += kColumns) {
    const float value = see_element(x, first + i, residual);
    largest = std::max(largest, sparse::magnitude(value));
    sum += value * value;
  }
  for (int apart = kColumns / 2; apart != 0; apart /= 2) {
    sum += __shfl_xor_sync(kAllLanes, sum, apart);
    largest = std::max(largest, __shfl_xor_sync(kAllLanes, largest, apart));
  }
  return by_largest ? largest : sparse::magnitude(std::sqrt(sum));
}

/// A half warp a block.
__global__ void __launch_bounds__(kBlockThreads) find_norms(const ConstTensor x, std::size_t block, std::size_t blocks,
                                                            bool by_largest, float* residual, float* norms) {
  for (std::size_t pair = thread_index() / kWarp; 2 * pair < blocks; pair += thread_count() / kWarp) {
    const std::size_t b = 2 * pair + threadIdx.x % kWarp / kColumns;
    const std::size_t first = b < blocks ? b * block : x.count;  // the last half warp may have nothing to do
    const std::size_t size = x.count - first < block ? x.count - first : block;
    const std::uint32_t norm = block_norm(x, first, size, by_largest, residual);
    if (threadIdx.x % kColumns == 0 && b < blocks) norms[b] = std::bit_cast<float>(norm);
  }
}

/// The largest magnitude of all, and the residual's copy.
__global__ void __launch_bounds__(kBlockThreads)
    see_elements(const ConstTensor x, std::size_t tiles, float* residual, SelectState* state) {
  std::uint32_t most = 0;
  for (std::size_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const Strip strip = Strip::load(x, tile);
    if (residual != nullptr) strip.copy_to(residual);
    for (std::size_t j = 0; j < kThreadElems; ++j)
      if (j < strip.size) most = std::max(most, sparse::magnitude(strip.values[j]));
  }
  most = __reduce_max_sync(kAllLanes, most);
  if (threadIdx.x % kWarp == 0 && most != 0) atomicMax(&state->most, most);
}

/// A thread a stratum.
__global__ void __launch_bounds__(kBlockThreads)
    draw_places(std::size_t count, std::size_t chosen, RandomStream::Keys keys, const Selection selection) {
  for (std::size_t j = thread_index(); j < chosen; j += thread_count())
    selection.places[j] = static_cast<std::uint32_t>(sparse::Strata(j, chosen, count).next(keys).place);
  if (thread_index() == 0) selection.state->chosen = static_cast<std::uint32_t>(chosen);
}

}  // namespace

std::size_t select_tiles(std::size_t units) noexcept { return (units + kTile - 1) / kTile; }

void select_entries(const SparseEncode& job, const Selection& selection, StreamRef stream) {
  const SparseShape& shape = job.shape;
  zero(selection.state, sizeof(SelectState), stream);
  if (shape.most == 0) return;
  float* const copy = job.residual == job.x.data ? nullptr : job.residual;
  switch (job.rule.kind) {
    case SparseRule::Kind::largest:
      if (job.rule.guesses) try_guess(job, selection, stream);
      select_largest(job.x, job.rule, copy, selection, stream);
      if (job.rule.guess.memory == nullptr) return;
      launch("find_least", find_least, job.rule.wanted, stream, job.x, selection);
      launch("learn_threshold", learn_threshold, 1, stream, job.rule.guess, selection.state);
      return;
    case SparseRule::Kind::largest_blocks: {
      const std::size_t blocks = sparse::units_of(shape.count, shape.block);
      launch("find_norms", find_norms, blocks * kColumns, stream, job.x, shape.block, blocks, job.rule.by_largest, copy,
             selection.norms);
      const ConstTensor norms(selection.norms, blocks, DType::f32, Space::device);
      return select_largest(norms, job.rule, nullptr, selection, stream);
    }
    case SparseRule::Kind::random: {
      const std::size_t tiles = select_tiles(shape.count);
      launch("see_elements", see_elements, tiles * kBlockThreads, stream, job.x, tiles, copy, selection.state);
      launch("draw_places", draw_places, shape.most, stream, shape.count, shape.most, job.rule.keys, selection);
    }
  }
}

}  // namespace gradwire::device
