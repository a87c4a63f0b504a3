// What feedback rules do on problems whose answer is known:
//
//     convergence_bench [--only EXPERIMENT...] [--seed N] [--json FILE]
#include <boost/program_options.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <stdexcept>

#include "runs.hpp"

namespace gradwire::convergence {
namespace {

namespace po = boost::program_options;

struct Experiment {
  const char* name;
  Json (*run)(const Settings& settings);
};

constexpr Experiment kExperiments[] = {
    {"known_answer", known_answer},           {"noise_ball", noise_ball}, {"workers", numbers_of_workers},
    {"noise_and_workers", noise_and_workers}, {"tuned", tuned},           {"two_steps", two_lossy_steps},
};

std::string names() {
  std::string text;
  for (const Experiment& experiment : kExperiments) text += (text.empty() ? "" : ", ") + std::string(experiment.name);
  return text;
}

void check_names(const std::vector<std::string>& only) {
  for (const std::string& name : only) {
    const bool known = std::any_of(std::begin(kExperiments), std::end(kExperiments),
                                   [&](const Experiment& experiment) { return experiment.name == name; });
    if (!known) throw po::error("unknown experiment '" + name + "', accepted: " + names());
  }
}

void write(const std::string& path, const Json& all) {
  std::ofstream file(path);
  file << all.dump() << '\n';
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path);
}

int run(int argc, char** argv) {
  Settings settings;
  std::vector<std::string> only;
  std::string path;
  po::options_description flags("Options");
  auto add = flags.add_options();
  add("help,h", "this text");
  add("only", po::value(&only)->multitoken(), ("these experiments: " + names()).c_str());
  add("seed", po::value(&settings.seed)->default_value(1), "of problems, noise and compressors");
  add("json,J", po::value(&path), "also write all rows, with histories, to this file");
  po::variables_map given;
  po::store(po::parse_command_line(argc, argv, flags), given);
  if (given.count("help")) {
    std::cout << "Descends problems whose minimiser is known, by every feedback rule.\n" << flags;
    return 0;
  }
  po::notify(given);
  check_names(only);
  Json all = {{"seed", settings.seed}};
  for (const Experiment& experiment : kExperiments) {
    if (!only.empty() && std::find(only.begin(), only.end(), experiment.name) == only.end()) continue;
    all[experiment.name] = experiment.run(settings);
  }
  if (!path.empty()) write(path, all);
  return 0;
}

}  // namespace
}  // namespace gradwire::convergence

int main(int argc, char** argv) {
  try {
    return gradwire::convergence::run(argc, argv);
  } catch (const boost::program_options::error& error) {
    fmt::print(stderr, "convergence_bench: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "convergence_bench: {}\n", error.what());
    return 1;
  }
}
