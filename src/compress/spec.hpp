#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace gradwire {

struct SpecOption {
  std::string_view name;
  std::string_view value;
};

/// A text spec cut into parts: `name` or `name(key=value,...)`. Views into the text it was parsed from.
struct Spec {
  std::string_view text;
  std::string_view name;
  std::vector<SpecOption> options;
};

/// Throws Errc::invalid_argument naming what is malformed: no name, unbalanced parentheses, text after them, an option
/// that is not key=value, or one given twice.
[[nodiscard]] Spec parse_spec(std::string_view text);

/// Reads the options of a spec by name; what is left at the end is unknown.
class OptionReader {
 public:
  explicit OptionReader(const Spec& spec) : spec_(spec), left_(spec.options) {}

  /// A whole number in [low, high] that is a multiple of `step`; `fallback` when not given.
  [[nodiscard]] std::uint32_t number(std::string_view name, std::uint32_t fallback, std::uint32_t low,
                                     std::uint32_t high, std::uint32_t step = 1);
  /// The index of the word given; `fallback` when not given.
  [[nodiscard]] std::size_t choice(std::string_view name, std::size_t fallback,
                                   std::initializer_list<std::string_view> words);
  /// Throws when an option was given that nobody read.
  void finish() const;

 private:
  /// The option's value, or null data when it was not given.
  [[nodiscard]] std::string_view take(std::string_view name);

  const Spec& spec_;
  std::vector<SpecOption> left_;
  std::vector<std::string_view> known_;
};

}  // namespace gradwire
