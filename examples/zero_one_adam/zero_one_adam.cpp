/// Four ranks, here threads of one process, fit a linear model to noisy data of their own with 0/1 Adam: an optimiser
/// that sends one bit an element, and in most steps nothing. Half-way the run is saved and taken up by new optimisers.
#include <array>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <future>
#include <random>
#include <vector>

#include "gradwire/gradwire.hpp"

namespace {

constexpr int kRanks = 4;
constexpr std::size_t kCount = 50'000;
constexpr int kSteps = 600;
const std::filesystem::path kFolder = std::filesystem::temp_directory_path() / "gradwire-zero-one-adam";

struct Rank {
  std::vector<float> weights = std::vector<float>(kCount);
  std::array<int, 4> steps{};  // of each kind
  double wire_bytes = 0;
  double dense_bytes = 0;
};

float target(std::size_t i) { return static_cast<float>(i % 17) / 8 - 1; }

gradwire::ZeroOneAdamOptions options() {
  gradwire::ZeroOneAdamOptions chosen;
  chosen.beta2 = 0.98F;
  chosen.freeze = 150;  // then v stays, and steps become local
  chosen.variance_updates = 8;
  chosen.local_doubling = 100;
  chosen.most_local_steps = 4;
  return chosen;
}

/// Steps `first` to `last` of one rank, on a new optimiser.
void train(const gradwire::Communicator& comm, Rank& rank, int first, int last) {
  std::vector<gradwire::ParamInfo> params(1);
  params[0].name = "weights";
  params[0].shape = {kCount};
  params[0].compressor = "sign(bucket=64)";
  auto chosen = options();
  chosen.dense_below_elems = 0;
  gradwire::ZeroOneAdam adam(comm, params, chosen);
  if (first > 0) adam.load(kFolder.string());
  std::vector<float> gradient(kCount);
  for (int step = first; step < last; ++step) {
    std::minstd_rand noise(static_cast<unsigned>(1 + step * kRanks + comm.rank()));
    std::normal_distribution<float> normal;
    for (std::size_t i = 0; i < kCount; ++i) gradient[i] = rank.weights[i] - target(i) + normal(noise);
    const gradwire::Tensor weights{rank.weights.data(), kCount};
    const gradwire::Tensor gradients{gradient.data(), kCount};
    const float rate = 0.01F * static_cast<float>(kSteps - step) / kSteps;
    const gradwire::ZeroOneStep made = adam.step({&weights, 1}, {&gradients, 1}, rate);
    ++rank.steps[static_cast<std::size_t>(made.kind)];
    rank.wire_bytes += static_cast<double>(made.wire_bytes);
    rank.dense_bytes += static_cast<double>(made.dense_bytes);
  }
  const gradwire::Tensor weights{rank.weights.data(), kCount};
  rank.wire_bytes += static_cast<double>(adam.synchronise({&weights, 1}).wire_bytes);  // to be saved, or used
  adam.save(kFolder.string());
}

double distance(const std::vector<float>& weights) {
  double sum = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    const double off = static_cast<double>(weights[i]) - static_cast<double>(target(i));
    sum += off * off / kCount;
  }
  return sum;
}

}  // namespace

int main() try {
  std::filesystem::remove_all(kFolder);
  std::vector<Rank> ranks(kRanks);
  const double start = distance(ranks[0].weights);
  for (const int half : {0, 1}) {
    const std::vector<gradwire::Communicator> comms = gradwire::make_local(kRanks);
    std::vector<std::future<void>> threads;
    for (std::size_t r = 0; r < kRanks; ++r) {
      threads.push_back(std::async(std::launch::async,
                                   [&, r] { train(comms[r], ranks[r], half * kSteps / 2, (half + 1) * kSteps / 2); }));
    }
    for (std::future<void>& thread : threads) thread.get();
  }
  std::filesystem::remove_all(kFolder);

  const Rank& first = ranks[0];
  bool is_equal = true;
  for (const Rank& rank : ranks) is_equal = is_equal && rank.weights == first.weights;
  const double end = distance(first.weights);
  std::printf("steps: %d with dense gradients, %d with compressed ones, %d local, %d that met\n", first.steps[0],
              first.steps[1], first.steps[2], first.steps[3]);
  std::printf("mean square distance from the optimum: %.4f, at first %.4f\n", end, start);
  std::printf("bytes: %.1f times fewer than dense gradients\n", first.dense_bytes / first.wire_bytes);
  std::printf("same weights on every rank: %s\n", is_equal ? "yes" : "NO");
  return is_equal && end < start / 20 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "zero_one_adam: %s\n", error.what());
  return 1;
}
