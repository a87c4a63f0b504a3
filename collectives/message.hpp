#pragma once
#include <cstddef>
#include <span>

#include "collectives/layout.hpp"
#include "collectives/operation.hpp"

namespace gradwire {

/// docs/wire-format.md section 3.
inline constexpr std::size_t kEnvelopeBytes = 32;

/// Where in its run a message belongs, and what it has in front of its frames.
struct MessageId {
  int stage = 0;
  int segment = 0;
  std::size_t preface = 0;  ///< bytes, a multiple of 16, between envelope and frames
};

/// A message that has arrived.
struct Arrival {
  MessageId id;
  std::span<const Piece> pieces;  ///< what its frames carry
  ConstBytes bytes;
  int from = 0;
  const Compressor* compressor = nullptr;  ///< of its frames; null: the items' own
  bool of_sums = false;                    ///< whether frames are of sums, in f32, and not of tensors in their dtype
};

// On a device the frames of a message are all that counts: nothing is read back from there, so envelopes are not
// written and not looked at. That all ranks run the same operation they tell each other on the host (Run); a verdict
// leaves the sizes of messages as they are, and what they carry is of no use.

/// Where a message with these pieces arrives: all of `room`, as it may be shorter; on a device what it takes, exactly.
/// `compressor` and `of_sums`: as Arrival's.
[[nodiscard]] Bytes arriving(const Operation& op, std::span<const Piece> pieces, Bytes room, bool of_sums,
                             const Compressor* compressor = nullptr);

/// Completes a message whose content ends at `size`, or cuts it down to the envelope where there is a verdict; returns
/// its size.
std::size_t seal_message(const Operation& op, MessageId id, Bytes out, std::size_t size);

/// Checks a message (Errc::rank_mismatch names its sender) and returns what follows its preface, or nothing when it
/// carries a verdict, which the operation adopts.
ConstBytes open_message(Operation& op, const Arrival& arrival);

/// Whose random numbers: a rank's for its own input, those for a sum that it re-encodes, which must not be the same,
/// and what all ranks draw alike.
enum class Draw { input, sum, shared };
[[nodiscard]] RandomKey random_key(const Operation& op, const Piece& piece, Draw draw);

/// Writes a message of which `write(piece, room)` writes each frame and returns its size; what is not finite becomes a
/// verdict. The preface is the caller's to write.
template <class Writer>
std::size_t pack_message(Operation& op, MessageId id, std::span<const Piece> pieces, Bytes out, Writer&& write) {
  const Stopwatch watch(op.stats.encode_us);
  std::size_t size = kEnvelopeBytes + id.preface;
  for (const Piece& piece : pieces) {
    if (op.verdict) break;
    try {
      size += write(piece, out.slice(size, out.size - size));
    } catch (const Error& error) {
      if (error.code() != Errc::non_finite) throw;
      op.refuse({Errc::non_finite, op.rank(), op.items[piece.item].param});
    }
  }
  return seal_message(op, id, out, size);
}

/// Where the sums of one segment are built: in the tensors themselves where they are f32, else in scratch.
class Sums {
 public:
  Sums(Operation& op, Bytes scratch) : op_(op), scratch_(scratch) {}
  [[nodiscard]] Tensor of(const Piece& piece) const;
  /// Brings this rank's input in, where it is not in place already; not after a verdict.
  void load(std::span<const Piece> pieces) const;

 private:
  Operation& op_;
  Bytes scratch_;
};

/// Writes the message that carries this rank's input, residuals too, and returns its size. With a verdict, or when a
/// non-finite input now causes one, the message is the envelope alone. `compressor` stands in for the items' own.
std::size_t pack_input(Operation& op, MessageId id, std::span<const Piece> pieces, Bytes out,
                       const Compressor* compressor = nullptr);

/// The same for sums under way, whose residual is credited to this rank.
std::size_t pack_sums(Operation& op, MessageId id, std::span<const Piece> pieces, const Sums& sums, Bytes out);

/// On a device: whether pack_added_sums() can, of so many messages.
[[nodiscard]] bool adds_in_one_pass(const Operation& op, std::span<const Piece> pieces, std::size_t messages);
/// As unpacking these messages of inputs into the sums, one after another, and then pack_sums(): each piece in one pass
/// (Compressor::sum_encoder). The sums themselves are nowhere.
std::size_t pack_added_sums(Operation& op, MessageId id, std::span<const Piece> pieces,
                            std::span<const ConstBytes> messages, Bytes out);

/// The same for sums that the tensors hold, in their own dtype.
std::size_t pack_shard(Operation& op, MessageId id, std::span<const Piece> pieces, Bytes out);

/// Checks a message (Errc::rank_mismatch names its sender) and adds its frames to the sums, or assigns them.
/// Adopts a verdict instead when the message carries one.
void unpack_into_sums(Operation& op, const Arrival& arrival, const Sums& sums, Write write);

/// The same, assigning the frames to the result tensors.
void unpack_into_results(Operation& op, const Arrival& arrival);

/// Turns this rank's own final message into results, so that all ranks hold the same bits, and credits the rounding of
/// 16-bit results to this rank's residual.
/// `of_sums`: as Arrival's.
void publish(Operation& op, MessageId id, std::span<const Piece> pieces, ConstBytes message, const Sums& sums,
             bool of_sums = true);

/// Turns sums into results where no final frame exists: refuses any that overflowed, and rounds to 16 bits where
/// results have those. `credit`: this rank owes the rounding.
void deliver_sums(Operation& op, std::span<const Piece> pieces, const Sums& sums, bool credit);

/// Makes NaN and Inf a verdict of `rank`: at once on a host, on a device one of somebody when the run is over.
void check_finite(Operation& op, const Tensor& tensor, std::size_t item, int rank);

/// Refuses NaN and Inf in this rank's input, where nothing else looks at it.
void check_input(Operation& op, std::span<const Piece> pieces);

/// Sets the residuals to zero.
void clear_residuals(Operation& op, std::span<const Piece> pieces);

/// A message of sums that is passed on as it came: its stage is rewritten. Returns its size.
std::size_t restamp(const Operation& op, MessageId id, std::span<const Piece> pieces, Bytes message);

}  // namespace gradwire
