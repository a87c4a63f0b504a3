#include <algorithm>
#include <random>

#include "examples/train_fashion_mnist/dataset.hpp"
#include "perceptron.hpp"
#include "task.hpp"

namespace training {
namespace {

constexpr std::size_t kPixels = static_cast<std::size_t>(demo::Dataset::kSide * demo::Dataset::kSide);
constexpr std::size_t kClasses = static_cast<std::size_t>(demo::Dataset::kClasses);
constexpr std::size_t kBatch = 64;
constexpr float kMean = 0.286F;  // of the training pixels, from 0 to 1
constexpr float kDeviation = 0.353F;

using Shard = std::vector<std::size_t>;  // numbers of images

std::vector<Shard> deal_evenly(const demo::Split& train, int ranks, std::mt19937_64& random) {
  Shard all(train.labels.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  std::shuffle(all.begin(), all.end(), random);
  std::vector<Shard> shards(static_cast<std::size_t>(ranks));
  for (std::size_t i = 0; i < all.size(); ++i) shards[i % shards.size()].push_back(all[i]);
  return shards;
}

/// Two or three classes a rank (for up to 5 and more ranks alike): each class is cut in as many parts as it takes to
/// give every rank two, and parts are dealt class after class.
std::vector<Shard> deal_classes(const demo::Split& train, int ranks) {
  std::vector<Shard> shards(static_cast<std::size_t>(ranks));
  const std::size_t parts = (2 * shards.size() + kClasses - 1) / kClasses;
  std::vector<std::size_t> seen(kClasses);
  for (std::size_t i = 0; i < train.labels.size(); ++i) {
    const std::size_t label = train.labels[i];
    const std::size_t part = seen[label]++ % parts;
    shards[(part * kClasses + label) % shards.size()].push_back(i);
  }
  return shards;
}

class FashionReplica final : public Replica {
 public:
  FashionReplica(const demo::Dataset& data, Shard shard, const Options& options, int rank)
      : data_(data), shard_(std::move(shard)), model_({.hidden = options.hidden}, options.seed), next_(shard_.size()) {
    std::seed_seq seeds{options.seed, static_cast<std::uint64_t>(rank)};
    random_.seed(seeds);
  }

  std::vector<Parameter<float>>& parameters() override { return model_.parameters(); }

  double backward() override {
    images_.clear();
    labels_.clear();
    for (std::size_t i = 0; i < kBatch; ++i) add(data_.train, next_image());
    return model_.backward(images_, labels_);
  }

  double score() override {
    constexpr std::size_t kPiece = 1000;
    const std::size_t count = data_.test.labels.size();
    std::size_t correct = 0;
    for (std::size_t first = 0; first < count; first += kPiece) {
      images_.clear();
      labels_.clear();
      for (std::size_t i = first; i < std::min(count, first + kPiece); ++i) add(data_.test, i);
      correct += model_.count_correct(images_, labels_);
    }
    return static_cast<double>(correct) / static_cast<double>(count);
  }

 private:
  std::size_t next_image() {
    if (next_ == shard_.size()) {
      std::shuffle(shard_.begin(), shard_.end(), random_);
      next_ = 0;
    }
    return shard_[next_++];
  }

  void add(const demo::Split& split, std::size_t image) {
    labels_.push_back(split.labels[image]);
    const std::uint8_t* const pixels = split.pixels.data() + image * kPixels;
    for (std::size_t i = 0; i < kPixels; ++i) {
      images_.push_back((static_cast<float>(pixels[i]) / 255 - kMean) / kDeviation);
    }
  }

  const demo::Dataset& data_;
  Shard shard_;
  Perceptron<float> model_;
  std::mt19937_64 random_;
  std::size_t next_;
  std::vector<float> images_;
  std::vector<std::uint8_t> labels_;
};

class Fashion final : public Task {
 public:
  explicit Fashion(const Options& options) : options_(options), data_(demo::load_dataset(options.data)) {
    std::mt19937_64 random(options.seed);
    shards_ =
        options.is_skewed ? deal_classes(data_.train, options.ranks) : deal_evenly(data_.train, options.ranks, random);
  }
  const char* score_name() const override { return "accuracy"; }
  std::unique_ptr<Replica> make_replica(int rank) const override {
    return std::make_unique<FashionReplica>(data_, shards_[static_cast<std::size_t>(rank)], options_, rank);
  }

 private:
  Options options_;
  demo::Dataset data_;
  std::vector<Shard> shards_;
};

}  // namespace

std::unique_ptr<Task> make_fashion(const Options& options) { return std::make_unique<Fashion>(options); }

}  // namespace training
