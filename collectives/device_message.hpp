#pragma once
#include <cstddef>
#include <span>

#include "collectives/message.hpp"

/// \file What message.hpp does piece by piece on hosts, for all pieces of a message in as few launches as their
/// compressors allow (BatchCodec): those with equal specs go together. After a verdict only bytes() is called.
namespace gradwire::device_message {

/// What is encoded of each piece, and by what.
struct Source {
  const Sums* sums = nullptr;  ///< null: this rank's tensors
  Draw draw = Draw::input;
  const Compressor* compressor = nullptr;  ///< null: the items' own
};

/// Of a message, whose frames all have the most bytes that they may. `compressor` and `of_sums`: as Arrival's.
[[nodiscard]] std::size_t bytes(const Operation& op, MessageId id, std::span<const Piece> pieces,
                                const Compressor* compressor, bool of_sums);

/// Encodes every piece into a message; returns its size.
std::size_t encode(Operation& op, MessageId id, std::span<const Piece> pieces, Bytes out, const Source& source);

/// pack_added_sums().
std::size_t encode_added(Operation& op, MessageId id, std::span<const Piece> pieces,
                         std::span<const ConstBytes> messages, Bytes out);

/// Decodes a message into `sums`, or where they are null into the results, which it looks through for NaN and Inf.
void decode(Operation& op, const Arrival& arrival, const Sums* sums, Write write);

/// This rank's input in f32 to where its sums are, where it is not there already.
void load(Operation& op, std::span<const Piece> pieces, const Sums& sums);
/// residual = sum - result, where results are rounded to 16 bits.
void owe_rounding(Operation& op, std::span<const Piece> pieces, const Sums& sums);
/// deliver_sums().
void deliver(Operation& op, std::span<const Piece> pieces, const Sums& sums, bool credit);
/// check_input(), and of results.
void find_non_finite(Operation& op, std::span<const Piece> pieces);
void clear_residuals(Operation& op, std::span<const Piece> pieces);

}  // namespace gradwire::device_message
