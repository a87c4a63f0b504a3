// Speed of the compressors on one thread, beside memcpy of the same buffer:
//
//     codec_bench [--isa=NAME] [Google Benchmark's own flags, e.g. --benchmark_filter=encode/q4]
//
// Each sample of an operation is taken right after one of memcpy, so that both see the same machine; medians of both,
// in processor time, are compared. GBps counts bytes of f32 input (for decoders: of f32 output), whatever the frame's
// size.
//
// Besides the compressors: `hadamard`, the transform of `rotate` alone, in place; `nth_element`, what topk(0.01) takes
// where the standard library selects, over places or over magnitudes; and `rice_write` and `rice_read`, the coding of
// the places that a rule has chosen, whose counter `of_selection` is their time over that of the choice itself.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "compress/isa.hpp"
#include "compress/rotate_kernels.hpp"
#include "compress/sparse/index_coding.hpp"
#include "compress/sparse/topk.hpp"

#include "gradwire/buffer.hpp"
#include "gradwire/compressor.hpp"
#include "gradwire/error.hpp"

namespace gradwire {
namespace {

constexpr const char* kCompressors[] = {"none",
                                        "f16",
                                        "bf16",
                                        "q8",
                                        "q4",
                                        "q2",
                                        "quantize(bits=3)",
                                        "q4(round=stochastic)",
                                        "q8(round=stochastic)",
                                        "q4(norm=minmax)",
                                        "q4(norm=l2)",
                                        "topk(0.01)",
                                        "topk(0.01,select=sampled)",
                                        "topk(0.01)|q4",
                                        "randomk(0.01)",
                                        "block_topk(0.01)",
                                        "adaptive_threshold(0.01)",
                                        "q4(levels=exponential)",
                                        "q4(levels=learned)",
                                        "sign",
                                        "ternary",
                                        "ternary(pack=trits)",
                                        "natural",
                                        "f8",
                                        "mx4",
                                        "mx6",
                                        "mx8",
                                        "nvfp4",
                                        "rotate(q4)",
                                        "rotate(q1(bucket=4096),scale=contractive)",
                                        "thc"};

/// Memory for one size, shared by all benchmarks of that size and written before the first.
struct Arena {
  explicit Arena(std::size_t mebibytes)
      : count((mebibytes << 20) / sizeof(float)),
        x(mebibytes << 20),
        y(mebibytes << 20),
        frame((mebibytes << 20) + 64) {
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    auto* const values = static_cast<float*>(x.tensor(count).data);
    std::generate_n(values, count, [&] { return normal(engine); });
    y.fill_zero();
    frame.fill_zero();
  }

  std::size_t count;
  Buffer x;  ///< the gradient
  Buffer y;  ///< residual or decoded values, and the target of memcpy
  Buffer frame;
};

Arena& arena(std::size_t mebibytes) {
  static std::vector<std::pair<std::size_t, std::unique_ptr<Arena>>> arenas;
  for (auto& [size, found] : arenas)
    if (size == mebibytes) return *found;
  return *arenas.emplace_back(mebibytes, std::make_unique<Arena>(mebibytes)).second;
}

/// Of this thread's processor time: what other work takes from it does not count.
double thread_seconds() {
  std::timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double seconds_of(const std::function<void()>& call) {
  const double start = thread_seconds();
  call();
  benchmark::ClobberMemory();
  return thread_seconds() - start;
}

double median(std::vector<double>& samples) {
  const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle;
}

/// Median seconds of `operation` and of `base`, which runs right before each and does not count as the row's time.
struct Compared {
  double base;
  double operation;
};

Compared compare(benchmark::State& state, const std::function<void()>& base, const std::function<void()>& operation) {
  std::vector<double> bases;
  std::vector<double> operations;
  for (auto _ : state) {
    state.PauseTiming();
    bases.push_back(seconds_of(base));
    state.ResumeTiming();
    operations.push_back(seconds_of(operation));
  }
  return {median(bases), median(operations)};
}

/// `operation` beside memcpy of x to y.
void compare_with_memcpy(benchmark::State& state, const Arena& memory, const std::function<void()>& operation) {
  const Compared seconds = compare(
      state, [&] { std::memcpy(memory.y.data(), memory.x.data(), memory.x.size()); }, operation);
  state.counters["GBps"] = static_cast<double>(memory.x.size()) / seconds.operation * 1e-9;
  state.counters["vs_memcpy"] = seconds.base / seconds.operation;
}

using Operation = std::function<void(const Compressor&, const Arena&, std::uint64_t step)>;

void measure(benchmark::State& state, const std::string& spec, std::size_t mebibytes, const Operation& operation) {
  const Compressor compressor = make_compressor(spec);
  const Arena& memory = arena(mebibytes);
  compressor.encode(memory.x.tensor(memory.count), memory.frame.bytes(), {}, {});  // so that decoders find a frame
  std::uint64_t step = 0;
  compare_with_memcpy(state, memory, [&] { operation(compressor, memory, step++); });
}

void encode(const Compressor& compressor, const Arena& memory, std::uint64_t step) {
  compressor.encode(memory.x.tensor(memory.count), memory.frame.bytes(), {}, {1, step, ParamId{2}, 0});
}

void encode_residual(const Compressor& compressor, const Arena& memory, std::uint64_t step) {
  compressor.encode(memory.x.tensor(memory.count), memory.frame.bytes(), memory.y.tensor(memory.count),
                    {1, step, ParamId{2}, 0});
}

void decode(const Compressor& compressor, const Arena& memory, std::uint64_t) {
  compressor.decode(memory.frame.bytes(), memory.y.tensor(memory.count), Write::assign);
}

void decode_add(const Compressor& compressor, const Arena& memory, std::uint64_t) {
  compressor.decode(memory.frame.bytes(), memory.y.tensor(memory.count), Write::add);
}

constexpr double kDensity = 0.01;

/// The transform of `rotate` in blocks of its default size, over y, which the memcpy before has filled.
void hadamard(benchmark::State& state, std::size_t mebibytes, bool forward) {
  constexpr std::size_t kBlock = 4096;
  const Arena& memory = arena(mebibytes);
  const auto& kernels = isa::kernels<RotateKernels>();
  auto* const y = static_cast<float*>(memory.y.tensor(memory.count).data);
  compare_with_memcpy(state, memory, [&] {
    for (std::size_t i = 0; i < memory.count; i += kBlock) {
      const kernels::SignKey signs = kernels::SignKey{{1, 2}, 0}.from(i);
      if (forward) {
        benchmark::DoNotOptimize(kernels.forward({{y + i, kBlock}, kBlock, signs, y + i, 0}));
      } else {
        kernels.inverse({y + i, kBlock, signs, rotation_factor(kBlock), false, nullptr});
      }
    }
  });
}

/// The places of the k largest magnitudes by std::nth_element over all places, in ascending order.
std::size_t nth_place(const float* x, std::size_t k, std::vector<std::uint32_t>& places) {
  std::iota(places.begin(), places.end(), 0U);
  const auto end = places.begin() + static_cast<std::ptrdiff_t>(k);
  std::nth_element(places.begin(), end - 1, places.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return std::fabs(x[a]) > std::fabs(x[b]); });
  std::sort(places.begin(), end);
  return k;
}

/// The same by std::nth_element over a copy of the magnitudes, and a pass that collects what reaches the k-th.
std::size_t nth_magnitude(const float* x, std::size_t k, std::vector<float>& magnitudes,
                          std::vector<std::uint32_t>& places) {
  std::transform(x, x + magnitudes.size(), magnitudes.begin(), [](float element) { return std::fabs(element); });
  const auto last = magnitudes.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(magnitudes.begin(), last, magnitudes.end(), std::greater<>());
  std::size_t taken = 0;
  for (std::size_t i = 0; i < magnitudes.size() && taken < k; ++i)
    if (std::fabs(x[i]) >= *last) places[taken++] = static_cast<std::uint32_t>(i);
  return taken;
}

/// A top-k from the standard library: places and values, as a frame needs them.
void nth_element(benchmark::State& state, std::size_t mebibytes, bool over_places) {
  const Arena& memory = arena(mebibytes);
  const auto* const x = static_cast<const float*>(memory.x.tensor(memory.count).data);
  const std::size_t k = sparse::Density{kDensity}.of(memory.count);
  std::vector<std::uint32_t> places(memory.count);
  std::vector<float> magnitudes(memory.count);
  std::vector<float> values(k);
  compare_with_memcpy(state, memory, [&] {
    const std::size_t taken = over_places ? nth_place(x, k, places) : nth_magnitude(x, k, magnitudes, places);
    for (std::size_t i = 0; i < taken; ++i) values[i] = x[places[i]];
    benchmark::DoNotOptimize(values.data());
  });
}

/// The places that `selection` chooses: writing them (the choice of the shortest coding included) or reading them.
void rice(benchmark::State& state, const sparse::Selection& selection, std::size_t mebibytes, bool write) {
  const Arena& memory = arena(mebibytes);
  std::vector<std::uint32_t> index(selection.max_entries(memory.count));
  std::vector<float> value(index.size());
  Entries entries{index.data(), value.data(), index.size()};
  const auto select = [&] {
    const sparse::Choice choice{memory.x.tensor(memory.count), nullptr, {1, 0, ParamId{2}, 0}, "codec_bench"};
    entries.count = selection.select(choice, {index.data(), value.data(), index.size()});
  };
  const auto write_places = [&] {
    const sparse::Places places{index.data(), entries.count, memory.count};
    const sparse::IndexPlan plan = sparse::plan_indices(places);
    sparse::write_indices(plan, places, memory.frame.data());
    return plan;
  };
  select();
  const sparse::IndexPlan plan = write_places();
  if (plan.coding != sparse::IndexCoding::rice) return state.SkipWithError("Rice is not the shortest coding here");
  std::vector<std::uint32_t> read(entries.count);
  const auto read_places = [&] {
    sparse::read_places({plan, memory.frame.data(), entries.count, memory.count, "codec_bench"}, read.data());
    benchmark::DoNotOptimize(read.data());
  };
  const Compared seconds = write ? compare(state, select, write_places) : compare(state, select, read_places);
  state.counters["of_selection"] = seconds.operation / seconds.base;
  state.counters["bits_per_place"] = 8.0 * static_cast<double>(plan.bytes) / static_cast<double>(entries.count);
}

template <class... Arguments>
void add(const std::string& row, Arguments&&... arguments) {
  benchmark::RegisterBenchmark(row.c_str(), std::forward<Arguments>(arguments)...)->Unit(benchmark::kMicrosecond);
}

void register_parts(std::size_t mebibytes) {
  for (const bool forward : {true, false})
    add(fmt::format("hadamard/{}/{}", forward ? "forward" : "inverse", mebibytes), hadamard, mebibytes, forward);
  for (const bool places : {true, false})
    add(fmt::format("nth_element/{}/{}", places ? "places" : "magnitudes", mebibytes), nth_element, mebibytes, places);
  for (const bool write : {true, false}) {
    const char* const title = write ? "rice_write" : "rice_read";
    add(fmt::format("{}/topk(0.01)/{}", title, mebibytes),
        [=](benchmark::State& state) { rice(state, sparse::ExactTopK({kDensity}), mebibytes, write); });
    add(fmt::format("{}/topk(0.01,select=sampled)/{}", title, mebibytes),
        [=](benchmark::State& state) { rice(state, sparse::SampledTopK({kDensity}), mebibytes, write); });
  }
}

void register_all() {
  const std::pair<const char*, Operation> operations[] = {
      {"encode", encode}, {"encode_residual", encode_residual}, {"decode", decode}, {"decode_add", decode_add}};
  for (const auto& [title, operation] : operations)
    for (const std::string spec : kCompressors)
      for (const std::size_t mebibytes : {1u, 64u}) {
        add(fmt::format("{}/{}/{}", title, spec, mebibytes), measure, spec, mebibytes, operation);
      }
  for (const std::size_t mebibytes : {1u, 64u}) register_parts(mebibytes);
}

/// Takes --isa=NAME out of the arguments.
void choose_isa(int& argc, char** argv) {
  constexpr std::string_view kFlag = "--isa=";
  const auto is_flag = [&](const char* argument) { return std::string_view(argument).starts_with(kFlag); };
  if (char** const found = std::find_if(argv, argv + argc, is_flag); found != argv + argc) {
    isa::select(std::string_view(*found).substr(kFlag.size()));
    std::rotate(found, found + 1, argv + argc);
    --argc;
  }
  benchmark::AddCustomContext("isa", std::string(isa::current()));
  benchmark::AddCustomContext("isas_here", fmt::format("{}", fmt::join(isa::list(), " ")));
}

}  // namespace
}  // namespace gradwire

int main(int argc, char** argv) {
  try {
    gradwire::choose_isa(argc, argv);
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    gradwire::register_all();
    benchmark::RunSpecifiedBenchmarks();
  } catch (const gradwire::Error& error) {
    std::fprintf(stderr, "codec_bench: %s\n", error.what());
    return 2;
  }
  return 0;
}
