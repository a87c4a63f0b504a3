#pragma once
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

#include "base/fail.hpp"

namespace gradwire::tools::report {

/// A value of a JSON file, and where it stands there, for messages: "plans[3].layers[0]".
class Node {
 public:
  using Json = nlohmann::json;

  Node(const Json& json, std::string place) : json_(json), place_(std::move(place)) {}

  [[nodiscard]] const std::string& place() const { return place_; }
  [[nodiscard]] const Json& json() const { return json_; }
  [[nodiscard]] bool is_null() const { return json_.is_null(); }

  [[nodiscard]] Node at(const std::string& key) const {
    expect(json_.is_object(), "an object");
    const auto found = json_.find(key);
    const std::string place = place_.empty() ? key : place_ + "." + key;
    require(found != json_.end(), "\"{}\" is missing", place);
    return {*found, place};
  }
  [[nodiscard]] bool has(const std::string& key) const {
    expect(json_.is_object(), "an object");
    return json_.contains(key);
  }
  [[nodiscard]] std::size_t size() const {
    expect(json_.is_array(), "a list");
    return json_.size();
  }
  [[nodiscard]] Node at(std::size_t index) const {
    require(index < size(), "\"{}\" has {} items; expected more", place_, json_.size());
    return {json_[index], fmt::format("{}[{}]", place_, index)};
  }
  /// Calls `read` with each item of a list.
  template <class Read>
  void each(Read read) const {
    for (std::size_t i = 0, count = size(); i < count; ++i) read(at(i));
  }

  [[nodiscard]] std::string text() const {
    expect(json_.is_string(), "a string");
    return json_.get<std::string>();
  }
  /// Finite and not negative: sizes, times, norms.
  [[nodiscard]] double amount() const {
    expect(json_.is_number() && json_.get<double>() >= 0, "a number from 0 on");
    return json_.get<double>();
  }
  [[nodiscard]] double real() const {
    expect(json_.is_number(), "a number");
    return json_.get<double>();
  }
  /// From 0 to 2^53.
  [[nodiscard]] std::uint64_t whole() const {
    constexpr double kMost = 9007199254740992.0;
    const double value = json_.is_number() ? json_.get<double>() : -1;
    expect(value >= 0 && value <= kMost && value == std::floor(value), "a whole number from 0 on");
    return static_cast<std::uint64_t>(value);
  }

 private:
  void expect(bool good, const char* wanted) const {
    if (good) return;
    std::string found = json_.dump(-1, ' ', false, Json::error_handler_t::replace);
    constexpr std::size_t kLongest = 60;
    if (found.size() > kLongest) found = found.substr(0, kLongest) + "...";
    fail(Errc::invalid_argument, "\"{}\" is {}; expected {}", place_.empty() ? "the file" : place_, found, wanted);
  }

  const Json& json_;
  std::string place_;
};

}  // namespace gradwire::tools::report
