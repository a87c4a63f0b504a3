#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "base/fail.hpp"

#include "gradwire/buffer.hpp"
#include "gradwire/transport.hpp"

namespace gradwire {
namespace {

using Blob = std::vector<std::byte>;

void append(Blob& blob, std::string_view text) {
  const auto length = static_cast<std::uint32_t>(text.size());
  const auto* bytes = reinterpret_cast<const std::byte*>(&length);
  blob.insert(blob.end(), bytes, bytes + sizeof length);
  const auto* chars = reinterpret_cast<const std::byte*>(text.data());
  blob.insert(blob.end(), chars, chars + text.size());
}

Blob serialise(std::span<const Agreement> entries) {
  Blob blob;
  for (const Agreement& entry : entries) {
    append(blob, entry.key);
    append(blob, entry.value);
  }
  return blob;
}

std::string take(ConstBytes& rest) {
  std::uint32_t length = 0;
  if (rest.size < sizeof length) fail(Errc::rank_mismatch, "an agreement message is cut short");
  std::memcpy(&length, rest.data, sizeof length);
  rest = rest.slice(sizeof length, rest.size - sizeof length);
  if (rest.size < length) fail(Errc::rank_mismatch, "an agreement message is cut short");
  std::string text(reinterpret_cast<const char*>(rest.data), length);
  rest = rest.slice(length, rest.size - length);
  return text;
}

std::vector<Agreement> parse(ConstBytes rest) {
  std::vector<Agreement> entries;
  while (rest.size > 0) {
    Agreement entry;
    entry.key = take(rest);
    entry.value = take(rest);
    entries.push_back(std::move(entry));
  }
  return entries;
}

/// Posts one exchange with everybody: this rank's part, parts[rank()], goes to all, theirs come into the others. A part
/// may arrive shorter than its place.
Work all_gather(const Communicator& comm, std::span<const Bytes> parts, Slot slot) {
  std::vector<Send> sends;
  std::vector<Recv> recvs;
  const ConstBytes mine = parts[static_cast<std::size_t>(comm.rank())];
  for (int peer = 0; peer < comm.size(); ++peer) {
    if (peer == comm.rank()) continue;
    sends.push_back({mine, peer});
    recvs.push_back({parts[static_cast<std::size_t>(peer)], peer});
  }
  return comm.transport().exchange(sends, recvs, slot, StreamRef::host());
}

/// An all-gather of blobs, each rank's of its own size, and the memory that it works on.
class Gathering {
 public:
  Gathering(const Communicator& comm, const Blob& mine)
      : comm_(comm),
        self_(static_cast<std::size_t>(comm.rank())),
        ranks_(static_cast<std::size_t>(comm.size())),
        sizes_(ranks_ * sizeof(std::uint64_t)),
        blobs_(ranks_) {
    const std::uint64_t size = mine.size();
    std::memcpy(size_of_blob(self_).data, &size, sizeof size);
    blobs_[self_] = Buffer(mine.size());
    if (!mine.empty()) std::memcpy(blobs_[self_].data(), mine.data(), mine.size());
  }

  void run(Slot slot, Deadline deadline) {
    gather([this](std::size_t rank) { return size_of_blob(rank); }, slot, deadline);
    for (std::size_t rank = 0; rank < ranks_; ++rank) {
      std::uint64_t size = 0;
      std::memcpy(&size, size_of_blob(rank).data, sizeof size);
      if (rank != self_) blobs_[rank] = Buffer(size);
    }
    gather([this](std::size_t rank) { return blobs_[rank].bytes(); }, slot, deadline);
  }

  /// For when the backend may still use the memory.
  void abandon() noexcept {
    sizes_.abandon();
    for (Buffer& blob : blobs_) blob.abandon();
  }

  [[nodiscard]] ConstBytes blob(std::size_t rank) const noexcept { return blobs_[rank].bytes(); }
  [[nodiscard]] bool is_that_of_rank_0(std::size_t rank) const noexcept {
    const ConstBytes ours = blob(0);
    const ConstBytes theirs = blob(rank);
    return ours.size == theirs.size && (ours.size == 0 || std::memcmp(ours.data, theirs.data, ours.size) == 0);
  }

 private:
  [[nodiscard]] Bytes size_of_blob(std::size_t rank) const noexcept {
    return sizes_.bytes().slice(rank * sizeof(std::uint64_t), sizeof(std::uint64_t));
  }

  template <class Part>
  void gather(Part&& part, Slot slot, Deadline deadline) const {
    std::vector<Bytes> parts;
    for (std::size_t rank = 0; rank < ranks_; ++rank) parts.push_back(part(rank));
    all_gather(comm_, parts, slot).wait(deadline);
  }

  const Communicator& comm_;
  std::size_t self_;
  std::size_t ranks_;
  Buffer sizes_;
  std::vector<Buffer> blobs_;
};

/// Throws naming the first difference between rank 0's entries and another rank's.
[[noreturn]] void report_difference(const Gathering& gathering, std::size_t rank) {
  const std::vector<Agreement> ours = parse(gathering.blob(0));
  const std::vector<Agreement> theirs = parse(gathering.blob(rank));
  for (std::size_t i = 0; i < std::min(ours.size(), theirs.size()); ++i) {
    if (ours[i].key != theirs[i].key) {
      fail(Errc::rank_mismatch, "ranks disagree on entry {}: rank 0 has '{}', rank {} has '{}'", i, ours[i].key, rank,
           theirs[i].key);
    }
    if (ours[i].value != theirs[i].value) {
      fail(Errc::rank_mismatch, "ranks disagree on {}: rank 0 has '{}', rank {} has '{}'", ours[i].key, ours[i].value,
           rank, theirs[i].value);
    }
  }
  const auto& longer = ours.size() > theirs.size() ? ours : theirs;
  fail(Errc::rank_mismatch, "ranks disagree: rank 0 has {} entries, rank {} has {}; the first that one lacks is '{}'",
       ours.size(), rank, theirs.size(), longer[std::min(ours.size(), theirs.size())].key);
}

}  // namespace

Transport::~Transport() = default;

void Transport::announce(std::span<const Agreement>, Slot, Deadline) {}

struct Communicator::Sequence {
  std::mutex mutex;
  std::map<Slot, std::uint32_t> next;
  std::string user;  // who has claimed the communicator
};

Communicator::Communicator(std::shared_ptr<Transport> transport)
    : transport_(std::move(transport)), sequence_(std::make_shared<Sequence>()) {
  require(transport_ != nullptr, "a communicator needs a transport");
  rank_ = transport_->info().rank;
  size_ = transport_->info().size;
}

void Communicator::agree(std::span<const Agreement> entries, Deadline deadline, Slot slot) const {
  if (size_ == 1) return;
  Gathering gathering(*this, serialise(entries));
  try {
    gathering.run(slot, deadline);
  } catch (const std::exception& error) {
    // Some rank is late or gone: whoever comes later must not wait for answers that were given up.
    const auto* const known = dynamic_cast<const Error*>(&error);
    if (known == nullptr || known->code() != Errc::aborted) transport_->abort(error.what());
    gathering.abandon();
    throw;
  }
  for (int rank = 1; rank < size_; ++rank) {
    const auto r = static_cast<std::size_t>(rank);
    if (!gathering.is_that_of_rank_0(r)) report_difference(gathering, r);
  }
}

void Communicator::barrier(Deadline deadline) const { agree({}, deadline); }

std::shared_ptr<void> Communicator::claim(std::string_view user) const {
  const std::lock_guard lock(sequence_->mutex);
  require(sequence_->user.empty(), "{} needs a communicator of its own: {} uses this one", user, sequence_->user);
  sequence_->user = user;
  return {sequence_.get(), [sequence = sequence_](void*) {
            const std::lock_guard release(sequence->mutex);
            sequence->user.clear();
          }};
}

std::uint32_t Communicator::next_operation(Slot slot) const {
  const std::lock_guard lock(sequence_->mutex);
  return sequence_->next[slot]++;
}

}  // namespace gradwire
