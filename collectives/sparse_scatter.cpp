// scatter_reduce for sparsifiers, after Ok-Topk (arXiv:2201.07598): each rank owns a region of the bucket, and regions
// are cut anew in every run so that they hold about equally many of the chosen entries. Four stages, one segment:
//   0  choose my entries; tell everybody how many they are and where they lie (collectives/regions.hpp)
//   1  cut regions, the same on all ranks. Send each owner my entries in its region
//   2  add what arrives to my own whole input in my region; choose the largest of the sum, encode them once, send them
//      to everybody
//   3  decode the other owners' sums
// An owner sends 2 k / n entries at most, k being what the rank with the most has chosen: room for the union of
// supports that differ, as a second choice of k / n would lose too much (docs/design.md section 1).
//
// A sender owes what it did not send, and what the coding of its values lost; the owner what its sum has and the result
// has not. (Ok-Topk gives entries that an owner does not choose back to their senders: there they stay large, also
// where those of several ranks would cancel, and come again: bench/convergence/README.md.)

#include <cstring>
#include <numeric>
#include <vector>

#include "base/fail.hpp"
#include "base/half.hpp"
#include "collectives/algorithm.hpp"
#include "collectives/message.hpp"
#include "collectives/regions.hpp"
#include "collectives/sparse_workspace.hpp"
#include "compress/vector_ops.hpp"

namespace gradwire {
namespace {

/// What a value is once the result holds it.
float rounded(float value, DType dtype) {
  if (dtype == DType::f32) return value;
  std::uint16_t bits = 0;
  store_f32(&bits, dtype, 0, saturate(value, dtype));
  return load_f32(&bits, dtype, 0);
}

class SparseScatter final : public Algorithm {
 public:
  explicit SparseScatter(Operation& op)
      : Algorithm(op),
        rank_(op.rank()),
        size_(static_cast<std::size_t>(op.size())),
        memory_(op.items, op.size(), op.rank()) {
    std::size_t entries = 0;
    std::size_t scratch = 0;
    for (const BucketItem& item : op.items) {
      starts_.push_back(total_);
      entry_first_.push_back(entries);
      scratch_first_.push_back(scratch);
      total_ += item.count;
      entries += sparsifier(item).max_entries(item.count);
      if (item.dtype != DType::f32) scratch += item.count;
    }
    starts_.push_back(total_);
    const std::size_t parts = op.items.size() + size_;
    chosen_.resize(op.items.size());
    sketches_.resize(size_ * sketch_size(size_));
    cuts_.resize(size_ + 1);
    pieces_.reserve(parts);
    sent_.reserve(parts);
    region_first_.reserve(size_ + 1);
    weights_.reserve(parts);
    slots_.resize(size_ + 1);
    sends_.reserve(size_);
    recvs_.reserve(size_);
  }

  [[nodiscard]] int stages() const noexcept override { return 4; }
  [[nodiscard]] int segments() const noexcept override { return 1; }
  [[nodiscard]] std::size_t workspace_bytes() const noexcept override { return memory_.bytes(); }

  [[nodiscard]] Work run_stage(int stage, int) override {
    if (total_ == 0) return {};
    sends_.clear();
    recvs_.clear();
    if (stage == 0) {
      memory_.use(workspace_);
      choose();
      return exchange_sketches();
    }
    if (stage == 1) cut_regions();
    if (called_off_) return {};
    if (stage == 1) return scatter();
    if (stage == 2) return reduce();
    gather();
    return {};
  }

 private:
  static const Sparsifier& sparsifier(const BucketItem& item) { return *item.compressor.sparsifier(); }

  // --- stage 0

  void choose() {
    const Stopwatch watch(op_.stats.encode_us);
    for (std::size_t i = 0; i < op_.items.size(); ++i) {
      const BucketItem& item = op_.items[i];
      const ItemBuffers& buffers = op_.buffers[i];
      chosen_[i] = 0;
      if (op_.verdict || item.count == 0) continue;
      const Entries room = memory_.mine(entry_first_[i], sparsifier(item).max_entries(item.count));
      const RandomKey key = random_key(op_, {static_cast<std::uint32_t>(i), 0, item.count}, Draw::input);
      try {
        chosen_[i] = sparsifier(item).select(buffers.tensor, room, key).count;
      } catch (const Error& error) {
        if (error.code() != Errc::non_finite) throw;
        op_.refuse({Errc::non_finite, rank_, item.param});
      }
      if (buffers.residual.data != nullptr) {
        ops::scale_add(buffers.tensor, 1.0F, nullptr, static_cast<float*>(buffers.residual.data));
      }
    }
  }

  Work exchange_sketches() {
    const Bytes mine = memory_.sketch(static_cast<std::size_t>(rank_));
    auto* const sketch = reinterpret_cast<std::uint64_t*>(mine.data + kEnvelopeBytes);
    std::memset(sketch, 0, mine.size - kEnvelopeBytes);
    const std::size_t count = std::accumulate(chosen_.begin(), chosen_.end(), std::size_t{0});
    sketch[0] = count;
    std::size_t item = 0;
    std::size_t before = 0;  // entries of earlier items
    for (std::size_t j = 0; count != 0 && j <= size_; ++j) {
      const std::size_t entry = j < size_ ? j * count / size_ : count - 1;
      for (; entry - before >= chosen_[item]; ++item) before += chosen_[item];
      const std::size_t place = starts_[item] + *memory_.mine(entry_first_[item] + entry - before, 0).index;
      sketch[1 + j] = j < size_ ? place : place + 1;
    }
    const std::size_t size = seal_message(op_, {0, 0}, mine, mine.size);
    for (std::size_t distance = 1; distance < size_; ++distance) {
      sends_.push_back({mine.slice(0, size), static_cast<int>(peer_at(distance))});
      recvs_.push_back({memory_.sketch(peer_at(distance)), static_cast<int>(peer_at(distance))});
    }
    return op_.exchange(sends_, recvs_);
  }

  // --- stage 1

  /// Reads the sketches. Everybody has the same: a verdict known now is known to all, and ends the run.
  void cut_regions() {
    std::uint64_t k = 0;
    const std::size_t row = sketch_size(size_);
    for (std::size_t rank = 0; rank < size_; ++rank) {
      const ConstBytes sketch = open_message(op_, {{0, 0}, {}, memory_.sketch(rank), static_cast<int>(rank)});
      if (op_.verdict) continue;
      if (sketch.size < row * sizeof(std::uint64_t)) {
        fail(Errc::rank_mismatch, "rank {} sent a sketch of {} bytes, expected {}", rank, sketch.size, row * 8);
      }
      std::memcpy(&sketches_[rank * row], sketch.data, row * sizeof(std::uint64_t));
      k = std::max(k, sketches_[rank * row]);
    }
    called_off_ = op_.verdict.has_value();
    if (called_off_) return;
    if (k > memory_.max_entries())
      fail(Errc::rank_mismatch, "a rank has chosen {} entries, at most {} can be", k, memory_.max_entries());
    region_room_ = static_cast<std::size_t>((2 * k + size_ - 1) / size_);
    balance_regions(sketches_, total_, cuts_);
    align_cuts(cuts_, starts_);
    cut_items();
  }

  void cut_items() {
    pieces_.clear();
    sent_.clear();
    region_first_.clear();
    std::size_t item = 0;
    std::size_t used = 0;  // entries of the item in earlier pieces
    for (std::size_t region = 0; region < size_; ++region) {
      region_first_.push_back(pieces_.size());
      const std::size_t last = cuts_[region + 1];
      for (std::size_t at = cuts_[region]; at < last;) {
        for (; starts_[item + 1] <= at; ++item) used = 0;
        const std::size_t end = std::min(last, starts_[item + 1]);
        const std::size_t first = at - starts_[item];
        pieces_.push_back({static_cast<std::uint32_t>(item), first, end - at, scratch_first_[item] + first});
        const std::uint32_t* const index = memory_.mine(entry_first_[item], 0).index;
        const auto* const stop = std::lower_bound(index + used, index + chosen_[item], end - starts_[item]);
        const auto until = static_cast<std::size_t>(stop - index);
        sent_.push_back({entry_first_[item] + used, until - used});
        used = until;
        at = end;
      }
    }
    region_first_.push_back(pieces_.size());
  }

  Work scatter() {
    const Bytes out = memory_.out();
    std::size_t at = 0;
    const auto own = region(static_cast<std::size_t>(rank_));
    for (std::size_t distance = 1; distance < size_; ++distance) {
      const std::size_t peer = peer_at(distance);
      if (!own.empty()) recvs_.push_back({memory_.from_peer(peer), static_cast<int>(peer)});
      const auto pieces = region(peer);
      if (pieces.empty()) continue;
      const Bytes message = out.slice(at, out.size - at);
      const std::size_t size = pack_entries(pieces, message);
      sends_.push_back({message.slice(0, size), static_cast<int>(peer)});
      at += size;
    }
    return op_.exchange(sends_, recvs_);
  }

  /// In front of the frames: how many entries each has.
  std::size_t pack_entries(std::span<const Piece> pieces, Bytes out) {
    const std::size_t preface = SparseWorkspace::preface_bytes(pieces.size());
    std::memset(out.data + kEnvelopeBytes, 0, preface);
    auto* counts = reinterpret_cast<std::uint32_t*>(out.data + kEnvelopeBytes);
    return pack_message(op_, {1, 0, preface}, pieces, out, [&](const Piece& piece, Bytes frame) {
      const Sent& sent = sent_[static_cast<std::size_t>(&piece - pieces_.data())];
      const Entries entries = memory_.mine(sent.first, sent.count);
      *counts++ = static_cast<std::uint32_t>(sent.count);
      const auto offset = static_cast<std::uint32_t>(piece.first);
      for (std::size_t e = 0; e < entries.count; ++e) entries.index[e] -= offset;
      const std::size_t bytes = sparsifier(op_.items[piece.item])
                                    .encode_entries(entries, piece.count, frame, random_key(op_, piece, Draw::input));
      for (std::size_t e = 0; e < entries.count; ++e) entries.index[e] += offset;
      settle_sent(piece, entries);
      return bytes;
    });
  }

  void settle_sent(const Piece& piece, const Entries& entries) const {
    const Tensor& owed = op_.buffers[piece.item].residual;
    if (owed.data == nullptr) return;
    auto* const residual = static_cast<float*>(owed.data);
    for (std::size_t e = 0; e < entries.count; ++e) residual[entries.index[e]] -= entries.value[e];
  }

  // --- stage 2

  Work reduce() {
    place_sums();
    for (std::size_t distance = 1; distance < size_; ++distance) {
      const std::size_t owner = peer_at(distance);
      if (!region(owner).empty()) recvs_.push_back({owner_message(owner), static_cast<int>(owner)});
    }
    const auto own = static_cast<std::size_t>(rank_);
    const auto pieces = region(own);
    if (!pieces.empty()) {
      const Sums sums(op_, memory_.scratch());
      add_up(sums, pieces);
      const Bytes message = owner_message(own);
      const std::size_t size = pack_choice(sums, pieces, message);
      unpack_into_results(op_, {{2, 0}, pieces, message, rank_});
      for (std::size_t distance = 1; distance < size_; ++distance) {
        sends_.push_back({message.slice(0, size), static_cast<int>(peer_at(distance))});
      }
    }
    return op_.exchange(sends_, recvs_);
  }

  void add_up(const Sums& sums, std::span<const Piece> pieces) {
    sums.load(pieces);
    weights_.clear();
    for (std::size_t p = 0; p < pieces.size(); ++p) {
      weights_.push_back(sent_[region_first_[static_cast<std::size_t>(rank_)] + p].count);
    }
    const std::size_t preface = SparseWorkspace::preface_bytes(pieces.size());
    for (std::size_t peer = 0; peer < size_; ++peer) {
      if (peer == static_cast<std::size_t>(rank_)) continue;
      const Bytes message = memory_.from_peer(peer);
      unpack_into_sums(op_, {{1, 0, preface}, pieces, message, static_cast<int>(peer)}, sums, Write::add);
      if (op_.verdict) continue;
      for (std::size_t p = 0; p < pieces.size(); ++p) {
        std::uint32_t count = 0;
        std::memcpy(&count, message.data + kEnvelopeBytes + p * sizeof count, sizeof count);
        weights_[p] += count;
      }
    }
  }

  /// Shares the region's room out among its pieces by the entries that came for them.
  std::size_t pack_choice(const Sums& sums, std::span<const Piece> pieces, Bytes out) {
    const std::uint64_t all = std::accumulate(weights_.begin(), weights_.end(), std::uint64_t{0});
    std::uint64_t seen = 0;
    return pack_message(op_, {2, 0}, pieces, out, [&](const Piece& piece, Bytes frame) {
      const BucketItem& item = op_.items[piece.item];
      const std::uint64_t weight = weights_[static_cast<std::size_t>(&piece - pieces.data())];
      const auto upto = [&](std::uint64_t entries) { return all == 0 ? 0 : region_room_ * entries / all; };
      const std::uint64_t share = std::min(upto(seen + weight) - upto(seen), weight);
      seen += weight;
      const std::size_t wanted = SparseWorkspace::room(item, piece.count, static_cast<std::size_t>(share));
      const Tensor sum = sums.of(piece);
      const Entries entries = ops::select_largest(sum, memory_.choice(wanted));
      keep(piece, sum);
      const std::size_t bytes =
          sparsifier(item).encode_entries(entries, piece.count, frame, random_key(op_, piece, Draw::sum));
      settle_chosen(piece, entries);
      return bytes;
    });
  }

  /// What the owner has of its region, own and sent.
  void keep(const Piece& piece, const Tensor& sum) const {
    const ItemBuffers& buffers = op_.buffers[piece.item];
    if (buffers.residual.data == nullptr) return;
    std::memcpy(static_cast<float*>(buffers.residual.data) + piece.first, sum.data, sum.bytes());
  }

  void settle_chosen(const Piece& piece, const Entries& entries) const {
    const ItemBuffers& buffers = op_.buffers[piece.item];
    if (buffers.residual.data == nullptr) return;
    auto* const residual = static_cast<float*>(buffers.residual.data) + piece.first;
    for (std::size_t e = 0; e < entries.count; ++e) {
      residual[entries.index[e]] -= rounded(entries.value[e], buffers.tensor.dtype);
    }
  }

  /// Owners' messages lie end to end where my own for stage 1 were.
  void place_sums() {
    slots_[0] = 0;
    for (std::size_t owner = 0; owner < size_; ++owner) {
      std::size_t bytes = kEnvelopeBytes;
      for (const Piece& piece : region(owner)) {
        const BucketItem& item = op_.items[piece.item];
        const std::size_t entries = SparseWorkspace::room(item, piece.count, region_room_);
        bytes += SparseWorkspace::frame_bytes(item, piece.count, entries);
      }
      slots_[owner + 1] = slots_[owner] + bytes;
    }
  }
  [[nodiscard]] Bytes owner_message(std::size_t owner) const {
    return memory_.out().slice(slots_[owner], slots_[owner + 1] - slots_[owner]);
  }

  // --- stage 3

  void gather() {
    for (std::size_t owner = 0; owner < size_; ++owner) {
      const auto pieces = region(owner);
      if (owner == static_cast<std::size_t>(rank_) || pieces.empty()) continue;
      unpack_into_results(op_, {{2, 0}, pieces, owner_message(owner), static_cast<int>(owner)});
    }
  }

  /// Peers in the order that spreads the load: each rank begins with its right neighbour.
  [[nodiscard]] std::size_t peer_at(std::size_t distance) const noexcept {
    return (static_cast<std::size_t>(rank_) + distance) % size_;
  }
  [[nodiscard]] std::span<const Piece> region(std::size_t rank) const noexcept {
    return std::span(pieces_).subspan(region_first_[rank], region_first_[rank + 1] - region_first_[rank]);
  }

  struct Sent {  // of my entries, those of one piece
    std::size_t first = 0;
    std::size_t count = 0;
  };

  int rank_;
  std::size_t size_;
  std::size_t total_ = 0;                 // elements
  std::vector<std::size_t> starts_;       // of the items, and total_
  std::vector<std::size_t> entry_first_;  // of each item, among my entries
  std::vector<std::size_t> scratch_first_;
  SparseWorkspace memory_;

  // of the run under way
  bool called_off_ = false;
  std::vector<std::size_t> chosen_;  // entries of each item
  std::vector<std::uint64_t> sketches_;
  std::vector<std::uint64_t> cuts_;
  std::size_t region_room_ = 0;            // entries that an owner may send
  std::vector<Piece> pieces_;              // region by region
  std::vector<Sent> sent_;                 // by piece
  std::vector<std::size_t> region_first_;  // of pieces_
  std::vector<std::uint64_t> weights_;     // entries that came for each piece of my region
  std::vector<std::size_t> slots_;         // of the owners' messages, and the end of the last
  std::vector<Send> sends_;
  std::vector<Recv> recvs_;
};

}  // namespace

std::unique_ptr<Algorithm> make_sparse_scatter(Operation& op) { return std::make_unique<SparseScatter>(op); }

}  // namespace gradwire
