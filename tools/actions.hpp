#pragma once
#include <boost/program_options/options_description.hpp>
#include <boost/program_options/value_semantic.hpp>
#include <boost/program_options/variables_map.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fail.hpp"
#include "command.hpp"

#include "gradwire/trace.hpp"

namespace gradwire::tools {

/// \file What the actions of `gradwire plan` and `gradwire trace` share.

/// What an action was given; nothing where help was asked for, and printed: `help`, then its options.
[[nodiscard]] std::optional<boost::program_options::variables_map> parse_action(
    std::string_view help, const boost::program_options::options_description& description, const Arguments& arguments);
/// An option that is text.
[[nodiscard]] boost::program_options::typed_value<std::string>* text(const char* value_name);
/// Throws UsageError where it is missing.
[[nodiscard]] std::string required(const boost::program_options::variables_map& given, const char* flag);
[[nodiscard]] std::optional<std::uint64_t> step_of(const boost::program_options::variables_map& given);

/// Throws UsageError where `out`, which is to be written, is one of `inputs`, by whatever name.
void keep_inputs(const char* flag, const std::string& out, const std::vector<std::string>& inputs);
/// The path of a file or folder to be written. Throws UsageError where it is missing or empty, and as keep_inputs()
/// does.
[[nodiscard]] std::string required_output(const boost::program_options::variables_map& given, const char* flag,
                                          const std::vector<std::string>& inputs);

/// Both throw Errc::invalid_argument naming the file.
[[nodiscard]] std::string read_text(const std::string& path);
void write_text(const std::string& path, const std::string& text);
/// What `parse` makes of the file; its errors name the file.
template <class Result>
Result read_json(const std::string& path, Result (*parse)(std::string_view)) {
  const std::string text = read_text(path);
  try {
    return parse(text);
  } catch (const Error& error) {
    fail(error.code(), "{}: {}", path, error.what());
  }
}

/// Says on standard error where the file ends within a record; to be called at the end.
void warn_of_torn_end(const std::string& path, const TraceReader& reader);

[[nodiscard]] std::string show_number(double value);
/// Columns as wide as their widest cell, the first ones to the left, the last `right` ones to the right; printable().
void print_columns(std::vector<std::vector<std::string>> rows, std::size_t right);

}  // namespace gradwire::tools
