#include "compress/isa.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>

#include "base/env.hpp"
#include "base/fail.hpp"
#include "compress/simd/targets.hpp"

namespace gradwire::isa {
namespace {

std::size_t find(std::string_view name, std::string_view asked_by) {
  const auto found = std::find(list().begin(), list().end(), name);
  if (found != list().end()) return static_cast<std::size_t>(found - list().begin());
  fail(Errc::invalid_argument, "{} {}: this CPU and build have {}", asked_by, name, fmt::join(list(), ", "));
}

std::atomic<std::size_t>& selected() {
  static std::atomic<std::size_t> index = [] {
    const std::string& forced = environment().force_isa;
    return forced.empty() ? std::size_t{0} : find(forced, "GRADWIRE_FORCE_ISA is");
  }();
  return index;
}

}  // namespace

const std::vector<std::string_view>& list() {
  static const std::vector<std::string_view> names = [] {
    std::vector<std::string_view> found;
    for (const SimdTarget& target : simd_targets()) found.push_back(target.isa);
    found.emplace_back("scalar");
    return found;
  }();
  return names;
}

const std::vector<std::int64_t>& targets() {
  static const std::vector<std::int64_t> bits = [] {
    std::vector<std::int64_t> found;
    for (const SimdTarget& target : simd_targets()) found.push_back(target.bit);
    found.push_back(0);
    return found;
  }();
  return bits;
}

std::size_t current_index() { return selected().load(std::memory_order_relaxed); }

std::size_t index_of(std::string_view name) { return find(name, "no instruction set"); }

std::string_view current() { return list()[current_index()]; }

void select(std::string_view name) { selected() = index_of(name); }

}  // namespace gradwire::isa
