#include "compress/isa.hpp"

#include <fmt/ranges.h>

#include <atomic>

#include "base/env.hpp"
#include "base/fail.hpp"
#include "compress/reference.hpp"
#include "compress/simd/simd_kernels.hpp"

namespace gradwire::isa {
namespace {

const std::vector<const kernels::Table*>& tables() {
  static const std::vector<const kernels::Table*> all = [] {
    std::vector<const kernels::Table*> found = simd_kernels();
    found.push_back(&reference_kernels());
    return found;
  }();
  return all;
}

const kernels::Table& find(std::string_view name, std::string_view asked_by) {
  for (const kernels::Table* table : tables())
    if (table->isa == name) return *table;
  fail(Errc::invalid_argument, "{} {}: this CPU and build have {}", asked_by, name, fmt::join(list(), ", "));
}

std::atomic<const kernels::Table*>& selected() {
  static std::atomic<const kernels::Table*> table = [] {
    const std::string& forced = environment().force_isa;
    return forced.empty() ? tables().front() : &find(forced, "GRADWIRE_FORCE_ISA is");
  }();
  return table;
}

}  // namespace

std::vector<std::string_view> list() {
  std::vector<std::string_view> names;
  for (const kernels::Table* table : tables()) names.push_back(table->isa);
  return names;
}

std::string_view current() { return kernels_in_use().isa; }

void select(std::string_view name) { selected() = &find(name, "no instruction set"); }

const kernels::Table& kernels_in_use() { return *selected().load(std::memory_order_relaxed); }

const kernels::Table& kernels_of(std::string_view name) { return find(name, "no instruction set"); }

}  // namespace gradwire::isa
