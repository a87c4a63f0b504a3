#include "options.hpp"

#include <boost/program_options.hpp>

#include <algorithm>
#include <cmath>
#include <iostream>

#include "fail.hpp"

#include "gradwire/compressor.hpp"
#include "gradwire/feedback.hpp"
#include "gradwire/plan.hpp"

namespace demo {
namespace {

namespace po = boost::program_options;

constexpr const char* kIntroduction =
    R"(Trains a small convolutional network on Fashion-MNIST, data-parallel, with gradients sent by gradwire.

  mpirun -np 4 train_fashion_mnist --compressor q4     four processes over MPI
  train_fashion_mnist --ranks 4 --compressor dense     four threads of one process
  train_fashion_mnist --compare dense.json q4.json     a table of earlier runs, trains nothing

The table and --json tell the training loss of the last epoch, the accuracy on the test images (percent in the table, a
fraction from 0 to 1 in JSON as test_accuracy), the bytes one rank sends a step (dense: what an optimal uncompressed
allreduce sends; wire: what was sent), their ratio, the seconds of training, and the seconds of them that a rank stood
waiting for communication (exposed; the mean over ranks).

Options)";

po::options_description describe(Options& o) {
  po::options_description description(kIntroduction, 100);
  auto add = description.add_options();
  add("help,h", "print this");
  add("compressor", po::value(&o.compressor)->value_name("SPEC")->default_value(o.compressor),
      "a compressor of gradwire, such as q4, q8 or quantize(bits=4,bucket=512), or dense: no compression");
  add("feedback", po::value(&o.feedback)->value_name("RULE"),
      "none, ef (error feedback) or another rule of gradwire; default: ef, and none with --compressor dense. dgc, "
      "ef21_sgdm and onebit_adam bring the momentum: onebit_adam(freeze=STEPS) makes the optimiser Adam");
  add("algorithm", po::value(&o.algorithm)->value_name("NAME")->default_value(o.algorithm),
      "allreduce algorithm; auto: the library chooses, and dense with --compressor dense");
  add("device", po::value<std::string>()->value_name("cpu|cuda")->default_value("cpu"),
      "where the network is, with its gradients and what gradwire keeps of them; ranks of a node take its devices by "
      "turns. cuda needs a libtorch and a gradwire that are built with CUDA");
  add("nccl", po::bool_switch(&o.nccl), "with --device cuda: a device for each rank, and NCCL between them");
  add("ranks", po::value<int>()->value_name("N"),
      "threads that train together, default 4; under mpirun that decides, and N may only repeat it");
  add("epochs", po::value(&o.epochs)->value_name("N")->default_value(o.epochs), "passes over the training images");
  add("batch", po::value(&o.batch)->value_name("N")->default_value(o.batch), "images per rank and step");
  add("lr", po::value<double>()->value_name("X"),
      "highest learning rate: linear warm-up over half an epoch, then a cosine down to 0; default: 0.2, 2 with "
      "--feedback ef21_sgdm and 0.001 with onebit_adam");
  add("momentum", po::value<double>()->value_name("X"),
      "of SGD, from 0 to below 1 (weight decay is 5e-4; 0.01 with onebit_adam); default: 0.9, and 0 with rules that "
      "bring it");
  add("seed", po::value<std::int64_t>()->value_name("N")->default_value(static_cast<std::int64_t>(o.seed)),
      "of the initial weights, the shuffling and stochastic rounding");
  add("data", po::value(&o.data)->value_name("DIR")->default_value(o.data),
      "directory of the four *-ubyte.gz files (Debian package dataset-fashion-mnist)");
  add("policy", po::value(&o.policy)->value_name("SPEC"),
      "choose a compressor for each layer while training: budget(ratio=20), lgreco(alpha=1) or another policy of "
      "gradwire; --compressor is what layers begin with, and the policy's reference");
  add("candidates", po::value(&o.candidates)->value_name("SPEC...")->multitoken(),
      "what --policy chooses from; default: quantisers, densities and ranks");
  add("plan-period", po::value<std::int64_t>()->value_name("STEPS"),
      "from plan to plan; default: an eighth of an epoch");
  add("plan", po::value(&o.plan)->value_name("FILE"), "train with the plan in this file (gradwire plan solve)");
  add("trace", po::value(&o.trace)->value_name("FILE"),
      "record gradients and what candidates would cost and lose, for gradwire plan compare");
  add("report", po::value(&o.report)->value_name("FILE"), "log the run to FILE, for gradwire report");
  add("json", po::value(&o.json)->value_name("FILE"), "write the figures to FILE");
  add("record", po::value(&o.record)->value_name("DIR"),
      "write rank 0's gradients of the last step of each epoch, as DIR/epoch<N>.<parameter>.npy");
  add("quiet,q", po::bool_switch(&o.is_quiet), "no progress bar and no table");
  add("compare", po::value(&o.compare)->value_name("FILE...")->multitoken(),
      "print the figures that earlier runs wrote with --json beside each other, and train nothing");
  return description;
}

constexpr const char* kStrayWords = "stray words";

po::variables_map read(int argc, const char* const* argv, const po::options_description& description) {
  namespace style = po::command_line_style;
  po::options_description accepted;
  accepted.add(description).add_options()(kStrayWords, po::value<std::vector<std::string>>());
  po::variables_map values;
  po::store(po::command_line_parser(argc, argv)
                .options(accepted)
                .positional(po::positional_options_description().add(kStrayWords, -1))
                .style(style::unix_style & ~style::allow_guessing)
                .run(),
            values);
  po::notify(values);
  if (values.count(kStrayWords) > 0) {
    const auto& words = values[kStrayWords].as<std::vector<std::string>>();
    require(false, "unexpected word '{}': options start with --", words.front());
  }
  return values;
}

void check(const Options& o) {
  require(o.place == Place::cuda || !o.nccl, "--nccl: it is for --device cuda");
  require(o.place == Place::host || o.record.empty(), "--record: with --device cuda gradients are not in host memory");
  require(!o.ranks || *o.ranks >= 1, "--ranks {}: expected at least 1", o.ranks.value_or(0));
  require(o.epochs >= 1, "--epochs {}: expected at least 1", o.epochs);
  require(o.batch >= 1, "--batch {}: expected at least 1", o.batch);
  if (!o.is_dense()) static_cast<void>(gradwire::make_compressor(o.compressor));
  if (!o.policy.empty()) static_cast<void>(gradwire::make_policy(o.policy));
  for (const std::string& spec : o.candidates) static_cast<void>(gradwire::make_compressor(spec));
  require(o.candidates.empty() || !o.policy.empty() || !o.trace.empty(),
          "--candidates: they are for --policy or --trace, and neither is given");
  require(!o.is_dense() || (o.policy.empty() && o.plan.empty() && o.trace.empty()),
          "--compressor dense: there are no compressed layers that --policy, --plan or --trace could be about");
}

/// Of the rule, but for what the command line says.
Optimizer read_optimizer(const Options& o, const po::variables_map& values) {
  static_cast<void>(gradwire::make_rule(o.feedback, {}));
  Optimizer optimizer = optimizer_for(o.feedback);
  require(!o.is_dense() || o.feedback == "none" || optimizer.rule_has_momentum,
          "--feedback {}: --compressor dense loses nothing that could be fed back; expected none", o.feedback);
  if (values.count("lr") > 0) optimizer.learning_rate = values["lr"].as<double>();
  if (values.count("momentum") > 0) {
    const auto momentum = values["momentum"].as<double>();
    require(momentum == 0 || !optimizer.rule_has_momentum,
            "--momentum {}: --feedback {} has the momentum in itself, and would get it twice; expected 0", momentum,
            o.feedback);
    optimizer.momentum = momentum;
  }
  require(std::isfinite(optimizer.learning_rate) && optimizer.learning_rate > 0, "--lr {}: expected a number above 0",
          optimizer.learning_rate);
  require(optimizer.momentum >= 0 && optimizer.momentum < 1, "--momentum {}: expected 0 or more and less than 1",
          optimizer.momentum);
  return optimizer;
}

}  // namespace

std::optional<Options> parse_options(int argc, const char* const* argv) {
  Options options;
  const po::options_description description = describe(options);
  const po::variables_map values = read(argc, argv, description);
  if (values.count("help") > 0) {
    std::cout << description << '\n';
    return std::nullopt;
  }
  if (values.count("ranks") > 0) options.ranks = values["ranks"].as<int>();
  const auto& device = values["device"].as<std::string>();
  require(device == "cpu" || device == "cuda", "--device {}: expected cpu or cuda", device);
  options.place = device == "cuda" ? Place::cuda : Place::host;
  const auto seed = values["seed"].as<std::int64_t>();
  require(seed >= 0, "--seed {}: expected 0 or more", seed);
  options.seed = static_cast<std::uint64_t>(seed);
  if (values.count("plan-period") > 0) {
    const auto steps = values["plan-period"].as<std::int64_t>();
    require(!options.policy.empty() || !options.trace.empty(),
            "--plan-period: it is for --policy or --trace, and neither is given");
    require(steps >= 8, "--plan-period {}: expected 8 steps or more", steps);
    options.plan_period = static_cast<std::uint64_t>(steps);
  }
  if (options.feedback.empty()) options.feedback = options.is_dense() ? "none" : "ef";
  check(options);
  options.optimizer = read_optimizer(options, values);
  return options;
}

gradwire::HookOptions hook_options(const Options& options, std::int64_t steps_per_epoch) {
  gradwire::HookOptions hook;
  hook.compressor = options.is_dense() ? "none" : options.compressor;
  hook.rule = options.feedback;
  hook.algorithm = options.is_dense() && options.algorithm == "auto" ? "dense" : options.algorithm;
  hook.seed = options.seed;
  hook.space = options.place == Place::cuda ? gradwire::Space::device : gradwire::Space::host;
  hook.bucket_bytes = 1u << 20;  // the hidden layer closes one, and travels while backward is in the convolutions
  hook.planning.policy = options.policy;
  hook.planning.candidates = options.candidates;
  hook.planning.trace = options.trace;
  // A first plan soon: what is sent until then counts too. Steps are short here, so measuring may take more of them.
  hook.planning.start = 4;
  hook.planning.period = options.plan_period > 0
                             ? options.plan_period
                             : static_cast<std::uint64_t>(std::max<std::int64_t>(steps_per_epoch / 8, 16));
  hook.planning.samples = 2;
  hook.planning.share = 0.25;
  hook.planning.lag = std::min<std::uint64_t>(hook.planning.lag, hook.planning.period - 1);
  return hook;
}

}  // namespace demo
