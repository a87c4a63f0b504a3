// Bytes that each algorithm sends, beside what its row of the table in collectives/README.md predicts:
//
//     collective_bytes [N ...]        numbers of ranks, even; default: 2 4 8 16
//
// One bucket: a matrix of 1024 x 1024 normal numbers in f32, different on every rank (S = 4 MiB). Ranks are threads of
// one process; `hierarchical` has two of them to a node. Measured is OperationStats::wire_bytes of the rank that sends
// most. Predicted is the table's formula with S/ratio the size of one frame of the whole bucket: the envelopes of
// messages and the headers of the frames into which a bucket is cut come on top. For `sparse_scatter` it is a limit.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "gradwire/allreduce.hpp"
#include "gradwire/buffer.hpp"
#include "gradwire/sharded.hpp"

namespace gradwire {
namespace {

constexpr std::size_t kSide = 1024;
constexpr std::size_t kCount = kSide * kSide;
constexpr int kRanksPerNode = 2;

/// What the formulas are written in.
struct World {
  double n;
  double dense = 4.0 * kCount;  ///< S

  /// S/ratio.
  [[nodiscard]] static double frame(const std::string& spec) {
    return static_cast<double>(make_compressor(spec).max_frame_size(kCount, DType::f32));
  }
};

struct Case {
  const char* algorithm;  ///< or entry point
  const char* spec;
  std::function<double(const World&)> predicted;
  int runs = 1;  ///< the last one counts
};

double shares(const World& world) { return (world.n - 1) / world.n; }

/// Bits of an integer that holds the sum of n codes of `thc`, which are at most 2^bits - 1 each.
double sum_bits(const World& world, int bits) {
  const double largest = world.n * (std::exp2(bits) - 1);
  return largest < 256 ? 8 : largest < 65536 ? 16 : 32;
}

std::vector<Case> cases() {
  constexpr double kEntries = 10'486;  // k of topk(0.01)
  constexpr double kBlocks = kCount / 4096.0;
  const auto both = [](const World& w) { return 2 * shares(w) * World::frame("q4"); };
  const auto once = [](const World& w) { return shares(w) * World::frame("q4"); };
  const auto factors = [](double columns) { return [=](const World& w) { return 2 * shares(w) * 4 * columns * 4; }; };
  return {
      {"dense", "none", [](const World& w) { return 2 * shares(w) * w.dense; }},
      {"scatter_reduce", "q4", both},
      {"ring", "q4", both},
      {"gather_sum", "q4", [](const World& w) { return (w.n - 1) * World::frame("q4"); }},
      {"integer_sum", "thc",
       [](const World& w) { return 2 * shares(w) * w.dense * sum_bits(w, 4) / 32 + 4 * (w.n - 1) * kBlocks; }},
      {"sparse_scatter", "topk(0.01)",
       [](const World& w) { return 6 * kEntries * shares(w) * 4 + (w.n - 1) * (112 + 8 * w.n); }},
      {"lowrank", "powersgd(rank=4)", factors(2.0 * kSide)},
      {"lowrank", "powersgd(rank=4,rounds=1)", factors(kSide), 2},
      {"lowrank", "projection(rank=4)", factors(kSide), 2},
      {"hierarchical", "q4",
       [](const World& w) {
         const double nodes = w.n / kRanksPerNode;
         const double inside = (kRanksPerNode - 1.0) / kRanksPerNode * (w.dense + World::frame("q4"));
         return 2 * (nodes - 1) / w.n * World::frame("q4") + inside;
       }},
      {"hierarchical", "powersgd(rank=4)",
       [](const World& w) {
         const double nodes = w.n / kRanksPerNode;
         const double frames = 2 * kSide * 4.0 * 4;
         return 2 * ((nodes - 1) / w.n + (kRanksPerNode - 1.0) / kRanksPerNode) * frames;
       }},
      {"reduce_scatter", "q4", [=](const World& w) { return once(w) + 12 * (w.n - 1); }},
      {"all_gather", "q4", once},
  };
}

template <class Operation>
std::uint64_t bytes_of(Operation operation, std::vector<float>& values, int runs) {
  const Buffer workspace(operation.workspace_bytes());
  const ItemBuffers buffers{{values.data(), values.size()}, {}};
  for (int step = 0; step < runs; ++step)
    operation.start({&buffers, 1}, workspace.bytes(), static_cast<std::uint64_t>(step), StreamRef::host()).wait();
  return operation.stats().wire_bytes;
}

/// What this rank sends.
std::uint64_t run(const Communicator& comm, const Case& row) {
  std::vector<float> values(kCount);
  std::mt19937 engine(static_cast<unsigned>(comm.rank()) + 1);
  std::normal_distribution<float> normal;
  std::generate(values.begin(), values.end(), [&] { return normal(engine); });
  const std::vector<BucketItem> items{
      {ParamId{0}, kCount, DType::f32, make_compressor(row.spec), "matrix", {kSide, kSide}}};
  const std::string algorithm = row.algorithm;
  if (algorithm == "reduce_scatter") return bytes_of(PersistentReduceScatter(comm, items, Slot{0}), values, row.runs);
  if (algorithm == "all_gather") return bytes_of(PersistentAllGather(comm, items, Slot{0}), values, row.runs);
  return bytes_of(PersistentAllreduce(comm, items, Slot{0}, {.algorithm = algorithm}), values, row.runs);
}

/// The most that a rank sends.
std::uint64_t measure(int ranks, const Case& row) {
  const int ranks_per_node = std::string(row.algorithm) == "hierarchical" ? kRanksPerNode : ranks;
  const std::vector<Communicator> comms = make_local(ranks, ranks_per_node);
  std::vector<std::uint64_t> sent(comms.size());
  std::vector<std::string> failures(comms.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < comms.size(); ++i) {
    threads.emplace_back([&, i] {
      try {
        sent[i] = run(comms[i], row);
      } catch (const std::exception& error) {
        failures[i] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& failure : failures) {
    if (failure.empty()) continue;
    fmt::print(stderr, "collective_bytes: {} of {}, {} ranks: {}\n", row.algorithm, row.spec, ranks, failure);
    std::exit(1);
  }
  return *std::max_element(sent.begin(), sent.end());
}

int run_all(const std::vector<int>& sizes) {
  fmt::print("{:<16} {:<26} {:>3} {:>12} {:>12} {:>8}\n", "algorithm", "compressor", "n", "predicted", "measured",
             "ratio");
  for (const Case& row : cases()) {
    for (const int ranks : sizes) {
      const double predicted = row.predicted({static_cast<double>(ranks)});
      const auto measured = static_cast<double>(measure(ranks, row));
      fmt::print("{:<16} {:<26} {:>3} {:>12.0f} {:>12.0f} {:>8.4f}\n", row.algorithm, row.spec, ranks, predicted,
                 measured, measured / predicted);
    }
  }
  return 0;
}

}  // namespace
}  // namespace gradwire

int main(int argc, char** argv) {
  std::vector<int> sizes;
  for (int i = 1; i < argc; ++i) sizes.push_back(std::atoi(argv[i]));
  if (sizes.empty()) sizes = {2, 4, 8, 16};
  for (const int ranks : sizes) {
    if (ranks >= 2 && ranks <= 64 && ranks % gradwire::kRanksPerNode == 0) continue;
    std::fprintf(stderr, "collective_bytes: numbers of ranks are even, from 2 to 64\n");
    return 2;
  }
  return gradwire::run_all(sizes);
}
