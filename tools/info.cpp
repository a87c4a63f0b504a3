#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <numeric>
#include <sstream>

#include "arguments.hpp"
#include "base/device.hpp"
#include "base/env.hpp"
#include "command.hpp"
#include "compress/isa.hpp"

#include "gradwire/allreduce.hpp"
#include "gradwire/compressor.hpp"
#include "gradwire/feedback.hpp"
#include "gradwire/plan.hpp"
#include "gradwire/version.hpp"

namespace gradwire::tools {
namespace {

using Json = nlohmann::ordered_json;

/// What can be told apart: each has a flag that shows it alone.
struct Section {
  const char* key;
  const char* title;
  Json (*collect)();
};

#ifdef __clang__
constexpr const char* kCompiler = "clang " __clang_version__;
#else
constexpr const char* kCompiler = "g++ " __VERSION__;
#endif

Json collect_build() {
  return {{"version", GRADWIRE_VERSION},       {"compiler", kCompiler},
          {"build_type", GRADWIRE_BUILD_TYPE}, {"mpi", GRADWIRE_HAVE_MPI == 1},
          {"cuda", GRADWIRE_HAVE_CUDA == 1},   {"nccl", GRADWIRE_HAVE_NCCL == 1},
          {"device", device::describe()},      {"torch_example", GRADWIRE_HAVE_TORCH == 1}};
}

Json collect_isa() { return {{"available", isa::list()}, {"in_use", isa::current()}}; }

Json collect_transports() {
  Json rows = Json::array();
  rows.push_back({{"name", "local"}, {"summary", "ranks as threads of one process, sharing memory"}});
  if (GRADWIRE_HAVE_MPI == 1) rows.push_back({{"name", "mpi"}, {"summary", "ranks as processes of an MPI job"}});
  if (GRADWIRE_HAVE_NCCL == 1) {
    rows.push_back({{"name", "nccl"}, {"summary", "ranks with a CUDA device each; host messages beside NCCL"}});
  }
  return rows;
}

Json collect_environment() {
  Json rows = Json::array();
  for (const EnvironmentRow& row : describe_environment()) {
    rows.push_back({{"variable", row.variable}, {"value", row.value}, {"meaning", row.meaning}});
  }
  return rows;
}

/// What more than frames it offers to algorithms.
Json facets_of(const Compressor& compressor) {
  Json facets = Json::array();
  if (compressor.sparsifier() != nullptr) facets.push_back("sparsifier");
  if (compressor.integer_coder() != nullptr) facets.push_back("integer_coder");
  if (compressor.low_rank() != nullptr) facets.push_back("low_rank");
  if (compressor.sum_encoder() != nullptr) facets.push_back("sum_encoder");
  if (compressor.batch_codec() != nullptr) facets.push_back("batch_codec");
  return facets;
}

/// Traits and facets are those of the example.
Json collect_compressors() {
  Json rows = Json::array();
  for (const CompressorInfo& row : list_compressors()) {
    const Compressor example = make_compressor(row.example);
    const CompressorTraits traits = example.traits();
    rows.push_back({{"name", row.name},
                    {"example", row.example},
                    {"options", row.options},
                    {"summary", row.summary},
                    {"unbiased", traits.unbiased},
                    {"fixed_size", traits.fixed_size},
                    {"lossless", traits.lossless},
                    {"on_device", traits.on_device},
                    {"block", traits.block_elems == kWholeTensor ? Json("tensor") : Json(traits.block_elems)},
                    {"facets", facets_of(example)},
                    {"error_bound", row.bound},
                    {"source", row.source}});
  }
  return rows;
}

Json collect_algorithms() {
  Json rows = Json::array();
  for (const AlgorithmInfo& row : list_algorithms()) {
    rows.push_back({{"name", row.name},
                    {"bytes_per_rank", row.bytes_per_rank},
                    {"lossy_steps", row.lossy_steps},
                    {"suits", row.suits}});
  }
  return rows;
}

/// Rules or policies.
template <class Row>
Json collect_choices(const std::vector<Row>& list) {
  Json rows = Json::array();
  for (const Row& row : list) {
    rows.push_back({{"name", row.name},
                    {"example", row.example},
                    {"options", row.options},
                    {"summary", row.summary},
                    {"source", row.source}});
  }
  return rows;
}

Json collect_rules() { return collect_choices(list_rules()); }
Json collect_policies() { return collect_choices(list_policies()); }

constexpr Section kSections[] = {
    {"build", "Build", collect_build},
    {"isa", "CPU instruction sets", collect_isa},
    {"transports", "Transports", collect_transports},
    {"environment", "Environment variables", collect_environment},
    {"compressors", "Compressors", collect_compressors},
    {"algorithms", "Algorithms", collect_algorithms},
    {"rules", "Feedback rules", collect_rules},
    {"policies", "Policies", collect_policies},
};

std::string cell(const Json& value) {
  if (value.is_string()) return value.get<std::string>().empty() ? "-" : value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_array() && value.empty()) return "-";
  if (value.is_array()) return fmt::format("{}", fmt::join(value.get<std::vector<std::string>>(), " "));
  return value.dump();
}

/// Each row under its first cell: for rows too wide for a line.
void print_records(const Json& rows) {
  for (const Json& row : rows) {
    bool first = true;
    for (const auto& [key, value] : row.items()) {
      if (first) {
        fmt::print("  {}\n", cell(value));
      } else {
        fmt::print("    {:<14}  {}\n", key, cell(value));
      }
      first = false;
    }
  }
}

/// Rows of equal keys, as aligned columns under their names.
void print_rows(const Json& rows) {
  if (rows.empty()) return;
  constexpr std::size_t kMaxWidth = 120;
  std::vector<std::size_t> widths;
  for (const auto& [key, first] : rows.front().items()) {
    std::size_t width = key.size();
    for (const Json& row : rows) width = std::max(width, cell(row[key]).size());
    widths.push_back(width);
  }
  if (std::accumulate(widths.begin(), widths.end(), 2 * widths.size()) > kMaxWidth) return print_records(rows);
  const auto print_line = [&widths](const Json& row, bool names) {
    std::string line;
    std::size_t column = 0;
    for (const auto& [key, value] : row.items()) {
      line += fmt::format("  {:<{}}", names ? key : cell(value), widths[column++]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print("{}\n", line);
  };
  print_line(rows.front(), true);
  for (const Json& row : rows) print_line(row, false);
}

void print_section(const Section& section, const Json& content) {
  fmt::print("{}\n", section.title);
  if (content.is_array()) {
    print_rows(content);
  } else {
    for (const auto& [key, value] : content.items()) fmt::print("  {:<14}  {}\n", key, cell(value));
  }
  fmt::print("\n");
}

boost::program_options::options_description describe() {
  boost::program_options::options_description options("Options (no section named: all of them)", 110, 70);
  auto add = options.add_options();
  add("help,h", "this text");
  add("json", "the same as one JSON object");
  for (const Section& section : kSections) add(section.key, section.title);
  return options;
}

}  // namespace

int run_info(const Arguments& arguments) {
  const auto options = describe();
  const auto given = parse_arguments(options, arguments);
  if (given.count("help")) {
    std::ostringstream out;
    out << "Usage: gradwire info [OPTIONS]\n\n" << options;
    fmt::print("{}", out.str());
    return 0;
  }
  const bool all = std::none_of(std::begin(kSections), std::end(kSections),
                                [&](const Section& s) { return given.count(s.key) > 0; });
  Json object;
  for (const Section& section : kSections) {
    if (all || given.count(section.key)) object[section.key] = section.collect();
  }
  if (given.count("json")) {
    fmt::print("{}\n", object.dump(2));
    return 0;
  }
  for (const Section& section : kSections) {
    if (object.contains(section.key)) print_section(section, object[section.key]);
  }
  return 0;
}

}  // namespace gradwire::tools
