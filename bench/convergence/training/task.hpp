#pragma once
#include <memory>
#include <vector>

#include "options.hpp"
#include "parameter.hpp"

namespace training {

/// One rank's replica of a model, and its share of the data.
class Replica {
 public:
  Replica() = default;
  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;
  virtual ~Replica() = default;

  [[nodiscard]] virtual std::vector<Parameter<float>>& parameters() = 0;
  /// The gradient of this rank's next batch. Returns its mean loss in nats.
  virtual double backward() = 0;
  /// On the held-out data.
  [[nodiscard]] virtual double score() = 0;
};

/// What all ranks train on; read from many threads.
class Task {
 public:
  Task() = default;
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  virtual ~Task() = default;

  [[nodiscard]] virtual const char* score_name() const = 0;
  /// Replicas of all ranks begin with the same weights.
  [[nodiscard]] virtual std::unique_ptr<Replica> make_replica(int rank) const = 0;
};

/// Throw std::runtime_error naming the file that cannot be used.
[[nodiscard]] std::unique_ptr<Task> make_fashion(const Options& options);
[[nodiscard]] std::unique_ptr<Task> make_kjv(const Options& options);

}  // namespace training
