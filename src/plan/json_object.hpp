#pragma once
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fail.hpp"
#include "plan/table.hpp"

namespace gradwire {

using Json = nlohmann::ordered_json;

/// As text, on one line or, from an indent of 0 on, on several. Throws Errc::invalid_argument, beginning with `what`,
/// where a string is no UTF-8.
[[nodiscard]] inline std::string dump(const Json& json, std::string_view what, int indent = -1) {
  try {
    return json.dump(indent);
  } catch (const Json::exception& error) {
    fail(Errc::invalid_argument, "{}: a name or spec cannot be written, as it is no UTF-8: {}", what, error.what());
  }
}

/// A JSON object whose values are read by key, and where it stands, for messages: "table: layer 2". Throws
/// Errc::invalid_argument naming place, key and value for what is missing or of another type. Lives no longer than the
/// JSON.
class JsonObject {
 public:
  JsonObject(const Json& json, std::string place) : json_(json), place_(std::move(place)) {
    require(json.is_object(), "{}: expected an object, found {}", place_, excerpt(json));
  }

  [[nodiscard]] const std::string& place() const { return place_; }
  [[nodiscard]] bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }
  [[nodiscard]] const Json& list(const char* key) const {
    const Json& value = at(key);
    expect(value.is_array(), key, "a list", value);
    return value;
  }
  [[nodiscard]] std::string text(const char* key) const {
    const Json& value = at(key);
    expect(value.is_string(), key, "a string", value);
    return value.get<std::string>();
  }
  [[nodiscard]] double real(const char* key) const {
    const Json& value = at(key);
    expect(value.is_number(), key, "a number", value);
    return value.get<double>();
  }
  /// Finite and not negative.
  [[nodiscard]] double amount(const char* key) const {
    const double value = real(key);
    expect(value >= 0 && std::isfinite(value), key, "a number from 0 on", at(key));
    return value;
  }
  [[nodiscard]] std::uint64_t whole(const char* key) const {
    const Json& value = at(key);
    const std::optional<std::uint64_t> number = as_whole(value);
    expect(number.has_value(), key, "a whole number", value);
    return *number;
  }
  /// 0 where there is none.
  [[nodiscard]] double real_or_zero(const char* key) const { return has(key) ? real(key) : 0; }
  /// Empty where there is none.
  [[nodiscard]] std::vector<double> reals(const char* key) const {
    std::vector<double> values;
    if (!has(key)) return values;
    for (const Json& value : list(key)) {
      expect(value.is_number(), key, "a list of numbers", list(key));
      values.push_back(value.get<double>());
    }
    return values;
  }
  [[nodiscard]] std::vector<std::size_t> wholes(const char* key) const {
    std::vector<std::size_t> values;
    for (const Json& value : list(key)) {
      const std::optional<std::uint64_t> number = as_whole(value);
      expect(number.has_value(), key, "a list of whole numbers", list(key));
      values.push_back(*number);
    }
    return values;
  }

 private:
  /// 4, and 4.0 as some writers have it.
  [[nodiscard]] static std::optional<std::uint64_t> as_whole(const Json& value) {
    if (value.is_number_unsigned()) return value.get<std::uint64_t>();
    if (!value.is_number()) return std::nullopt;
    const auto real = value.get<double>();
    if (!(real >= 0 && real <= static_cast<double>(kMaxBytes)) || real != std::floor(real)) return std::nullopt;
    return static_cast<std::uint64_t>(real);
  }
  [[nodiscard]] static std::string excerpt(const Json& value) {
    const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    constexpr std::size_t kLongest = 60;
    return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
  }
  [[nodiscard]] const Json& at(const char* key) const {
    require(json_.contains(key), "{}: \"{}\" is missing", place_, key);
    return json_[key];
  }
  void expect(bool good, const char* key, std::string_view wanted, const Json& found) const {
    require(good, "{}: \"{}\" is {}; expected {}", place_, key, excerpt(found), wanted);
  }

  const Json& json_;
  std::string place_;
};

}  // namespace gradwire
