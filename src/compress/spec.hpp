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

/// One stage of a text spec cut into parts: `name` or `name(value,...,key=value,...)`. Views into the text it was
/// parsed from. The first values may lack their names: OptionReader says which options they are.
struct Spec {
  std::string_view text;
  std::string_view name;
  std::vector<SpecOption> options;
  std::string_view kind = "compressor";  ///< what it is a spec of, for messages
};

/// Cuts "a|b(c|d)|e" into "a", "b(c|d)" and "e"; with another separator, likewise.
[[nodiscard]] std::vector<std::string_view> split_stages(std::string_view text, char separator = '|');

/// How deep parentheses nest: 2 for "a(b(c))".
[[nodiscard]] std::size_t nesting_depth(std::string_view text) noexcept;

/// Throws Errc::invalid_argument naming what is malformed: no name, unbalanced parentheses, text after them, an option
/// that is not key=value after one that is, or one given twice. A key is a word, or a pattern of words (`*`, `?`, `/`);
/// a value is a word, or a spec.
[[nodiscard]] Spec parse_spec(std::string_view text, std::string_view kind = "compressor");

/// Reads the options of a spec by name; what is left at the end is unknown.
class OptionReader {
 public:
  /// `unnamed`: the options that values without a name are, in their order.
  explicit OptionReader(const Spec& spec, std::initializer_list<std::string_view> unnamed = {});

  /// A whole number in [low, high] that is a multiple of `step`; `fallback` when not given.
  [[nodiscard]] std::uint32_t number(std::string_view name, std::uint32_t fallback, std::uint32_t low,
                                     std::uint32_t high, std::uint32_t step = 1);
  /// A real number in [low, high], -0 as 0; `fallback` when not given.
  [[nodiscard]] double real(std::string_view name, double fallback, double low, double high);
  /// A spec, as text; `fallback` when not given.
  [[nodiscard]] std::string_view spec(std::string_view name, std::string_view fallback);
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
