#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <iterator>
#include <numbers>
#include <random>

#include "examples/train_fashion_mnist/fail.hpp"
#include "lstm.hpp"
#include "task.hpp"

namespace training {
namespace {

using demo::require;
using Text = std::vector<std::uint8_t>;  // character numbers

constexpr std::size_t kStreams = 8;
constexpr std::size_t kSteps = 32;
constexpr std::size_t kBlock = 2048;    // characters
constexpr std::size_t kHeldOut = 40;    // each 40th block is for the score
constexpr double kLargestGradient = 1;  // longer ones are cut to this norm, on each rank, before ready()

struct Corpus {
  std::size_t characters = 0;  // different ones
  Text train;
  std::vector<Text> held_out;  // blocks
};

Corpus read_corpus(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  require(!file.fail() && text.size() >= kHeldOut * kBlock, "{}: no text of at least {} bytes", path,
          kHeldOut * kBlock);
  std::array<int, 256> numbers;
  numbers.fill(-1);
  for (const char c : text) numbers[static_cast<std::uint8_t>(c)] = 0;
  Corpus corpus;
  for (int& number : numbers) {
    if (number == 0) number = static_cast<int>(corpus.characters++);
  }
  const auto number_of = [&](char c) { return static_cast<std::uint8_t>(numbers[static_cast<std::uint8_t>(c)]); };
  for (std::size_t first = 0; first + kBlock <= text.size(); first += kBlock) {
    Text block(kBlock);
    std::transform(text.begin() + static_cast<std::ptrdiff_t>(first),
                   text.begin() + static_cast<std::ptrdiff_t>(first + kBlock), block.begin(), number_of);
    if (first / kBlock % kHeldOut == kHeldOut - 1) {
      corpus.held_out.push_back(std::move(block));
    } else {
      corpus.train.insert(corpus.train.end(), block.begin(), block.end());
    }
  }
  return corpus;
}

class KjvReplica final : public Replica {
 public:
  /// Its streams begin at random places of [first, end) of the training text and run on, round and round.
  KjvReplica(const Corpus& corpus, std::size_t first, std::size_t end, const Options& options, int rank)
      : corpus_(corpus),
        first_(first),
        end_(end),
        model_({.characters = corpus.characters, .hidden = options.hidden}, options.seed),
        state_(model_.zero_state(kStreams)) {
    std::seed_seq seeds{options.seed, static_cast<std::uint64_t>(rank)};
    std::mt19937_64 random(seeds);
    for (std::size_t& place : places_) {
      place = std::uniform_int_distribution<std::size_t>(first, end - kSteps - 2)(random);
    }
  }

  std::vector<Parameter<float>>& parameters() override { return model_.parameters(); }

  double backward() override {
    Text piece((kSteps + 1) * kStreams);
    for (std::size_t stream = 0; stream < kStreams; ++stream) {
      std::size_t& place = places_[stream];
      if (place + kSteps + 1 > end_) place = first_;
      for (std::size_t t = 0; t <= kSteps; ++t) piece[t * kStreams + stream] = corpus_.train[place + t];
      place += kSteps;
    }
    const double loss = model_.backward(piece, kStreams, state_);
    clip();
    return loss;
  }

  /// Bits a character, the first of each block aside.
  double score() override {
    const std::size_t streams = corpus_.held_out.size();
    auto state = model_.zero_state(streams);
    constexpr std::size_t kPiece = 64;
    double sum = 0;
    for (std::size_t first = 0; first + 1 < kBlock; first += kPiece) {
      const std::size_t rows = std::min(kPiece + 1, kBlock - first);
      Text piece(rows * streams);
      for (std::size_t t = 0; t < rows; ++t) {
        for (std::size_t stream = 0; stream < streams; ++stream) {
          piece[t * streams + stream] = corpus_.held_out[stream][first + t];
        }
      }
      sum += model_.loss(piece, streams, state) * static_cast<double>(rows - 1);
    }
    return sum / static_cast<double>(kBlock - 1) / std::numbers::ln2;
  }

 private:
  void clip() {
    double squares = 0;
    for (const auto& parameter : model_.parameters()) {
      for (const float value : parameter.gradient) squares += static_cast<double>(value * value);
    }
    if (squares <= kLargestGradient * kLargestGradient) return;
    const auto factor = static_cast<float>(kLargestGradient / std::sqrt(squares));
    for (auto& parameter : model_.parameters()) {
      for (float& value : parameter.gradient) value *= factor;
    }
  }

  const Corpus& corpus_;
  std::size_t first_;
  std::size_t end_;
  Lstm<float> model_;
  Lstm<float>::State state_;
  std::array<std::size_t, kStreams> places_{};
};

class Kjv final : public Task {
 public:
  explicit Kjv(const Options& options) : options_(options), corpus_(read_corpus(options.data)) {}
  const char* score_name() const override { return "bits_per_char"; }
  std::unique_ptr<Replica> make_replica(int rank) const override {
    const std::size_t size = corpus_.train.size();
    const auto part = [&](int number) {
      return size * static_cast<std::size_t>(number) / static_cast<std::size_t>(options_.ranks);
    };
    const std::size_t first = options_.is_skewed ? part(rank) : 0;
    const std::size_t end = options_.is_skewed ? part(rank + 1) : size;
    return std::make_unique<KjvReplica>(corpus_, first, end, options_, rank);
  }

 private:
  Options options_;
  Corpus corpus_;
};

}  // namespace

std::unique_ptr<Task> make_kjv(const Options& options) { return std::make_unique<Kjv>(options); }

}  // namespace training
