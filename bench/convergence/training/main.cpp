#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <exception>

#include "options.hpp"
#include "train.hpp"

namespace training {
namespace {

int run(const Options& options) {
  const std::unique_ptr<Task> task = options.is_fashion() ? make_fashion(options) : make_kjv(options);
  const Result result = train(*task, options);
  const nlohmann::ordered_json line = {{"task", options.task},
                                       {"model", options.model},
                                       {"ranks", options.ranks},
                                       {"shards", options.is_skewed ? "skew" : "iid"},
                                       {"scheme", options.scheme},
                                       {"lr", options.learning_rate},
                                       {"momentum", options.momentum},
                                       {"optimizer", options.is_adam ? "adam" : "sgd"},
                                       {"policy", options.planning.policy},
                                       {"steps", options.steps},
                                       {"hidden", options.hidden},
                                       {"seed", options.seed},
                                       {task->score_name(), result.score},
                                       {"training_loss", result.loss},
                                       {"skipped_steps", result.skipped_steps},
                                       {"wire_bytes_per_step", result.wire_bytes_per_step},
                                       {"dense_bytes_per_step", result.dense_bytes_per_step},
                                       {"ratio", result.dense_bytes_per_step / result.wire_bytes_per_step},
                                       {"seconds", result.seconds}};
  fmt::print("{}\n", line.dump());
  return 0;
}

}  // namespace
}  // namespace training

int main(int argc, char** argv) {
  try {
    const auto options = training::parse_options(argc, argv);
    return options ? training::run(*options) : 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "train_bench: {}\n", error.what());
    return 1;
  }
}
