// Speed of one rank's low-rank step on one thread, beside BLAS's own time for the same products (M Q, M^T P, P Q^T):
//
//     lowrank_bench [RANK [BLAS]]        default: 4 libopenblas.so.0
//
// 64 matrices of 1024 x 1024. Each sample of ours is taken right after one of BLAS, so that both see the same machine;
// medians are compared. The library's step includes orthogonalisation, the warm start, the search for NaN and, where it
// says so, the residual.
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "gradwire/allreduce.hpp"
#include "gradwire/buffer.hpp"

namespace gradwire {
namespace {

using Sgemm = void (*)(const char*, const char*, const int*, const int*, const int*, const float*, const float*,
                       const int*, const float*, const int*, const float*, float*, const int*);

constexpr int kMatrices = 64;
constexpr int kSide = 1024;
constexpr std::size_t kElems = std::size_t{kSide} * kSide;
constexpr int kSamples = 15;

template <class Action>
double ms(Action&& action) {
  const auto start = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + kSamples / 2, values.end());
  return values[kSamples / 2];
}

/// The three products of every matrix. BLAS counts columns first: our M is its M^T.
struct Blas {
  Sgemm sgemm;
  int rank;
  std::vector<float> p, q, result;

  Blas(Sgemm sgemm_, int rank_)
      : sgemm(sgemm_),
        rank(rank_),
        p(static_cast<std::size_t>(kSide * rank_), 0.5F),
        q(p.size(), 0.5F),
        result(kMatrices * kElems) {}

  void product(const char* layout, int m, int n, int k, const float* a, const float* b, float* c) const {
    const float one = 1;
    const float zero = 0;
    sgemm(layout, layout + 1, &m, &n, &k, &one, a, &kSideOf, b, &kSideOf, &zero, c, &kSideOf);
  }
  void run(const float* m) {
    for (int i = 0; i < kMatrices; ++i, m += kElems) product("TN", kSide, rank, kSide, m, q.data(), p.data());
    m -= kMatrices * kElems;
    for (int i = 0; i < kMatrices; ++i, m += kElems) product("NN", kSide, rank, kSide, m, p.data(), q.data());
    std::fill(p.begin(), p.end(), 0.5F);  // or they grow from run to run
    std::fill(q.begin(), q.end(), 0.5F);
    for (int i = 0; i < kMatrices; ++i) {
      product("NT", kSide, kSide, rank, q.data(), p.data(), result.data() + static_cast<std::size_t>(i) * kElems);
    }
  }
  static constexpr int kSideOf = kSide;
};

int run(int rank, const char* library) {
  ::setenv("OPENBLAS_NUM_THREADS", "1", 1);
  void* const handle = ::dlopen(library, RTLD_NOW);
  auto* const sgemm = handle == nullptr ? nullptr : reinterpret_cast<Sgemm>(::dlsym(handle, "sgemm_"));
  if (sgemm == nullptr) {
    fmt::print(stderr, "lowrank_bench: no BLAS: {}\n", ::dlerror());
    return 1;
  }
  Blas blas(sgemm, rank);
  std::vector<float> input(kMatrices * kElems);
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  for (float& value : input) value = normal(engine);
  std::vector<float> tensor(input);
  std::vector<float> residual(input.size());

  const Communicator comm = make_local(1).front();
  std::vector<BucketItem> items;
  std::vector<ItemBuffers> with;
  for (std::uint32_t i = 0; i < kMatrices; ++i) {
    items.push_back(
        {ParamId{i}, kElems, DType::f32, make_compressor(fmt::format("powersgd({})", rank)), {}, {kSide, kSide}});
    with.push_back({{tensor.data() + i * kElems, kElems}, {residual.data() + i * kElems, kElems}});
  }
  std::vector<ItemBuffers> without = with;
  for (ItemBuffers& buffers : without) buffers.residual = {};
  PersistentAllreduce step(comm, items, Slot{0});
  const Buffer workspace(step.workspace_bytes());
  std::uint64_t number = 0;
  const auto ours = [&](const std::vector<ItemBuffers>& buffers) {
    std::copy(input.begin(), input.end(), tensor.begin());
    return ms([&] { step.start(buffers, workspace.bytes(), number++, StreamRef::host()).wait(); });
  };
  std::vector<double> blas_ms, bare_ms, full_ms, copy_ms;
  for (int i = -2; i < kSamples; ++i) {
    const double samples[] = {ms([&] { blas.run(input.data()); }), ours(without), ours(with),
                              ms([&] { std::copy(input.begin(), input.end(), tensor.begin()); })};
    if (i < 0) continue;
    blas_ms.push_back(samples[0]);
    bare_ms.push_back(samples[1]);
    full_ms.push_back(samples[2]);
    copy_ms.push_back(samples[3]);
  }
  const double base = median(blas_ms);
  fmt::print("rank {}, {} matrices of {} x {}, one thread, median of {} samples\n", rank, kMatrices, kSide, kSide,
             kSamples);
  const auto line = [&](const char* what, double value) {
    fmt::print("{:<24} {:8.1f} ms {:6.2f}\n", what, value, value / base);
  };
  line("BLAS, three products", base);
  line("step without residual", median(bare_ms));
  line("step with residual", median(full_ms));
  line("memcpy of the matrices", median(copy_ms));
  return 0;
}

}  // namespace
}  // namespace gradwire

int main(int argc, char** argv) {
  return gradwire::run(argc > 1 ? std::atoi(argv[1]) : 4, argc > 2 ? argv[2] : "libopenblas.so.0");
}
