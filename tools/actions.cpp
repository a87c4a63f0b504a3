#include "actions.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <system_error>

#include "arguments.hpp"
#include "base/atomic_file.hpp"
#include "printable.hpp"

namespace gradwire::tools {

namespace po = boost::program_options;

std::optional<po::variables_map> parse_action(std::string_view help, const po::options_description& description,
                                              const Arguments& arguments) {
  const po::variables_map given = parse_arguments(description, arguments);
  if (!given.count("help")) return given;
  std::ostringstream out;
  out << help << description;
  fmt::print("{}", out.str());
  return {};
}

po::typed_value<std::string>* text(const char* value_name) { return po::value<std::string>()->value_name(value_name); }

std::string required(const po::variables_map& given, const char* flag) {
  if (!given.count(flag)) throw UsageError(fmt::format("--{} is missing", flag));
  return given[flag].as<std::string>();
}

void keep_inputs(const char* flag, const std::string& out, const std::vector<std::string>& inputs) {
  for (const std::string& input : inputs) {
    std::error_code ignored;  // what is not there is not overwritten
    if (std::filesystem::equivalent(out, input, ignored))
      throw UsageError(fmt::format("--{} {} is what is read, and would be lost", flag, out));
  }
}

std::string required_output(const po::variables_map& given, const char* flag, const std::vector<std::string>& inputs) {
  const std::string out = required(given, flag);
  if (out.empty()) throw UsageError(fmt::format("--{} is empty", flag));
  keep_inputs(flag, out, inputs);
  return out;
}

std::optional<std::uint64_t> step_of(const po::variables_map& given) {
  if (!given.count("step")) return {};
  return parse_whole("--step", given["step"].as<std::string>(), 0, std::numeric_limits<std::uint64_t>::max());
}

std::string read_text(const std::string& path) {
  require(std::filesystem::exists(path), "cannot read {}: no such file", path);
  require(!std::filesystem::is_directory(path), "cannot read {}: a directory", path);
  const std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file.is_open()) text << file.rdbuf();
  require(file.is_open() && !file.bad(), "cannot read {}: {}", path, std::strerror(errno));
  return text.str();
}

void write_text(const std::string& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text.data(), text.size());
  file.close();
  file.commit();
}

void warn_of_torn_end(const std::string& path, const TraceReader& reader) {
  if (reader.torn_bytes() == 0) return;
  fmt::print(stderr, "gradwire: {}: {} bytes at its end are no whole record, and are left out: was the run killed?\n",
             path, reader.torn_bytes());
}

std::string show_number(double value) { return fmt::format("{:.6g}", value); }

void print_columns(std::vector<std::vector<std::string>> rows, std::size_t right) {
  std::vector<std::size_t> widths(rows.front().size());
  for (std::vector<std::string>& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i] = printable(row[i]);
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  for (const std::vector<std::string>& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const bool to_right = i + right >= row.size();
      line += to_right ? fmt::format("  {:>{}}", row[i], widths[i]) : fmt::format("  {:<{}}", row[i], widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print("{}\n", line);
  }
}

}  // namespace gradwire::tools
