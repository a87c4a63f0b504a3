#include <array>

#include "base/fail.hpp"
#include "collectives/algorithm.hpp"

namespace gradwire {
namespace {

struct Row {
  AlgorithmInfo info;
  std::unique_ptr<Algorithm> (*make)(Operation&, std::size_t segment_bytes);
  /// Why it cannot carry what this compressor makes; null where it can.
  const char* (*refusal)(const Compressor&);
};

const char* refuse_lossy(const Compressor& compressor) {
  return compressor.traits().lossless ? nullptr : "it carries uncompressed tensors only";
}

const char* refuse_frameless(const Compressor& compressor) {
  return compressor.low_rank() != nullptr ? "low rank makes no frames: use lowrank" : nullptr;
}

/// Sums of sparse frames are denser than the frames, so a second lossy step of the same density loses too much.
const char* refuse_sparse(const Compressor& compressor) {
  if (compressor.sparsifier() != nullptr) return "it re-encodes sums, which are denser: use gather_sum";
  return refuse_frameless(compressor);
}

const char* refuse_full_rank(const Compressor& compressor) {
  return compressor.low_rank() != nullptr ? nullptr : "it carries low-rank schemes only";
}

const std::array<Row, 5>& table() {
  static const std::array<Row, 5> rows{{
      {{"dense", "2(n-1)/n S", "0", "tiny tensors, or where compression does not pay; compressor none only"},
       [](Operation& op, std::size_t) { return make_dense(op); },
       refuse_lossy},
      {{"scatter_reduce", "2(n-1)/n S/ratio", "2", "quantisers, any n"}, make_scatter_reduce, refuse_sparse},
      {{"ring", "2(n-1)/n S/ratio", "n", "near-lossless casts"}, make_ring, refuse_sparse},
      {{"gather_sum", "(n-1) S/ratio", "1", "small n, sparse frames"}, make_gather_sum, refuse_frameless},
      {{"lowrank", "2(n-1)/n r(rows+cols)", "1", "matrices with powersgd or projection"},
       make_lowrank,
       refuse_full_rank},
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

/// Throws what makes `row` impossible for one of the items.
void check_legal(const Row& row, std::span<const BucketItem> items) {
  for (const BucketItem& item : items) {
    const char* const refusal = row.refusal(item.compressor);
    if (refusal == nullptr) continue;
    fail(Errc::unsupported, "algorithm '{}' cannot carry {}, whose compressor is {}: {}", row.info.name, item.name,
         item.compressor.spec(), refusal);
  }
}

std::string_view choose_algorithm(std::span<const BucketItem> items, int ranks) {
  const auto all = [&](auto property) { return std::all_of(items.begin(), items.end(), property); };
  const auto any = [&](auto property) { return std::any_of(items.begin(), items.end(), property); };
  if (all([](const BucketItem& i) { return i.compressor.traits().lossless; })) return "dense";
  if (any([](const BucketItem& i) { return i.compressor.low_rank() != nullptr; })) return "lowrank";
  if (any([](const BucketItem& i) { return i.compressor.sparsifier() != nullptr; })) return "gather_sum";
  // Both send S/ratio between two ranks; gather_sum does it in one round with one lossy step.
  return ranks == 2 ? "gather_sum" : "scatter_reduce";
}

}  // namespace

std::vector<AlgorithmInfo> list_algorithms() {
  std::vector<AlgorithmInfo> list;
  for (const Row& row : table()) list.push_back(row.info);
  return list;
}

std::string_view select_algorithm(std::string_view name, std::span<const BucketItem> items, int ranks) {
  const Row& row = find_row(name == "auto" ? choose_algorithm(items, ranks) : name);
  check_legal(row, items);
  return row.info.name;
}

std::unique_ptr<Algorithm> make_algorithm(std::string_view name, Operation& op, std::size_t segment_bytes) {
  return find_row(name).make(op, segment_bytes);
}

}  // namespace gradwire
