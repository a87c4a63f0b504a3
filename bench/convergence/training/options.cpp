#include "options.hpp"

#include <boost/program_options.hpp>
#include <fmt/format.h>

#include <cmath>
#include <iostream>

#include "examples/train_fashion_mnist/fail.hpp"

namespace training {
namespace {

using demo::require;
namespace po = boost::program_options;

constexpr const char* kIntroduction =
    R"(Trains a small network data-parallel, ranks as threads of one process, with gradients sent by gradwire's hook, and prints
one line of JSON: what was asked for, the score on held-out data, and the bytes one rank sent a step (mean over ranks and
steps; dense: what an optimal uncompressed allreduce sends).

  fashion   Fashion-MNIST, a perceptron of one hidden layer, 64 images a rank and step; score: accuracy
  kjv       the King James Bible over characters, 8 pieces a rank and step: an LSTM, 32 characters a piece, or a
            transformer of two blocks with four heads, 64 characters a piece; score: bits_per_char

Options)";

/// Rules that have the momentum themselves (docs/feedback.md).
bool has_momentum(const std::string& scheme) {
  const auto has = [&](const char* rule) { return scheme.find(rule) != std::string::npos; };
  return has("dgc") || has("ef21_sgdm") || has("onebit_adam");
}

}  // namespace

std::optional<Options> parse_options(int argc, const char* const* argv) {
  Options o;
  std::string shards = "iid";
  std::string optimizer = "sgd";
  po::options_description description(kIntroduction, 120);
  auto add = description.add_options();
  add("help,h", "print this");
  add("task", po::value(&o.task)->default_value(o.task), "fashion or kjv");
  add("model", po::value(&o.model), "kjv: lstm (default) or transformer");
  add("data", po::value(&o.data),
      "fashion: directory of the data set (default: where Debian's package puts it); kjv: a file of the text alone");
  add("ranks", po::value(&o.ranks)->default_value(o.ranks), "threads that train together");
  add("shards", po::value(&shards)->default_value(shards),
      "iid: each rank draws from all data; skew: from 2 or 3 classes, or from its own books");
  add("scheme", po::value(&o.scheme)->default_value(o.scheme),
      "dense, or COMPRESSOR[+RULE][+SCHEDULE...] (no rule: none)");
  add("lr", po::value(&o.learning_rate)->default_value(o.learning_rate, fmt::format("{}", o.learning_rate)),
      "highest learning rate: a linear warm-up over 5 % of the steps, then a cosine down to 0");
  add("momentum", po::value<double>(), "of the optimiser; default 0.9, and 0 with dgc and ef21_sgdm");
  add("optimizer", po::value(&optimizer)->default_value(optimizer),
      "sgd, or adam: on each rank, of the gradients that the hook delivers; its beta1 is the momentum, its beta2 0.99");
  add("hidden", po::value(&o.hidden), "hidden units, the transformer's width; default: fashion 256, kjv 128");
  add("steps", po::value(&o.steps), "default: fashion 6000 / ranks (6.4 epochs), kjv 400, with the transformer 600");
  add("policy", po::value(&o.planning.policy), "that plans compressors for layers while it trains (docs/planning.md)");
  add("candidates", po::value(&o.planning.candidates)->multitoken(),
      "SPEC ...: what each layer may get beside --scheme; default: the hook's");
  add("plan-start", po::value(&o.planning.start)->default_value(o.planning.start), "steps before the first window");
  add("plan-period", po::value(&o.planning.period)->default_value(o.planning.period), "steps of a window");
  add("seed", po::value(&o.seed)->default_value(o.seed), "of the initial weights and the order of the data");
  po::variables_map values;
  po::store(po::command_line_parser(argc, argv).options(description).positional({}).run(), values);
  po::notify(values);
  if (values.count("help") > 0) {
    std::cout << description << '\n';
    return std::nullopt;
  }
  require(o.task == "fashion" || o.task == "kjv", "--task {}: expected fashion or kjv", o.task);
  require(shards == "iid" || shards == "skew", "--shards {}: expected iid or skew", shards);
  require(o.ranks >= 1 && o.ranks <= 64, "--ranks {}: expected 1 to 64", o.ranks);
  require(std::isfinite(o.learning_rate) && o.learning_rate > 0, "--lr {}: expected a number above 0", o.learning_rate);
  require(o.is_fashion() || !o.data.empty(), "--task kjv needs --data FILE: the text");
  o.is_skewed = shards == "skew";
  if (o.model.empty()) o.model = o.is_fashion() ? "perceptron" : "lstm";
  require(o.is_fashion() ? o.model == "perceptron" : o.model == "lstm" || o.model == "transformer",
          "--model {}: expected {} for --task {}", o.model, o.is_fashion() ? "perceptron" : "lstm or transformer",
          o.task);
  require(optimizer == "sgd" || optimizer == "adam", "--optimizer {}: expected sgd or adam", optimizer);
  o.is_adam = optimizer == "adam";
  o.momentum = values.count("momentum") > 0 ? values["momentum"].as<double>() : has_momentum(o.scheme) ? 0 : 0.9;
  if (values.count("steps") == 0) o.steps = o.is_fashion() ? 6000 / o.ranks : o.model == "lstm" ? 400 : 600;
  if (values.count("hidden") == 0) o.hidden = o.is_fashion() ? 256 : 128;
  require(o.momentum >= 0 && o.momentum < 1, "--momentum {}: expected 0 or more and less than 1", o.momentum);
  require(o.hidden >= 1, "--hidden {}: expected at least 1", o.hidden);
  require(o.model != "transformer" || o.hidden % 4 == 0, "--hidden {}: four heads need a multiple of 4", o.hidden);
  require(o.steps >= 1, "--steps {}: expected at least 1", o.steps);
  for (const char* const name : {"candidates", "plan-start", "plan-period"}) {
    require(!o.planning.policy.empty() || values.count(name) == 0 || values[name].defaulted(), "--{} needs --policy",
            name);
  }
  const std::uint64_t first_plan = o.planning.start + o.planning.period + o.planning.lag;
  require(o.planning.policy.empty() || static_cast<std::uint64_t>(o.steps) > first_plan,
          "--policy: the first plan would hold from step {} on, of {}: see --plan-start and --plan-period", first_plan,
          o.steps);
  if (o.is_fashion() && o.data.empty()) o.data = "/usr/share/datasets/fashion-mnist";
  return o;
}

gradwire::HookOptions hook_options(const Options& options) {
  const bool is_dense = options.scheme == "dense";
  gradwire::HookOptions hook;
  hook.compressor = is_dense ? "none" : options.scheme;
  hook.rule = "none";
  hook.algorithm = is_dense ? "dense" : "auto";
  hook.seed = options.seed;
  hook.planning = options.planning;
  hook.library_thread = false;  // nothing to overlap with: ranks outnumber processors
  return hook;
}

}  // namespace training
