#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "optimizer.hpp"
#include "place.hpp"

#include "gradwire/hook.hpp"

namespace demo {

/// What the command line says.
struct Options {
  std::string compressor = "q4";  ///< a gradwire spec, or "dense"
  std::string feedback;           ///< never empty after parsing: a rule
  std::string algorithm = "auto";
  Place place = Place::host;
  bool nccl = false;         ///< ranks have a device each, and NCCL moves what is on it
  std::optional<int> ranks;  ///< as asked for; under an MPI launcher it may only repeat what that says
  int epochs = 6;
  int batch = 64;  ///< images per rank and step
  Optimizer optimizer;
  std::uint64_t seed = 1;
  std::string json;  ///< where to write the figures; empty: nowhere
  std::string data = "/usr/share/datasets/fashion-mnist";
  std::string policy;                   ///< by which layers get compressors while training; empty: none
  std::vector<std::string> candidates;  ///< what it chooses from; empty: the library's
  std::uint64_t plan_period = 0;        ///< steps from plan to plan; 0: an eighth of an epoch
  std::string plan;                     ///< JSON file of a plan to train with; empty: none
  std::string trace;                    ///< file for what the hook measures; empty: none
  std::string report;                   ///< file for a log that `gradwire report` draws; empty: none
  std::string record;                   ///< directory for gradients of the last step of each epoch; empty: none
  bool is_quiet = false;
  std::vector<std::string> compare;  ///< JSON files to print beside each other instead of training

  [[nodiscard]] bool is_dense() const { return compressor == "dense"; }
};

/// Nothing when only help was asked for and printed. Throws std::exception naming the option that is wrong.
[[nodiscard]] std::optional<Options> parse_options(int argc, const char* const* argv);

/// How the hook is to send gradients. "dense" sends all of them uncompressed through the transport's own allreduce.
[[nodiscard]] gradwire::HookOptions hook_options(const Options& options, std::int64_t steps_per_epoch);

}  // namespace demo
