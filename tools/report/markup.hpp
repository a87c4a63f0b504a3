#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace gradwire::tools::report {

/// For text and for attributes in double quotes. Characters that HTML does not have become U+FFFD.
[[nodiscard]] std::string escape(std::string_view text);
/// At most `most` characters (code points) of it: the ends of names tell them apart, so of
/// the beginning only a sixth stays, then an ellipsis.
[[nodiscard]] std::string shorten(std::string_view text, std::size_t most);
[[nodiscard]] std::size_t characters(std::string_view text);

// Numbers for people; "-" for NaN.
[[nodiscard]] std::string number_text(double value);  ///< four digits: 0.03125, 12.5, 1.25e+09
[[nodiscard]] std::string whole_text(double value);   ///< 1 234 567, with narrow spaces
[[nodiscard]] std::string bytes_text(double bytes);   ///< 12.3 kB; powers of 1000
[[nodiscard]] std::string time_text(double us);       ///< 12.3 ms
[[nodiscard]] std::string percent_text(double part, double whole);
[[nodiscard]] std::string times_text(double ratio);  ///< 12.3x

/// <td>: text to the left, numbers to the right.
[[nodiscard]] std::string cell(std::string_view text);
[[nodiscard]] std::string number_cell(std::string_view text);
/// A paragraph in place of a figure that has nothing to show.
[[nodiscard]] std::string nothing(std::string_view why);

}  // namespace gradwire::tools::report
