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
#include "transformer.hpp"

namespace training {
namespace {

using demo::require;
using Text = std::vector<std::uint8_t>;  // character numbers

constexpr std::size_t kStreams = 8;
constexpr std::size_t kLstmSteps = 32;
constexpr std::size_t kContext = 64;    // the transformer's
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

/// What a rank reads: kStreams streams begin at random places of [first, end) of the training text and run on, round
/// and round.
class Streams {
 public:
  Streams(const Corpus& corpus, std::size_t first, std::size_t end, std::size_t steps, std::uint64_t seed, int rank)
      : corpus_(corpus), first_(first), end_(end), steps_(steps) {
    std::seed_seq seeds{seed, static_cast<std::uint64_t>(rank)};
    std::mt19937_64 random(seeds);
    for (std::size_t& place : places_) {
      place = std::uniform_int_distribution<std::size_t>(first, end - steps - 2)(random);
    }
  }

  /// Where the next piece of a stream begins: steps characters, and the one behind them.
  [[nodiscard]] const std::uint8_t* next(std::size_t stream) {
    std::size_t& place = places_[stream];
    if (place + steps_ + 1 > end_) place = first_;
    const std::uint8_t* const piece = corpus_.train.data() + place;
    place += steps_;
    return piece;
  }

 private:
  const Corpus& corpus_;
  std::size_t first_;
  std::size_t end_;
  std::size_t steps_;
  std::array<std::size_t, kStreams> places_{};
};

void clip(std::vector<Parameter<float>>& parameters) {
  double squares = 0;
  for (const auto& parameter : parameters) {
    for (const float value : parameter.gradient) squares += static_cast<double>(value * value);
  }
  if (squares <= kLargestGradient * kLargestGradient) return;
  const auto factor = static_cast<float>(kLargestGradient / std::sqrt(squares));
  for (auto& parameter : parameters) {
    for (float& value : parameter.gradient) value *= factor;
  }
}

class LstmReplica final : public Replica {
 public:
  LstmReplica(const Corpus& corpus, const Streams& streams, const Options& options)
      : corpus_(corpus),
        streams_(streams),
        model_({.characters = corpus.characters, .hidden = options.hidden}, options.seed),
        state_(model_.zero_state(kStreams)) {}

  std::vector<Parameter<float>>& parameters() override { return model_.parameters(); }

  double backward() override {
    Text piece((kLstmSteps + 1) * kStreams);
    for (std::size_t stream = 0; stream < kStreams; ++stream) {
      const std::uint8_t* const next = streams_.next(stream);
      for (std::size_t t = 0; t <= kLstmSteps; ++t) piece[t * kStreams + stream] = next[t];
    }
    const double loss = model_.backward(piece, kStreams, state_);
    clip(model_.parameters());
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
  const Corpus& corpus_;
  Streams streams_;
  Lstm<float> model_;
  Lstm<float>::State state_;
};

class TransformerReplica final : public Replica {
 public:
  TransformerReplica(const Corpus& corpus, const Streams& streams, const Options& options)
      : corpus_(corpus),
        streams_(streams),
        model_({.characters = corpus.characters, .width = options.hidden, .context = kContext}, options.seed) {}

  std::vector<Parameter<float>>& parameters() override { return model_.parameters(); }

  double backward() override {
    Text pieces;
    for (std::size_t stream = 0; stream < kStreams; ++stream) {
      const std::uint8_t* const next = streams_.next(stream);
      pieces.insert(pieces.end(), next, next + kContext + 1);
    }
    const double loss = model_.backward(pieces, kStreams);
    clip(model_.parameters());
    return loss;
  }

  /// Bits a character, the first of each block aside. Pieces overlap by a half, so that each character but those of the
  /// first half piece is predicted from at least half a context.
  double score() override {
    const std::size_t streams = corpus_.held_out.size();
    double sum = 0;
    std::size_t done = 1;  // characters of a block, the first of which nothing predicts
    while (done < kBlock) {
      const std::size_t first = done > kContext / 2 ? done - kContext / 2 - 1 : 0;
      const std::size_t size = std::min(kContext + 1, kBlock - first);
      Text pieces;
      for (const Text& block : corpus_.held_out) {
        const auto begin = block.begin() + static_cast<std::ptrdiff_t>(first);
        pieces.insert(pieces.end(), begin, begin + static_cast<std::ptrdiff_t>(size));
      }
      const std::vector<double> losses = model_.losses(pieces, streams);
      for (std::size_t i = 0; i < losses.size(); ++i) {
        const std::size_t predicted = first + 1 + i % (size - 1);
        if (predicted >= done) sum += losses[i];
      }
      done = first + size;
    }
    return sum / static_cast<double>(streams * (kBlock - 1)) / std::numbers::ln2;
  }

 private:
  const Corpus& corpus_;
  Streams streams_;
  Transformer<float> model_;
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
    const bool is_lstm = options_.model == "lstm";
    const Streams streams(corpus_, first, end, is_lstm ? kLstmSteps : kContext, options_.seed, rank);
    if (is_lstm) return std::make_unique<LstmReplica>(corpus_, streams, options_);
    return std::make_unique<TransformerReplica>(corpus_, streams, options_);
  }

 private:
  Options options_;
  Corpus corpus_;
};

}  // namespace

std::unique_ptr<Task> make_kjv(const Options& options) { return std::make_unique<Kjv>(options); }

}  // namespace training
