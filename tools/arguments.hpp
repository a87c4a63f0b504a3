#pragma once
#include <boost/program_options/options_description.hpp>
#include <boost/program_options/variables_map.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "command.hpp"

#include "gradwire/types.hpp"

namespace gradwire::tools {

/// Strict parse: no abbreviated flags, no positional arguments, no flag twice. Throws UsageError.
[[nodiscard]] boost::program_options::variables_map parse_arguments(
    const boost::program_options::options_description& options, const Arguments& arguments);

/// The parsers below throw UsageError naming `flag`, the text and what is accepted.

/// A whole number in [low, high].
[[nodiscard]] std::uint64_t parse_whole(std::string_view flag, std::string_view text, std::uint64_t low,
                                        std::uint64_t high);
/// A whole number with an optional suffix K, M or G (powers of two).
[[nodiscard]] std::size_t parse_bytes(std::string_view flag, std::string_view text);
/// Seconds, whole or decimal; 0 is allowed.
[[nodiscard]] std::chrono::milliseconds parse_seconds(std::string_view flag, std::string_view text);
/// f32, f16, bf16 or nccl-tests' float, half, bfloat16.
[[nodiscard]] DType parse_dtype(std::string_view flag, std::string_view text);

/// Cuts "q4,quantize(bits=2,norm=l2)" at the commas outside parentheses; "all" stands for an example of each
/// compressor.
[[nodiscard]] std::vector<std::string> parse_specs(std::string_view flag, std::string_view text);

}  // namespace gradwire::tools
