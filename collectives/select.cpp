#include <array>

#include "base/fail.hpp"
#include "collectives/algorithm.hpp"

namespace gradwire {
namespace {

struct Row {
  AlgorithmInfo info;
  std::unique_ptr<Algorithm> (*make)(Operation&, std::size_t segment_bytes);
  bool needs_lossless;
};

const std::array<Row, 4>& table() {
  static const std::array<Row, 4> rows{{
      {{"dense", "2(n-1)/n S", "0", "tiny tensors, or where compression does not pay; compressor none only"},
       [](Operation& op, std::size_t) { return make_dense(op); },
       true},
      {{"scatter_reduce", "2(n-1)/n S/ratio", "2", "quantisers, any n"}, make_scatter_reduce, false},
      {{"ring", "2(n-1)/n S/ratio", "n", "near-lossless casts"}, make_ring, false},
      {{"gather_sum", "(n-1) S/ratio", "1", "small n, sparse frames"}, make_gather_sum, false},
  }};
  return rows;
}

const Row& find_row(std::string_view name) {
  std::string known = "auto";
  for (const Row& row : table()) {
    if (row.info.name == name) return row;
    known += ", " + row.info.name;
  }
  fail(Errc::invalid_argument, "unknown algorithm '{}': expected {}", name, known);
}

/// The first item whose compressor loses anything, or null.
const BucketItem* first_lossy(std::span<const BucketItem> items) {
  const auto found =
      std::find_if(items.begin(), items.end(), [](const BucketItem& i) { return !i.compressor.traits().lossless; });
  return found == items.end() ? nullptr : &*found;
}

}  // namespace

std::vector<AlgorithmInfo> list_algorithms() {
  std::vector<AlgorithmInfo> list;
  for (const Row& row : table()) list.push_back(row.info);
  return list;
}

std::string_view select_algorithm(std::string_view name, std::span<const BucketItem> items, int ranks) {
  const BucketItem* const lossy = first_lossy(items);
  if (name == "auto") {
    if (lossy == nullptr) return "dense";
    // Both send S/ratio between two ranks; gather_sum does it in one round with one lossy step.
    return ranks == 2 ? "gather_sum" : "scatter_reduce";
  }
  const Row& row = find_row(name);
  if (row.needs_lossless && lossy != nullptr) {
    fail(Errc::unsupported, "algorithm '{}' carries uncompressed tensors only, but {} has compressor {}", name,
         lossy->name, lossy->compressor.spec());
  }
  return row.info.name;
}

std::unique_ptr<Algorithm> make_algorithm(std::string_view name, Operation& op, std::size_t segment_bytes) {
  return find_row(name).make(op, segment_bytes);
}

}  // namespace gradwire
