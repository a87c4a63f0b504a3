#pragma once
#include <nlohmann/json.hpp>

#include <string_view>

#include "base/fail.hpp"

namespace gradwire {

/// What of ours nests takes far less; what reads and writes JSON goes down its levels by recursion.
inline constexpr int kMaxJsonDepth = 64;

/// Reads a text that somebody else may have written. Throws Errc::invalid_argument for what is no JSON, and for lists
/// and objects that nest deeper than kMaxJsonDepth. `what` begins the message, where it is not empty.
template <class Json>
[[nodiscard]] Json parse_json(std::string_view text, std::string_view what = {}) {
  const std::string_view colon = what.empty() ? "" : ": ";
  const auto check_depth = [&](int depth, typename Json::parse_event_t event, const Json&) {
    const bool opens = event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
    require(!opens || depth < kMaxJsonDepth, "{}{}this JSON nests deeper than {}", what, colon, kMaxJsonDepth);
    return true;
  };
  try {
    return Json::parse(text, check_depth);
  } catch (const typename Json::exception& error) {
    fail(Errc::invalid_argument, "{}{}this is no JSON: {}", what, colon, error.what());
  }
}

}  // namespace gradwire
