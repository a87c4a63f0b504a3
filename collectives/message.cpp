#include "collectives/message.hpp"

#include <algorithm>
#include <cstring>

#include "base/fail.hpp"
#include "collectives/device_message.hpp"
#include "compress/vector_ops.hpp"

namespace gradwire {
namespace {

using device_message::Source;

struct Envelope {
  std::uint16_t magic = 0x5747;
  std::uint16_t stage = 0;
  std::uint32_t operation = 0;
  std::uint64_t fingerprint = 0;
  std::uint32_t segment = 0;
  std::uint32_t blocks = 0;
  std::uint16_t verdict = 0;
  std::uint16_t verdict_rank = 0;
  std::uint32_t verdict_param = 0;
};
static_assert(sizeof(Envelope) == kEnvelopeBytes && std::has_unique_object_representations_v<Envelope>);
constexpr std::size_t kBlock = 16;

Tensor slice_if_wanted(const Tensor& tensor, const Piece& piece) {
  return tensor.data == nullptr ? Tensor{} : tensor.slice(piece.first, piece.count);
}

/// Encodes every piece into a message.
std::size_t pack(Operation& op, MessageId id, std::span<const Piece> pieces, Bytes out, const Source& source) {
  if (op.on_device()) {
    if (op.verdict) return device_message::bytes(op, id, pieces, source.compressor, source.sums != nullptr);
    return device_message::encode(op, id, pieces, out, source);
  }
  return pack_message(op, id, pieces, out, [&](const Piece& piece, Bytes room) {
    const ItemBuffers& buffers = op.buffers[piece.item];
    const Tensor input =
        source.sums == nullptr ? buffers.tensor.slice(piece.first, piece.count) : source.sums->of(piece);
    const Compressor& compressor = source.compressor == nullptr ? op.items[piece.item].compressor : *source.compressor;
    return compressor.encode(input, room, slice_if_wanted(buffers.residual, piece), random_key(op, piece, source.draw));
  });
}

/// Decodes the frames of a message into sums, or where they are null into the results.
void unpack(Operation& op, const Arrival& arrival, const Sums* sums, Write write) {
  ConstBytes frames = open_message(op, arrival);
  if (op.verdict) return;
  if (op.on_device()) return device_message::decode(op, arrival, sums, write);
  const Stopwatch watch(op.stats.decode_us);
  for (const Piece& piece : arrival.pieces) {
    const BucketItem& item = op.items[piece.item];
    const Tensor output =
        sums == nullptr ? op.buffers[piece.item].tensor.slice(piece.first, piece.count) : sums->of(piece);
    try {
      const Compressor& compressor = arrival.compressor == nullptr ? item.compressor : *arrival.compressor;
      const std::size_t size = compressor.decode(frames, output, write);
      frames = frames.slice(size, frames.size - size);
    } catch (const Error& error) {
      fail(error.code(), "{}, elements {} to {}, from rank {}: {}", item.name, piece.first, piece.first + piece.count,
           arrival.from, error.what());
    }
  }
}

[[noreturn]] void refuse_fingerprint(const Operation& op, int from, std::uint64_t theirs) {
  fail(Errc::rank_mismatch,
       "rank {} runs a different operation in slot {} (fingerprint {:016x}, here {:016x}): counts, dtypes, names, "
       "compressors, algorithm, seed, segment size or a low-rank scheme's step differ; GRADWIRE_CHECK=1 tells which",
       from, static_cast<std::uint32_t>(op.slot), theirs, op.fingerprint);
}

}  // namespace

Bytes arriving(const Operation& op, std::span<const Piece> pieces, Bytes room, bool of_sums,
               const Compressor* compressor) {
  return op.on_device() ? room.slice(0, device_message::bytes(op, {}, pieces, compressor, of_sums)) : room;
}

std::size_t seal_message(const Operation& op, MessageId id, Bytes out, std::size_t size) {
  if (op.on_device()) return size;
  Envelope envelope;
  envelope.stage = static_cast<std::uint16_t>(id.stage);
  envelope.operation = op.number;
  envelope.fingerprint = op.fingerprint;
  envelope.segment = static_cast<std::uint32_t>(id.segment);
  if (op.verdict) {
    size = kEnvelopeBytes;
    envelope.verdict = static_cast<std::uint16_t>(op.verdict->code);
    envelope.verdict_rank = static_cast<std::uint16_t>(op.verdict->rank);
    envelope.verdict_param = static_cast<std::uint32_t>(op.verdict->param);
  }
  envelope.blocks = static_cast<std::uint32_t>(size / kBlock);
  std::memcpy(out.data, &envelope, sizeof envelope);
  return size;
}

ConstBytes open_message(Operation& op, const Arrival& arrival) {
  const auto& [id, pieces, message, from, compressor, of_sums] = arrival;
  const std::size_t before = kEnvelopeBytes + id.preface;
  if (op.on_device()) return message.slice(before, message.size - before);
  Envelope envelope;
  std::memcpy(&envelope, message.data, sizeof envelope);
  if (envelope.magic != Envelope{}.magic) {
    fail(Errc::rank_mismatch,
         "rank {} runs a different operation in slot {}: what it sent is no message of this one (it begins with "
         "{:04x}); "
         "ranks differ in what they registered, froze or started",
         from, static_cast<std::uint32_t>(op.slot), envelope.magic);
  }
  if (envelope.fingerprint != op.fingerprint) refuse_fingerprint(op, from, envelope.fingerprint);
  if (envelope.operation != op.number || envelope.stage != id.stage ||
      envelope.segment != static_cast<std::uint32_t>(id.segment)) {
    fail(Errc::rank_mismatch,
         "rank {} is out of step in slot {}: it sent operation {} stage {} segment {}, expected {} {} {}", from,
         static_cast<std::uint32_t>(op.slot), envelope.operation, envelope.stage, envelope.segment, op.number, id.stage,
         id.segment);
  }
  const std::size_t size = std::size_t{envelope.blocks} * kBlock;
  if (size < kEnvelopeBytes || size > message.size) {
    fail(Errc::rank_mismatch, "rank {} sent a message of {} bytes where {} are expected", from, size, message.size);
  }
  if (envelope.verdict != 0) {
    const int rank = envelope.verdict_rank == static_cast<std::uint16_t>(kNobody) ? kNobody : envelope.verdict_rank;
    op.refuse({static_cast<Errc>(envelope.verdict), rank, ParamId{envelope.verdict_param}});
    return {};
  }
  if (size < before)
    fail(Errc::rank_mismatch, "rank {} sent a message of {} bytes, expected {} at least", from, size, before);
  return message.slice(before, size - before);
}

RandomKey random_key(const Operation& op, const Piece& piece, Draw draw) {
  const auto rank = static_cast<std::uint64_t>(op.rank());
  const std::uint64_t number = draw == Draw::shared ? ~std::uint64_t{0} : 2 * rank + (draw == Draw::sum ? 1 : 0);
  return {op.seed + number * 0x9e3779b97f4a7c15ULL, op.step, op.items[piece.item].param, piece.first};
}

Tensor Sums::of(const Piece& piece) const {
  const Tensor& tensor = op_.buffers[piece.item].tensor;
  if (tensor.dtype == DType::f32) return tensor.slice(piece.first, piece.count);
  return Tensor{scratch_.data, 0, DType::f32, scratch_.space}.slice(piece.scratch_first, piece.count);
}

void Sums::load(std::span<const Piece> pieces) const {
  if (op_.verdict) return;  // and where this rank refused there may be no input
  const Stopwatch watch(op_.stats.decode_us);
  if (op_.on_device()) return device_message::load(op_, pieces, *this);
  for (const Piece& piece : pieces) {
    const Tensor& tensor = op_.buffers[piece.item].tensor;
    if (tensor.dtype != DType::f32) ops::convert(tensor.slice(piece.first, piece.count), of(piece), op_.stream);
  }
}

std::size_t pack_input(Operation& op, MessageId id, std::span<const Piece> pieces, Bytes out,
                       const Compressor* compressor) {
  return pack(op, id, pieces, out, {nullptr, Draw::input, compressor});
}

std::size_t pack_sums(Operation& op, MessageId id, std::span<const Piece> pieces, const Sums& sums, Bytes out) {
  return pack(op, id, pieces, out, {&sums, Draw::sum});
}

bool adds_in_one_pass(const Operation& op, std::span<const Piece> pieces, std::size_t messages) {
  return op.on_device() && std::all_of(pieces.begin(), pieces.end(), [&](const Piece& piece) {
           const BucketItem& item = op.items[piece.item];
           const SumEncoder* const encoder = item.compressor.sum_encoder();
           // max_frames() is 0 where it cannot at all, not even with no message besides this rank's own input.
           return item.dtype == DType::f32 && encoder != nullptr &&
                  encoder->max_frames(piece.count) >= std::max<std::size_t>(messages, 1);
         });
}

std::size_t pack_added_sums(Operation& op, MessageId id, std::span<const Piece> pieces,
                            std::span<const ConstBytes> messages, Bytes out) {
  if (op.verdict) return device_message::bytes(op, id, pieces, nullptr, true);
  return device_message::encode_added(op, id, pieces, messages, out);
}

std::size_t pack_shard(Operation& op, MessageId id, std::span<const Piece> pieces, Bytes out) {
  return pack(op, id, pieces, out, {nullptr, Draw::sum});
}

void unpack_into_sums(Operation& op, const Arrival& arrival, const Sums& sums, Write write) {
  unpack(op, arrival, &sums, write);
}

void unpack_into_results(Operation& op, const Arrival& arrival) { unpack(op, arrival, nullptr, Write::assign); }

void publish(Operation& op, MessageId id, std::span<const Piece> pieces, ConstBytes message, const Sums& sums,
             bool of_sums) {
  unpack_into_results(op, {id, pieces, message, op.rank(), nullptr, of_sums});
  if (op.verdict) return;
  const Stopwatch watch(op.stats.decode_us);
  if (op.on_device()) return device_message::owe_rounding(op, pieces, sums);
  for (const Piece& piece : pieces) {
    const ItemBuffers& buffers = op.buffers[piece.item];
    if (buffers.tensor.dtype == DType::f32 || buffers.residual.data == nullptr) continue;
    ops::scale_add(buffers.tensor.slice(piece.first, piece.count), -1.0F, sums.of(piece),
                   buffers.residual.slice(piece.first, piece.count), op.stream);
  }
}

void deliver_sums(Operation& op, std::span<const Piece> pieces, const Sums& sums, bool credit) {
  const Stopwatch watch(op.stats.decode_us);
  if (op.on_device()) return device_message::deliver(op, pieces, sums, credit);
  for (const Piece& piece : pieces) {
    const ItemBuffers& buffers = op.buffers[piece.item];
    const Tensor sum = sums.of(piece);
    check_finite(op, sum, piece.item, kNobody);
    if (op.verdict) return;
    if (buffers.tensor.dtype == DType::f32) continue;
    const Tensor result = buffers.tensor.slice(piece.first, piece.count);
    ops::convert(sum, result, op.stream);
    if (!credit || buffers.residual.data == nullptr) continue;
    const Tensor residual = buffers.residual.slice(piece.first, piece.count);
    ops::add(sum, residual, op.stream);
    ops::scale_add(result, -1.0F, residual, residual, op.stream);
  }
}

void check_finite(Operation& op, const Tensor& tensor, std::size_t item, int rank) {
  if (op.on_device()) return ops::find_non_finite(ops::FindNonFinite{tensor, op.flag(item)}, op.stream);
  if (!ops::all_finite(tensor)) op.refuse({Errc::non_finite, rank, op.items[item].param});
}

void check_input(Operation& op, std::span<const Piece> pieces) {
  if (op.verdict) return;  // and where this rank refused there may be no input
  const Stopwatch watch(op.stats.encode_us);
  if (op.on_device()) return device_message::find_non_finite(op, pieces);
  for (const Piece& piece : pieces) {
    check_finite(op, op.buffers[piece.item].tensor.slice(piece.first, piece.count), piece.item, op.rank());
    if (op.verdict) return;
  }
}

void clear_residuals(Operation& op, std::span<const Piece> pieces) {
  if (op.on_device()) return device_message::clear_residuals(op, pieces);
  for (const Piece& piece : pieces) {
    const Tensor residual = slice_if_wanted(op.buffers[piece.item].residual, piece);
    if (residual.data != nullptr) ops::zero(residual, op.stream);
  }
}

std::size_t restamp(const Operation& op, MessageId id, std::span<const Piece> pieces, Bytes message) {
  if (op.on_device()) return device_message::bytes(op, id, pieces, nullptr, true);
  Envelope envelope;
  std::memcpy(&envelope, message.data, sizeof envelope);
  envelope.stage = static_cast<std::uint16_t>(id.stage);
  std::memcpy(message.data, &envelope, sizeof envelope);
  return std::size_t{envelope.blocks} * kBlock;
}

}  // namespace gradwire
