#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gradwire/export.hpp"
#include "gradwire/types.hpp"
#include "gradwire/work.hpp"

namespace gradwire {

struct Send {
  ConstBytes bytes;
  int to;
};
struct Recv {
  Bytes bytes;  ///< capacity: the message may be shorter, never longer; in device memory it is exactly as long
  int from;
};

/// One fact that all ranks must agree on, in words: {"parameter fc1.weight", "f32[784,512] q4 + ef"}.
struct Agreement {
  std::string key;
  std::string value;
};

struct TransportInfo {
  std::string name;  ///< "local", "mpi"
  int rank = 0;
  int size = 1;
  bool any_thread = true;  ///< calls may come from several threads at once
  std::string detail;      ///< versions and settings, for `gradwire info`
  /// The node of each rank, the same on all ranks; numbered from 0 in order of appearance. Empty means one node.
  std::vector<int> nodes = {};
  /// Operations on device memory are in the order of streams (Work::before), and ranks have to post them in one order:
  /// whoever has several to post does so at once, not when it happens to be polled.
  bool stream_ordered = false;
};

/// What a backend's author implements, and nothing else: it moves bytes and knows nothing of compressors.
/// No call blocks. A failure leaves through the Work that suffers it; after `abort` every Work fails with
/// Errc::aborted.
class GRADWIRE_API Transport {
 public:
  Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  virtual ~Transport();

  [[nodiscard]] virtual const TransportInfo& info() const noexcept = 0;
  /// Whether send, receive and all-reduce buffers may live in `space`.
  [[nodiscard]] virtual bool reaches(Space space) const noexcept = 0;

  /// Posts all sends and receives at once. A ring step is one send and one receive; scatter and all-gather are n-1 of
  /// each. Several exchanges may be in flight in one slot; messages between two ranks in one slot match in the order
  /// they were posted. Exchanges of device memory match in the order in which they were posted whatever their slots:
  /// all ranks post them, and all-reduces, in one order. The buffers belong to the transport until the Work is done.
  /// After Errc::timeout, or a failure of the Work, the backend may go on using the buffers of what was in flight: they
  /// must stay allocated (Buffer::abandon), or the process must end.
  [[nodiscard]] virtual Work exchange(std::span<const Send> sends, std::span<const Recv> recvs, Slot slot,
                                      StreamRef stream) = 0;

  /// The backend's own dense all-reduce, in place: the sum over ranks, bitwise equal on all of them. Takes every dtype;
  /// sums of integers are exact, and callers see to it that they fit. Ranks post all-reduces in one order.
  [[nodiscard]] virtual Work all_reduce_sum(Tensor inout, Slot slot, StreamRef stream) = 0;

  /// Announces an operation about to run in `slot`, described so that ranks can compare. Backends ignore it; the
  /// `checked` decorator compares it across ranks and throws Errc::rank_mismatch.
  virtual void announce(std::span<const Agreement> operation, Slot slot, Deadline deadline);

  /// Lets the backend move data; for callers that drive progress themselves.
  virtual void progress() = 0;

  /// Wakes every waiter on every rank it can reach: their Works fail with Errc::aborted and `why`. Idempotent.
  virtual void abort(std::string_view why) noexcept = 0;
};

/// What everyone else holds: a value with shared ownership of one rank's endpoint.
class GRADWIRE_API Communicator {
 public:
  explicit Communicator(std::shared_ptr<Transport> transport);
  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int size() const noexcept { return size_; }
  [[nodiscard]] Transport& transport() const noexcept { return *transport_; }

  /// Collective and blocking. Throws Errc::rank_mismatch on all ranks unless every rank passed the same entries in the
  /// same order; the message names the rank that differs from rank 0, the key and both values, and the communicator
  /// stays usable. A rank that does not come until the deadline is a timeout, which aborts the communicator.
  void agree(std::span<const Agreement> entries, Deadline deadline, Slot slot = kAgreementSlot) const;

  /// Collective and blocking: returns once every rank has called it.
  void barrier(Deadline deadline) const;

  /// Takes this communicator for one user until the token is gone. Throws Errc::invalid_argument naming the user that
  /// has it, also through copies of this value.
  [[nodiscard]] std::shared_ptr<void> claim(std::string_view user) const;

  /// The number of the next operation in `slot`; ranks that start the same operations in a slot get the same numbers.
  [[nodiscard]] std::uint32_t next_operation(Slot slot) const;

 private:
  struct Sequence;
  std::shared_ptr<Transport> transport_;
  std::shared_ptr<Sequence> sequence_;
  int rank_;
  int size_;
};

/// n ranks as threads of one process, sharing memory: for tests, examples and single-host training without MPI.
/// Element r of the result is rank r's communicator. `ranks_per_node` makes nodes out of so many ranks each, the last
/// one maybe of fewer; 0 means GRADWIRE_RANKS_PER_NODE, or else one node.
/// Throws Errc::invalid_argument unless size is in [1, 1024] and ranks_per_node is not negative.
[[nodiscard]] GRADWIRE_API std::vector<Communicator> make_local(int size, int ranks_per_node = 0);

/// Wraps a transport so that every operation's number, counts, dtypes and compressors are compared across ranks before
/// its first byte moves. Costs one round trip an operation; GRADWIRE_CHECK=1 turns it on for every factory.
[[nodiscard]] GRADWIRE_API Communicator make_checked(const Communicator& inner);

}  // namespace gradwire
