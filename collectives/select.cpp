#include <array>
#include <string>

#include "base/device.hpp"
#include "base/fail.hpp"
#include "collectives/algorithm.hpp"
#include "collectives/message.hpp"
#include "collectives/regions.hpp"

namespace gradwire {
namespace {

const char* refuse_host_frames(const Compressor& compressor) {
  return compressor.traits().on_device ? nullptr : "it codes host memory only";
}

struct Row {
  AlgorithmInfo info;
  std::unique_ptr<Algorithm> (*make)(Operation&, std::size_t segment_bytes);
  /// Why it cannot carry what this compressor makes; null where it can.
  const char* (*refusal)(const Compressor&);
  Entry entry = Entry::allreduce;
  /// The same in device memory.
  const char* (*device_refusal)(const Compressor&) = refuse_host_frames;
};

/// Not compressed at all: a lossless stage was asked for, and must not be left out in silence.
bool is_none(const Compressor& compressor) { return compressor.spec() == "none"; }

const char* refuse_compressed(const Compressor& compressor) {
  return is_none(compressor) ? nullptr : "it carries uncompressed tensors only";
}

const char* refuse_frameless(const Compressor& compressor) {
  return compressor.low_rank() != nullptr ? "low rank makes no frames: use lowrank" : nullptr;
}

/// Sums of sparse frames are denser than the frames, so a second lossy step of the same density loses too much.
const char* refuse_sparse(const Compressor& compressor) {
  if (compressor.sparsifier() != nullptr)
    return "it re-encodes sums, which are denser: use gather_sum or sparse_scatter";
  return refuse_frameless(compressor);
}

const char* refuse_dense_frames(const Compressor& compressor) {
  return compressor.sparsifier() == nullptr ? "it splits chosen entries between owners: use scatter_reduce" : nullptr;
}

const char* refuse_uncountable(const Compressor& compressor) {
  return compressor.integer_coder() == nullptr ? "its codes cannot be added before they are decoded" : nullptr;
}

const char* refuse_host_codes(const Compressor& compressor) {
  return compressor.integer_coder()->on_device() ? nullptr : "its codes add up in host memory only";
}

const char* refuse_full_rank(const Compressor& compressor) {
  return compressor.low_rank() != nullptr ? nullptr : "it carries low-rank schemes only";
}

const char* refuse_sizes_of_data(const Compressor&) {
  return "its messages have sizes that depend on the data, which hosts must know: use gather_sum";
}

const char* refuse_nothing(const Compressor&) { return nullptr; }

/// Quantised sums are encoded once more, sparse ones are not, and low rank has its own rounds.
std::unique_ptr<Algorithm> make_between_nodes(Operation& op, std::size_t segment_bytes) {
  const auto any = [&](auto property) { return std::any_of(op.items.begin(), op.items.end(), property); };
  if (any([](const BucketItem& i) { return i.compressor.low_rank() != nullptr; })) {
    return make_lowrank(op, segment_bytes);
  }
  if (any([](const BucketItem& i) { return i.compressor.sparsifier() != nullptr; })) {
    return make_hierarchical_gather(op, segment_bytes);
  }
  return make_hierarchical(op, segment_bytes);
}

const char* refuse_inside_node(const Compressor& compressor) {
  if (compressor.sparsifier() != nullptr) return "inputs must reach the node's sum whole";
  if (compressor.low_rank() != nullptr) return "low rank makes no frames";
  return nullptr;
}

const auto& table() {
  static const std::array rows{
      Row{{"dense", "2(n-1)/n S", "0", "tiny tensors, or where compression does not pay; compressor none only"},
          [](Operation& op, std::size_t) { return make_dense(op); },
          refuse_compressed},
      Row{{"scatter_reduce", "2(n-1)/n S/ratio", "2", "quantisers, any n"}, make_scatter_reduce, refuse_sparse},
      Row{{"ring", "2(n-1)/n S/ratio", "n", "near-lossless casts"}, make_ring, refuse_sparse},
      Row{{"gather_sum", "(n-1) S/ratio", "1", "small n, sparse frames"}, make_gather_sum, refuse_frameless},
      Row{{"sparse_scatter", "2 words for each of k + 2k(n-1)/n entries at most", "2", "sparsifiers, large n"},
          [](Operation& op, std::size_t) { return make_sparse_scatter(op); },
          refuse_dense_frames,
          Entry::allreduce,
          refuse_sizes_of_data},
      Row{{"integer_sum", "2(n-1)/n of the codes", "1", "codes that add up: thc, randomk"},
          [](Operation& op, std::size_t) { return make_integer_sum(op); },
          refuse_uncountable,
          Entry::allreduce,
          refuse_host_codes},
      Row{{"lowrank", "2(n-1)/n r(rows+cols)", "1", "matrices with powersgd or projection"},
          make_lowrank,
          refuse_full_rank},
      Row{{"hierarchical", "2(N-1)/n S/ratio to other nodes", "2 (sparse 1), or one more",
           "several ranks on each of N nodes"},
          make_between_nodes,
          refuse_nothing},
      // Entry points, which list_algorithms() leaves out.
      Row{{"reduce_scatter", {}, {}, {}}, make_reduce_scatter, refuse_frameless, Entry::reduce_scatter},
      Row{{"all_gather", {}, {}, {}}, make_all_gather, refuse_frameless, Entry::all_gather},
  };
  return rows;
}

const Row& find_row(std::string_view name, Entry entry) {
  std::string known = "auto";
  for (const Row& row : table()) {
    if (row.entry != entry) continue;
    if (row.info.name == name) return row;
    known += ", " + row.info.name;
  }
  fail(Errc::invalid_argument, "unknown algorithm '{}' for {}: expected {}", name, gradwire::name(entry), known);
}

[[noreturn]] void refuse(const Row& row, const BucketItem& item, const char* where, const char* refusal) {
  fail(Errc::unsupported, "algorithm '{}' cannot carry {}{}, whose compressor is {}: {}", row.info.name, item.name,
       where, item.compressor.spec(), refusal);
}

/// Throws what makes `row` impossible for one of the items.
void check_legal(const Row& row, std::span<const BucketItem> items) {
  const bool all_low_rank =
      std::all_of(items.begin(), items.end(), [](const BucketItem& i) { return i.compressor.low_rank() != nullptr; });
  for (const BucketItem& item : items) {
    const char* refusal = row.refusal(item.compressor);
    if (refusal == nullptr && item.compressor.low_rank() != nullptr && !all_low_rank) {
      refusal = "low rank shares its rounds with other low rank only";
    }
    if (refusal != nullptr) refuse(row, item, "", refusal);
  }
}

/// Throws what makes device memory impossible.
void check_device(const Row& row, std::span<const BucketItem> items) {
  if (const std::string why = device::problem(); !why.empty()) fail(Errc::unsupported, "no device memory: {}", why);
  for (const BucketItem& item : items) {
    if (const char* const refusal = row.device_refusal(item.compressor); refusal != nullptr)
      refuse(row, item, " in device memory", refusal);
    item.compressor.check_device(item.count);
  }
}

/// By the most bytes that either sends: everybody's frames to everybody, or a 1/n part of them to each owner and back a
/// 1/n part of twice as many entries.
std::string_view choose_sparse(std::span<const BucketItem> items, std::size_t ranks) {
  if (ranks < 3) return "gather_sum";
  std::size_t whole = 0;
  std::size_t parts = 2 * kEnvelopeBytes + sketch_size(ranks) * sizeof(std::uint64_t);
  for (const BucketItem& item : items) {
    const Sparsifier* const sparsifier = item.compressor.sparsifier();
    // A second choice among the sums would not be unbiased.
    if (sparsifier == nullptr || item.compressor.traits().unbiased) return "gather_sum";
    const std::size_t entries = sparsifier->max_entries(item.count);
    const std::size_t part = (item.count + ranks - 1) / ranks;
    whole += sparsifier->max_frame_size(item.count, entries);
    parts += sparsifier->max_frame_size(part, std::min(part, (entries + ranks - 1) / ranks));
    parts += sparsifier->max_frame_size(part, std::min(part, (2 * entries + ranks - 1) / ranks));
  }
  // Two more rounds and a second lossy step have to save an eighth.
  return 8 * parts < 7 * whole ? "sparse_scatter" : "gather_sum";
}

std::string_view choose_algorithm(const Choice& choice) {
  const std::span<const BucketItem> items = choice.items;
  const auto all = [&](auto property) { return std::all_of(items.begin(), items.end(), property); };
  const auto any = [&](auto property) { return std::any_of(items.begin(), items.end(), property); };
  if (choice.entry != Entry::allreduce) return name(choice.entry);
  if (all([](const BucketItem& i) { return is_none(i.compressor); })) return "dense";
  const bool levels = has_levels(choice.nodes);
  if (any([](const BucketItem& i) { return i.compressor.low_rank() != nullptr; })) {
    return levels ? "hierarchical" : "lowrank";
  }
  const bool on_device = choice.space == Space::device;
  const auto adds_up = [&](const BucketItem& item) {
    const IntegerCoder* const coder = item.compressor.integer_coder();
    return coder != nullptr && (!on_device || coder->on_device());
  };
  if (all(adds_up)) return "integer_sum";
  if (levels) return "hierarchical";
  if (any([](const BucketItem& i) { return i.compressor.sparsifier() != nullptr; })) {
    return on_device ? "gather_sum" : choose_sparse(items, choice.nodes.size());
  }
  // Both send S/ratio between two ranks; gather_sum does it in one round with one lossy step.
  return choice.nodes.size() == 2 ? "gather_sum" : "scatter_reduce";
}

}  // namespace

bool has_levels(std::span<const int> nodes) {
  const auto ranks_of = [&](int node) { return std::count(nodes.begin(), nodes.end(), node); };
  const bool several = std::any_of(nodes.begin(), nodes.end(), [&](int node) { return node != nodes.front(); });
  return several && std::all_of(nodes.begin(), nodes.end(), [&](int node) { return ranks_of(node) > 1; });
}

std::vector<AlgorithmInfo> list_algorithms() {
  std::vector<AlgorithmInfo> list;
  for (const Row& row : table()) {
    if (row.entry == Entry::allreduce) list.push_back(row.info);
  }
  return list;
}

std::string_view select_algorithm(const Choice& choice) {
  const Row& row = find_row(choice.algorithm == "auto" ? choose_algorithm(choice) : choice.algorithm, choice.entry);
  check_legal(row, choice.items);
  if (choice.space == Space::device) check_device(row, choice.items);
  if (row.info.name == "hierarchical") {
    const Compressor inner = make_compressor(choice.inner);
    if (const char* const refusal = refuse_inside_node(inner); refusal != nullptr) {
      fail(Errc::unsupported, "algorithm 'hierarchical' cannot use {} inside a node: {}", inner.spec(), refusal);
    }
    if (choice.space == Space::device && !inner.traits().on_device) {
      fail(Errc::unsupported, "algorithm 'hierarchical' cannot use {} inside a node: it codes host memory only",
           inner.spec());
    }
  }
  return row.info.name;
}

std::unique_ptr<Algorithm> make_algorithm(std::string_view name, Operation& op, std::size_t segment_bytes) {
  return find_row(name, op.entry).make(op, segment_bytes);
}

void Algorithm::set_memory(std::size_t item, std::string_view memory, const Compressor&) {
  if (memory.empty()) return;
  fail(Errc::bad_state, "{}: the algorithm keeps nothing from run to run, given {} bytes", op_.items[item].name,
       memory.size());
}

}  // namespace gradwire
