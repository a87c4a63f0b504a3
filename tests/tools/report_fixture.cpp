// Writes logs of runs for the tests of `gradwire report`: report_fixture CASE RUN.json
// Layers, steps and times are made up; tables are measured and plans solved by gradwire itself. Of `hook` nothing is.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tools/report_hook_run.hpp"

#include "gradwire/run_log.hpp"

namespace gradwire::test {
namespace {

struct Shape {
  std::string name;
  std::vector<std::size_t> extents;

  [[nodiscard]] std::size_t count() const {
    std::size_t product = 1;
    for (const std::size_t extent : extents) product *= extent;
    return product;
  }
};

struct Model {
  std::string name;
  std::vector<Shape> layers;  ///< planned ones; each has a bias that is not
};

Model small_network() {
  return {"small network",
          {{"stem.conv.weight", {32, 3, 5, 5}},
           {"block1.conv1.weight", {32, 32, 3, 3}},
           {"block1.conv2.weight", {32, 32, 3, 3}},
           {"block2.conv1.weight", {48, 32, 3, 3}},
           {"block2.conv2.weight", {48, 48, 3, 3}},
           {"block2.shortcut.weight", {48, 32}},
           {"block3.conv1.weight", {64, 48, 3, 3}},
           {"block3.conv2.weight", {64, 64, 3, 3}},
           {"hidden.weight", {128, 512}},
           {"embedding.weight", {600, 64}},
           {"attention.query.weight", {64, 64}},
           {"classifier.weight", {10, 128}}}};
}

Model deep_network() {
  Model model{"deep <b>network</b> & co.", {}};
  for (int block = 0; block < 20; ++block) {
    for (const char* part : {"attention.self.query", "attention.self.key", "attention.self.value", "attention.output",
                             "intermediate.dense", "output.dense", "adapter.down", "adapter.up"}) {
      const std::string prefix = "backbone.transformer.encoder.layer.";
      model.layers.push_back({prefix + std::to_string(block) + "." + part + ".weight", {32, 48}});
    }
  }
  model.layers[0].name = "</script><script>document.title='owned'</script>";
  model.layers[1].name = "</title></text></svg><img src=x onerror=\"document.title='owned'\">";
  model.layers[2].name = "\" onmouseover=\"document.title='owned'\" class=\"";
  model.layers[3].name =
      "couche.d\xC3\xA9"
      "codeur.\xE5\xB1\xA4\xE3\x81\xAE\xE5\x90\x8D\xE5\x89\x8D.&amp;.{{heading}}";
  return model;
}

/// Gradients that are smaller as training goes on; by turns noise, sparse rows, and low rank under noise.
std::vector<float> gradient(const Shape& shape, std::size_t layer, std::size_t window) {
  std::mt19937 random(static_cast<unsigned>(1000 * window + layer));
  std::normal_distribution<double> normal;
  const std::size_t rows = shape.extents.front();
  const std::size_t columns = shape.count() / rows;
  const std::size_t kind = layer % 4;
  const double scale = 0.05 / std::sqrt(1.0 + static_cast<double>(window)) / (1.0 + 0.3 * static_cast<double>(kind));
  std::vector<double> left(rows);
  std::vector<double> right(columns);
  for (double& value : left) value = normal(random);
  for (double& value : right) value = normal(random);
  const double noise = kind == 2 ? 0.04 + 0.03 * static_cast<double>(window) : 1;
  std::vector<float> values;
  values.reserve(shape.count());
  for (std::size_t row = 0; row < rows; ++row) {
    const bool is_used = kind != 1 || random() % (60 / (window + 1)) == 0;
    for (std::size_t column = 0; column < columns; ++column) {
      const double tail = 0.1 * static_cast<double>(kind);
      const double z = normal(random);
      const double value = (kind == 2 ? left[row] * right[column] : 0) + noise * z * (1 + tail * z * z);
      values.push_back(static_cast<float>(scale * (is_used ? value : 0.004 * z)));
    }
  }
  return values;
}

Table measure(const Model& model, std::size_t window, const std::vector<std::string>& specs) {
  Table table;
  for (std::size_t i = 0; i < model.layers.size(); ++i) {
    const Shape& shape = model.layers[i];
    const std::vector<float> values = gradient(shape, i, window);
    TableLayer layer = measure_layer({shape.name, {values.data(), values.size()}, shape.extents, {}}, specs, 0);
    layer.shape = shape.extents;
    double squares = 0;
    for (const float value : values) squares += static_cast<double>(value) * value;
    layer.norm = std::sqrt(squares);
    table.layers.push_back(std::move(layer));
  }
  return table;
}

/// What a hook would report, with times as on a slow network.
class Trainer {
 public:
  Trainer(const Model& model, int ranks) : model_(model), ranks_(ranks) {}

  void adopt(const Plan& plan) { plan_ = plan; }

  StepReport step(std::uint64_t number, const Table& table) {
    StepReport report;
    report.step = number;
    const double travels = 2.0 * (ranks_ - 1) / ranks_;
    double at = 0;
    for (std::size_t i = 0; i < model_.layers.size(); ++i) {
      const Shape& shape = model_.layers[i];
      const PlanLayer* planned = plan_.layers.empty() ? nullptr : &plan_.layers[i];
      const Candidate& reference = table.layers[i].candidates[table.layers[i].reference];
      const std::size_t bias = shape.extents.front();
      report.params.push_back({shape.name, planned ? planned->spec : reference.spec, "ef", shape.count(), 0.1});
      report.params.push_back({shape.name + ".bias", "dense", "none", bias, 0});
      report.dense_bytes += static_cast<std::uint64_t>(4 * travels * static_cast<double>(shape.count() + bias));
      const auto bytes =
          static_cast<double>(planned ? planned->bytes : reference.bytes) + 4.0 * static_cast<double>(bias);
      pending_.push_back(i);
      pending_bytes_ += bytes * travels;
      if (pending_.size() == 3 || i + 1 == model_.layers.size()) at = launch(report, at);
    }
    report.exposed_us = 0.3 * at * jitter();
    return report;
  }

 private:
  double jitter() { return std::uniform_real_distribution<double>(0.85, 1.25)(random_); }

  /// Launches overlap: each bucket begins when the one before has been encoded.
  double launch(StepReport& report, double at) {
    BucketReport bucket;
    double elements = 0;
    for (const std::size_t layer : pending_) {
      bucket.params.push_back(2 * layer);
      bucket.params.push_back(2 * layer + 1);
      elements += static_cast<double>(model_.layers[layer].count());
    }
    bucket.launch_us = at;
    bucket.encode_us = 20 + elements * 4e-3 * jitter();
    bucket.wire_us = 60 + pending_bytes_ * 8e-3 * jitter();
    bucket.decode_us = 15 + elements * 3e-3 * jitter();
    bucket.done_us = at + (bucket.encode_us + bucket.wire_us + bucket.decode_us) * 1.15;
    bucket.wire_bytes = static_cast<std::uint64_t>(pending_bytes_);
    report.wire_bytes += bucket.wire_bytes;
    report.encode_us += bucket.encode_us;
    report.wire_us += bucket.wire_us;
    report.decode_us += bucket.decode_us;
    const double next = at + bucket.encode_us * 1.5;
    report.buckets.push_back(std::move(bucket));
    pending_.clear();
    pending_bytes_ = 0;
    return next;
  }

  const Model& model_;
  int ranks_;
  Plan plan_;
  std::vector<std::size_t> pending_;
  double pending_bytes_ = 0;
  std::mt19937 random_{7};
};

struct Scenario {
  Model model;
  std::string policy;
  std::uint64_t steps = 0;
  std::uint64_t start = 0;
  std::uint64_t period = 0;
};

RunLog train(const Scenario& scenario) {
  const std::vector<std::string> specs{"q4", "q2", "q8", "topk(0.01)", "topk(0.05)", "powersgd(2)", "f16"};
  const Policy policy = make_policy(scenario.policy);
  RunLog log({.name = scenario.model.name,
              .compressor = "q4",
              .policy = policy.spec(),
              .transport = "local",
              .ranks = 4,
              .rank = 0,
              .more = {{"batch", "64 a rank"}, {"parameters", "<script>alert(1)</script>"}}});
  Trainer trainer(scenario.model, 4);
  Table table = measure(scenario.model, 0, specs);
  std::size_t window = 0;
  for (std::uint64_t step = 1; step <= scenario.steps; ++step) {
    if (step > scenario.start && (step - scenario.start - 1) % scenario.period == 0) {
      table = measure(scenario.model, ++window, specs);
      const Plan plan = policy.plan(table);
      trainer.adopt(plan);
      log.plan(step - 1, plan, &table);
      log.event({step - 1, PlanOutcome::adopted, "41 % fewer bytes than the plan before"});
      if (window == 3) log.event({step + 119, PlanOutcome::kept, "the new plan would save 1.2 %, less than 5 %"});
    }
    log.step(trainer.step(step, table));
    if (step % 50 == 0) {
      const auto done = static_cast<double>(step);
      log.accuracy(step, step == 500 ? std::numeric_limits<double>::quiet_NaN() : 0.91 - 0.8 * std::exp(-done / 400),
                   "test accuracy");
    }
  }
  return log;
}

RunLog one_layer() {
  RunLog log({.name = "one layer", .compressor = "q4", .policy = "", .transport = "mpi", .ranks = 1});
  Plan plan;
  plan.layers.push_back({"weight", "topk(0.01)|q4", 0, 0});
  log.plan(4, plan);
  for (std::uint64_t step = 1; step <= 9; ++step) {
    StepReport report;
    report.step = step;
    report.exposed_us = 12;
    log.step(report);
  }
  return log;
}

int main_of(const std::string& which, const std::string& path) {
  const std::map<std::string, std::function<RunLog()>> cases{
      {"usual",
       [] {
         return train({small_network(), "budget(error=1)", 3000, 100, 400});
       }},
      {"bytes",
       [] {
         return train({small_network(), "budget(ratio=20)", 700, 100, 100});
       }},
      {"plain",
       [] {
         return train({small_network(), "lgreco(alpha=1)", 700, 0, 100});
       }},
      {"deep",
       [] {
         return train({deep_network(), "budget(error=1.2)", 900, 60, 120});
       }},
      {"hook", [] { return train_with_hook(50); }},
      {"one", one_layer},
      {"empty", [] { return RunLog({.name = "", .compressor = "", .policy = "", .transport = ""}); }}};
  const auto found = cases.find(which);
  if (found == cases.end()) {
    std::fprintf(stderr, "report_fixture: no case '%s'\n", which.c_str());
    return 2;
  }
  found->second().write(path);
  return 0;
}

}  // namespace
}  // namespace gradwire::test

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: report_fixture CASE RUN.json\n");
    return 2;
  }
  try {
    return gradwire::test::main_of(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "report_fixture: %s\n", error.what());
    return 1;
  }
}
