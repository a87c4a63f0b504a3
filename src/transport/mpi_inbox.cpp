#include "transport/mpi_inbox.hpp"

#include <algorithm>
#include <climits>
#include <new>

#include "transport/mpi_operation.hpp"
#include "transport/mpi_session.hpp"

namespace gradwire {
namespace {
constexpr int kAbortTag = static_cast<int>(kAbortSlot);
}

void MpiInbox::wait_for(MpiOperation& operation, std::size_t part, int peer, Slot slot) {
  const auto tag = static_cast<int>(slot);
  const bool first =
      std::none_of(waiting_.begin(), waiting_.end(), [&](const Waiting& w) { return w.peer == peer && w.tag == tag; });
  waiting_.push_back({&operation, part, peer, tag, first});
}

void MpiInbox::remove(std::size_t index) noexcept {
  const Waiting removed = waiting_[index];
  waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(index));
  if (!removed.first) return;
  const auto next = std::find_if(waiting_.begin(), waiting_.end(),
                                 [&](const Waiting& w) { return w.peer == removed.peer && w.tag == removed.tag; });
  if (next != waiting_.end()) next->first = true;
}

void MpiInbox::withdraw(const MpiOperation& operation) noexcept {
  for (std::size_t i = waiting_.size(); i-- > 0;) {
    if (waiting_[i].operation == &operation) remove(i);
  }
}

std::optional<MpiInbox::Found> MpiInbox::probe(int peer, int tag) const {
  int found = 0;
  MPI_Status status;
  mpi_check(MPI_Iprobe(peer, tag, comm_, &found, &status), "MPI_Iprobe");
  if (found == 0) return std::nullopt;
  return Found{status.MPI_SOURCE, status.MPI_TAG, mpi_message_size(status)};
}

bool MpiInbox::deliver(const Found& found) {
  const auto match = std::find_if(waiting_.begin(), waiting_.end(),
                                  [&](const Waiting& w) { return w.peer == found.peer && w.tag == found.tag; });
  if (match == waiting_.end()) return false;
  const Waiting receiver = *match;
  remove(static_cast<std::size_t>(match - waiting_.begin()));
  receiver.operation->receive(receiver.part, found.size);
  return true;
}

std::optional<MpiInbox::Abort> MpiInbox::pump() {
  if (!discarded_.empty()) test_discarded();
  while (const auto found = probe(MPI_ANY_SOURCE, MPI_ANY_TAG)) {
    if (found->tag == kAbortTag) return receive_abort(*found);
    if (!deliver(*found)) return look_past();
  }
  return std::nullopt;
}

/// A message that nobody has asked for yet hides from the general probe what came after it.
std::optional<MpiInbox::Abort> MpiInbox::look_past() {
  if (const auto abort = probe(MPI_ANY_SOURCE, kAbortTag)) return receive_abort(*abort);
  for (std::size_t i = 0; i < waiting_.size();) {
    const auto found = waiting_[i].first ? probe(waiting_[i].peer, waiting_[i].tag) : std::nullopt;
    if (!found) {
      ++i;
      continue;
    }
    (void)deliver(*found);  // takes waiting_[i] away, and with a message too long all that its operation waits for
    i = std::min(i, waiting_.size());
  }
  return std::nullopt;
}

/// Does not block: a message this short has come whole when a probe finds it.
MpiInbox::Abort MpiInbox::receive_abort(const Found& found) const {
  Abort abort{found.peer, std::string(found.size, '\0')};
  mpi_check(MPI_Recv(abort.why.data(), static_cast<int>(found.size), MPI_CHAR, found.peer, kAbortTag, comm_,
                     MPI_STATUS_IGNORE),
            "MPI_Recv");
  return abort;
}

void MpiInbox::discard(int peer, Slot slot, std::size_t size) {
  Discarded& discarded = discarded_.emplace_back();
  discarded.memory.resize(size);
  const MpiMessage message(size, INT_MAX);
  mpi_check(MPI_Irecv(discarded.memory.data(), message.count(), message.type(), peer, static_cast<int>(slot), comm_,
                      &discarded.request),
            "MPI_Irecv");
}

void MpiInbox::test_discarded() {
  std::erase_if(discarded_, [](Discarded& discarded) {
    int done = 0;
    mpi_check(MPI_Test(&discarded.request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    return done != 0;
  });
}

bool MpiInbox::close() noexcept {
  try {
    test_discarded();
  } catch (const std::exception&) {
    // what cannot be tested counts as not done
  }
  const bool clean = discarded_.empty();
  // MPI may still write to what is not done: that memory is let go of, not freed.
  if (!clean) (void)new (std::nothrow) std::vector<Discarded>(std::move(discarded_));
  waiting_.clear();
  return clean;
}

}  // namespace gradwire
