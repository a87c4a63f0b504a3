// Speed of the compressors on one thread, beside memcpy of the same buffer:
//
//     codec_bench [--isa=NAME] [Google Benchmark's own flags, e.g. --benchmark_filter=encode/q4]
//
// Each sample of an operation is taken right after one of memcpy, so that both see the same machine; medians of both
// are compared. GBps counts bytes of f32 input (for decoders: of f32 output), whatever the frame's size.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "compress/isa.hpp"

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

double seconds_of(const std::function<void()>& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  benchmark::ClobberMemory();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double>& samples) {
  const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle;
}

using Operation = std::function<void(const Compressor&, const Arena&, std::uint64_t step)>;

void measure(benchmark::State& state, const std::string& spec, std::size_t mebibytes, const Operation& operation) {
  const Compressor compressor = make_compressor(spec);
  const Arena& memory = arena(mebibytes);
  compressor.encode(memory.x.tensor(memory.count), memory.frame.bytes(), {}, {});  // so that decoders find a frame
  std::vector<double> copies;
  std::vector<double> operations;
  std::uint64_t step = 0;
  for (auto _ : state) {
    state.PauseTiming();
    copies.push_back(seconds_of([&] { std::memcpy(memory.y.data(), memory.x.data(), memory.x.size()); }));
    state.ResumeTiming();
    operations.push_back(seconds_of([&] { operation(compressor, memory, step); }));
    ++step;
  }
  const double seconds = median(operations);
  state.counters["GBps"] = static_cast<double>(memory.x.size()) / seconds * 1e-9;
  state.counters["vs_memcpy"] = median(copies) / seconds;
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

void register_all() {
  const std::pair<const char*, Operation> operations[] = {
      {"encode", encode}, {"encode_residual", encode_residual}, {"decode", decode}, {"decode_add", decode_add}};
  for (const auto& [title, operation] : operations)
    for (const std::string spec : kCompressors)
      for (const std::size_t mebibytes : {1u, 64u}) {
        const std::string row = fmt::format("{}/{}/{}", title, spec, mebibytes);
        benchmark::RegisterBenchmark(row.c_str(), measure, spec, mebibytes, operation)->Unit(benchmark::kMicrosecond);
      }
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
