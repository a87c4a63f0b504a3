#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "base/fail.hpp"

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

std::vector<Agreement> parse(const Blob& blob) {
  std::vector<Agreement> entries;
  for (ConstBytes rest{blob.data(), blob.size()}; rest.size > 0;) {
    Agreement entry;
    entry.key = take(rest);
    entry.value = take(rest);
    entries.push_back(std::move(entry));
  }
  return entries;
}

/// All-gather of blobs, each rank's of its own size.
std::vector<Blob> gather_all(const Communicator& comm, const Blob& mine, Slot slot, Deadline deadline) {
  const auto n = static_cast<std::size_t>(comm.size());
  const auto self = static_cast<std::size_t>(comm.rank());
  std::vector<std::uint64_t> sizes(n);
  std::vector<Blob> blobs(n);
  sizes[self] = mine.size();
  blobs[self] = mine;

  const auto round = [&](auto&& mine_bytes, auto&& peer_bytes) {
    std::vector<Send> sends;
    std::vector<Recv> recvs;
    for (std::size_t peer = 0; peer < n; ++peer) {
      if (peer == self) continue;
      sends.push_back({mine_bytes(), static_cast<int>(peer)});
      recvs.push_back({peer_bytes(peer), static_cast<int>(peer)});
    }
    comm.transport().exchange(sends, recvs, slot, StreamRef::host()).wait(deadline);
  };
  round(
      [&] {
        return ConstBytes{reinterpret_cast<std::byte*>(&sizes[self]), sizeof(std::uint64_t)};
      },
      [&](std::size_t peer) {
        return Bytes{reinterpret_cast<std::byte*>(&sizes[peer]), sizeof(std::uint64_t)};
      });
  for (std::size_t peer = 0; peer < n; ++peer) blobs[peer].resize(sizes[peer]);
  round(
      [&] {
        return ConstBytes{blobs[self].data(), blobs[self].size()};
      },
      [&](std::size_t peer) {
        return Bytes{blobs[peer].data(), blobs[peer].size()};
      });
  return blobs;
}

/// Throws naming the first difference between rank 0's entries and another rank's.
[[noreturn]] void report_difference(const std::vector<Blob>& blobs, std::size_t rank) {
  const std::vector<Agreement> ours = parse(blobs[0]);
  const std::vector<Agreement> theirs = parse(blobs[rank]);
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
  std::vector<Blob> blobs;
  try {
    blobs = gather_all(*this, serialise(entries), slot, deadline);
  } catch (const Error& error) {
    // Some rank is late or gone: whoever comes later must not wait for answers that were given up.
    if (error.code() != Errc::aborted) transport_->abort(error.what());
    throw;
  }
  for (std::size_t rank = 1; rank < blobs.size(); ++rank) {
    if (blobs[rank] != blobs[0]) report_difference(blobs, rank);
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
