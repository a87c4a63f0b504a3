#include "collectives/device_message.hpp"

#include <fmt/format.h>

#include <array>

#include "base/device.hpp"
#include "base/fail.hpp"
#include "compress/vector_ops.hpp"

namespace gradwire::device_message {
namespace {

using Members = std::span<const std::size_t>;

const Compressor& compressor_of(const Operation& op, const Piece& piece, const Compressor* other) {
  return other == nullptr ? op.items[piece.item].compressor : *other;
}

std::size_t frame_bytes(const Operation& op, const Piece& piece, const Compressor* other, bool of_sums) {
  return compressor_of(op, piece, other).max_frame_size(piece.count, of_sums ? DType::f32 : op.items[piece.item].dtype);
}

/// Where each piece's frame begins, and where the last one ends, in DeviceScratch::places.
void place_frames(Operation& op, std::size_t first, std::span<const Piece> pieces, const Compressor* other,
                  bool of_sums) {
  op.scratch.places.assign(1, first);
  for (const Piece& piece : pieces)
    op.scratch.places.push_back(op.scratch.places.back() + frame_bytes(op, piece, other, of_sums));
}

/// Calls visit(compressor, numbers of its pieces) for pieces that are coded together: of equal specs.
template <class Visit>
void visit_batches(Operation& op, std::span<const Piece> pieces, const Compressor* other, const Visit& visit) {
  const auto is_same = [&](const Compressor& compressor, std::size_t i) {
    const Compressor& its = compressor_of(op, pieces[i], other);
    return &its == &compressor || its.spec() == compressor.spec();
  };
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const Compressor& compressor = compressor_of(op, pieces[i], other);
    const bool is_batched = compressor.batch_codec() != nullptr;
    std::size_t earlier = 0;
    while (is_batched && earlier < i && !is_same(compressor, earlier)) ++earlier;
    if (is_batched && earlier < i) continue;
    op.scratch.members.assign(1, i);
    for (std::size_t j = i + 1; is_batched && j < pieces.size(); ++j)
      if (is_same(compressor, j)) op.scratch.members.push_back(j);
    visit(compressor, Members(op.scratch.members));
  }
}

/// What is launched for these pieces is called so in timelines.
class Range {
 public:
  Range(const Operation& op, std::span<const Piece> pieces, Members members)
      : text_(name_of(op, pieces, members)), range_(text_.data()) {}

 private:
  using Text = std::array<char, 128>;
  static Text name_of(const Operation& op, std::span<const Piece> pieces, Members members) {
    Text text{};
    const std::string& first = op.items[pieces[members.front()].item].name;
    if (members.size() == 1) {
      fmt::format_to_n(text.data(), text.size() - 1, "{}", first);
    } else {
      fmt::format_to_n(text.data(), text.size() - 1, "{} and {} more", first, members.size() - 1);
    }
    return text;
  }

  Text text_;
  device::Range range_;
};

Tensor tensor_of(const Operation& op, const Piece& piece) {
  return op.buffers[piece.item].tensor.slice(piece.first, piece.count);
}
Tensor residual_of(const Operation& op, const Piece& piece) {
  const Tensor& residual = op.buffers[piece.item].residual;
  return residual.data == nullptr ? Tensor{} : residual.slice(piece.first, piece.count);
}
bool is_rounded(const Operation& op, const Piece& piece) { return op.buffers[piece.item].tensor.dtype != DType::f32; }

/// What a JobList asks for jobs by their number: `job_of` of the piece with that number. Jobs of no elements ({}) are
/// not launched.
template <class Job, class JobOf>
auto by_index(std::span<const Piece> pieces, const JobOf& job_of) {
  return [=](std::size_t i) -> Job { return job_of(pieces[i]); };
}

void look_for_non_finite(Operation& op, std::span<const Piece> pieces, const Sums* sums) {
  const auto job_of = by_index<ops::FindNonFinite>(pieces, [&op, sums](const Piece& piece) {
    return ops::FindNonFinite{sums == nullptr ? tensor_of(op, piece) : sums->of(piece), op.flag(piece.item)};
  });
  ops::find_non_finite(JobList<ops::FindNonFinite>(pieces.size(), job_of), op.stream);
}

void decode_batch(Operation& op, const Compressor& compressor) {
  if (const BatchCodec* const codec = compressor.batch_codec())
    return codec->decode_batch(op.scratch.decodes, op.stream);
  for (const auto& [in, y, write] : op.scratch.decodes) compressor.decode(in, y, write, op.stream);
}

}  // namespace

std::size_t bytes(const Operation& op, MessageId id, std::span<const Piece> pieces, const Compressor* compressor,
                  bool of_sums) {
  std::size_t size = kEnvelopeBytes + id.preface;
  for (const Piece& piece : pieces) size += frame_bytes(op, piece, compressor, of_sums);
  return size;
}

std::size_t encode(Operation& op, MessageId id, std::span<const Piece> pieces, Bytes out, const Source& source) {
  const Stopwatch watch(op.stats.encode_us);
  place_frames(op, kEnvelopeBytes + id.preface, pieces, source.compressor, source.sums != nullptr);
  visit_batches(op, pieces, source.compressor, [&](const Compressor& compressor, Members members) {
    const Range range(op, pieces, members);
    op.scratch.encodes.clear();
    for (const std::size_t i : members) {
      const Piece& piece = pieces[i];
      op.scratch.encodes.push_back({source.sums == nullptr ? tensor_of(op, piece) : source.sums->of(piece),
                                    out.slice(op.scratch.places[i], op.scratch.places[i + 1] - op.scratch.places[i]),
                                    residual_of(op, piece), random_key(op, piece, source.draw)});
    }
    if (const BatchCodec* const codec = compressor.batch_codec())
      return codec->encode_batch(op.scratch.encodes, op.stream);
    for (const auto& [x, frame, residual, key] : op.scratch.encodes)
      compressor.encode(x, frame, residual, key, op.stream);
  });
  return op.scratch.places.back();
}

std::size_t encode_added(Operation& op, MessageId id, std::span<const Piece> pieces,
                         std::span<const ConstBytes> messages, Bytes out) {
  const Stopwatch watch(op.stats.encode_us);
  place_frames(op, kEnvelopeBytes, pieces, nullptr, false);  // sums are f32, as what is added
  visit_batches(op, pieces, nullptr, [&](const Compressor& compressor, Members members) {
    const Range range(op, pieces, members);
    op.scratch.sums.clear();
    for (const std::size_t i : members) {
      const Piece& piece = pieces[i];
      const Bytes room = out.slice(op.scratch.places[i] + id.preface, op.scratch.places[i + 1] - op.scratch.places[i]);
      op.scratch.sums.push_back({{tensor_of(op, piece), room, residual_of(op, piece), random_key(op, piece, Draw::sum)},
                                 op.scratch.places[i]});
    }
    compressor.sum_encoder()->encode_sums(op.scratch.sums, messages, op.stream);
  });
  return op.scratch.places.back() + id.preface;
}

void decode(Operation& op, const Arrival& arrival, const Sums* sums, Write write) {
  const Stopwatch watch(op.stats.decode_us);
  const std::span<const Piece> pieces = arrival.pieces;
  place_frames(op, kEnvelopeBytes + arrival.id.preface, pieces, arrival.compressor, arrival.of_sums);
  visit_batches(op, pieces, arrival.compressor, [&](const Compressor& compressor, Members members) {
    const Range range(op, pieces, members);
    op.scratch.decodes.clear();
    for (const std::size_t i : members) {
      op.scratch.decodes.push_back(
          {arrival.bytes.slice(op.scratch.places[i], op.scratch.places[i + 1] - op.scratch.places[i]),
           sums == nullptr ? tensor_of(op, pieces[i]) : sums->of(pieces[i]), write});
    }
    try {
      decode_batch(op, compressor);
    } catch (const Error& error) {
      fail(error.code(), "{} and what is coded with it, from rank {}: {}", op.items[pieces[members.front()].item].name,
           arrival.from, error.what());
    }
  });
  if (sums == nullptr) look_for_non_finite(op, pieces, nullptr);  // hosts refuse such frames as they encode them
}

void load(Operation& op, std::span<const Piece> pieces, const Sums& sums) {
  const auto job_of = by_index<ops::Convert>(pieces, [&](const Piece& piece) {
    return is_rounded(op, piece) ? ops::Convert{tensor_of(op, piece), sums.of(piece)} : ops::Convert{};
  });
  ops::convert_all(JobList<ops::Convert>(pieces.size(), job_of), op.stream);
}

void owe_rounding(Operation& op, std::span<const Piece> pieces, const Sums& sums) {
  const auto job_of = by_index<ops::ScaleAdd>(pieces, [&](const Piece& piece) {
    const Tensor residual = residual_of(op, piece);
    if (!is_rounded(op, piece) || residual.data == nullptr) return ops::ScaleAdd{};
    return ops::ScaleAdd{tensor_of(op, piece), -1.0F, static_cast<const float*>(sums.of(piece).data),
                         static_cast<float*>(residual.data)};
  });
  ops::scale_add_all(JobList<ops::ScaleAdd>(pieces.size(), job_of), op.stream);
}

void deliver(Operation& op, std::span<const Piece> pieces, const Sums& sums, bool credit) {
  look_for_non_finite(op, pieces, &sums);
  const auto result_of = by_index<ops::Convert>(pieces, [&](const Piece& piece) {
    return is_rounded(op, piece) ? ops::Convert{sums.of(piece), tensor_of(op, piece)} : ops::Convert{};
  });
  ops::convert_all(JobList<ops::Convert>(pieces.size(), result_of), op.stream);
  if (!credit) return;
  const auto owed_of = by_index<ops::Convert>(pieces, [&](const Piece& piece) {
    const Tensor residual = residual_of(op, piece);
    return is_rounded(op, piece) && residual.data != nullptr ? ops::Convert{sums.of(piece), residual} : ops::Convert{};
  });
  ops::add_all(JobList<ops::Convert>(pieces.size(), owed_of), op.stream);
  const auto rest_of = by_index<ops::ScaleAdd>(pieces, [&](const Piece& piece) {
    const Tensor residual = residual_of(op, piece);
    if (!is_rounded(op, piece) || residual.data == nullptr) return ops::ScaleAdd{};
    auto* const owed = static_cast<float*>(residual.data);
    return ops::ScaleAdd{tensor_of(op, piece), -1.0F, owed, owed};
  });
  ops::scale_add_all(JobList<ops::ScaleAdd>(pieces.size(), rest_of), op.stream);
}

void find_non_finite(Operation& op, std::span<const Piece> pieces) { look_for_non_finite(op, pieces, nullptr); }

void clear_residuals(Operation& op, std::span<const Piece> pieces) {
  const auto job_of = by_index<ops::CopyJob>(pieces, [&](const Piece& piece) {
    return ops::CopyJob{nullptr, residual_of(op, piece)};
  });
  ops::copy_all(JobList<ops::CopyJob>(pieces.size(), job_of), op.stream);
}

}  // namespace gradwire::device_message
