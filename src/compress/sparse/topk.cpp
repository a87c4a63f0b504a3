#include "compress/sparse/topk.hpp"

#include <fmt/format.h>

#include "compress/sparse/scanner.hpp"

namespace gradwire::sparse {

std::string ExactTopK::spec() const { return fmt::format("topk({},select=exact)", density_.spec()); }

/// The k largest of d squares are at least k/d of their sum.
double ExactTopK::kept(std::size_t count) const {
  return count == 0 ? 1 : static_cast<double>(density_.of(count)) / static_cast<double>(count);
}

std::size_t ExactTopK::select(const Choice& choice, const Entries& out) const {
  return select_largest(choice, density_.of(choice.x.count), out);
}

std::size_t select_largest(const Choice& choice, std::size_t k, const Entries& out) {
  if (k == 0) return 0;
  Scanner scanner(choice);
  return scanner.take(scanner.cut(k), out);
}

}  // namespace gradwire::sparse
