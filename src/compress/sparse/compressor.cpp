#include "compress/sparse/compressor.hpp"

#include <algorithm>

#include "base/fail.hpp"
#include "base/half.hpp"
#include "compress/frame.hpp"
#include "compress/sparse/frame.hpp"
#include "compress/sparse/layout.hpp"

namespace gradwire {

static_assert(CompressorImpl<SparseCompressor>);

SparseCompressor::SparseCompressor(std::shared_ptr<const sparse::Selection> selection, sparse::ValueCoding values)
    : selection_(std::move(selection)),
      values_(std::move(values)),
      coder_(values_.kind() == sparse::ValueCoding::Kind::f32 ? selection_->coder() : nullptr),
      spec_(selection_->spec() + values_.suffix()) {}

CompressorTraits SparseCompressor::traits() const noexcept {
  CompressorTraits traits;
  traits.fixed_size = false;
  traits.unbiased = selection_->unbiased() && values_.unbiased();
  traits.block_elems = kWholeTensor;
  traits.on_device = selection_->device_rule(0, {}).has_value();
  if (values_.kind() == sparse::ValueCoding::Kind::frame) {
    const CompressorTraits inner = values_.compressor().traits();
    traits.on_device = traits.on_device && selection_->fills_frames() && inner.on_device && inner.fixed_size;
  }
  return traits;
}

double SparseCompressor::error_bound(std::size_t count) const {
  return selection_->error_bound(count, {values_.error_bound(max_entries(count)), values_.unbiased()});
}

/// Whatever the coding of places: on device memory there are no Rice codes, and a frame takes just this.
std::size_t SparseCompressor::max_frame_size(std::size_t count, DType) const {
  frame::check_count(count, spec_);
  const std::size_t units = sparse::units_of(count, selection_->block());
  const std::size_t index =
      selection_->is_seeded() ? sparse::kSeededBytes : sparse::shortest_fixed(most_chosen(count), units).bytes;
  return sparse::kHeadBytes + index + values_.max_bytes(max_entries(count));
}

std::size_t SparseCompressor::max_frame_size(std::size_t count, std::size_t entries) const {
  frame::check_count(count, spec_);
  return sparse::max_frame_bytes(count, entries, values_);
}

std::size_t SparseCompressor::encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key,
                                     StreamRef stream) const {
  if (x.space == Space::device) return encode_on_device(x, out, residual, key, stream);
  frame::check_host(stream, spec_);
  const std::size_t room = max_entries(x.count);
  frame::check_encode(x, out, residual, max_frame_size(x.count, x.dtype), spec_);
  const sparse::Scratch memory = sparse::scratch(sparse::Use::entries, room);
  Entries entries{memory.index, memory.value, room};
  auto* const owed = static_cast<std::byte*>(residual.data);
  entries.count = selection_->select({x, static_cast<float*>(residual.data), key, spec_}, entries);
  const auto seed = selection_->seed(key);
  const sparse::FrameShape shape{x.count, x.dtype, selection_->block(), seed ? &*seed : nullptr};
  const std::size_t bytes = sparse::encode_frame(entries, shape, values_, out, key);
  if (owed == nullptr) return bytes;
  constexpr std::size_t kAhead = 512;  // far apart as they are, the hardware does not see entries coming
  for (std::size_t i = 0; i < entries.count; ++i) {
    __builtin_prefetch(owed + sizeof(float) * entries.index[std::min(i + kAhead, entries.count - 1)], 1);
    const float before = load_f32(owed, DType::f32, entries.index[i]);
    store_f32(owed, DType::f32, entries.index[i], before - entries.value[i]);
  }
  return bytes;
}

std::size_t SparseCompressor::decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const {
  if (y.space == Space::device) return decode_on_device(in, y, write, stream);
  frame::check_host(stream, spec_);
  frame::check_decode(in, y, spec_);
  return sparse::decode_frame(in, y, write, values_, spec_);
}

std::size_t SparseCompressor::most_chosen(std::size_t count) const {
  return sparse::units_of(max_entries(count), selection_->block());
}

device::SparseShape SparseCompressor::device_shape(std::size_t count) const {
  device::SparseShape shape{count, selection_->block(), most_chosen(count), max_frame_size(count, DType::f32)};
  shape.is_seeded = selection_->is_seeded();
  shape.values = values_.kind();
  if (values_.kind() != sparse::ValueCoding::Kind::frame) return shape;
  // The size of such a frame, and how many elements it has, must be known before anything is chosen.
  if (!values_.compressor().traits().fixed_size)
    fail(Errc::unsupported, "{}: on device memory, values are coded by compressors whose frames have one size", spec_);
  if (!selection_->fills_frames())
    fail(Errc::unsupported, "{}: on device memory, such values are of a number of elements that is known beforehand",
         spec_);
  if (shape.block != 0 && count % shape.block != 0 && max_entries(count) != count)
    fail(Errc::unsupported, "{}: on device memory, such values are of whole blocks: {} elements are no multiple of {}",
         spec_, count, shape.block);
  shape.value_bytes = values_.max_bytes(max_entries(count));
  return shape;
}

std::size_t SparseCompressor::encode_on_device(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key,
                                               StreamRef stream) const {
  const auto identity = frame::Identity{frame::Codec::sparse, static_cast<std::uint32_t>(values_.kind())};
  const frame::OnDevice made = frame::begin_device(*this, identity, x, out, residual, stream);
  std::optional<device::SparseRule> rule = selection_->device_rule(x.count, key);
  if (!rule) fail(Errc::unsupported, "{} chooses in host memory only", spec_);
  rule->takes_zeros = values_.kind() == sparse::ValueCoding::Kind::frame;
  const auto code = [&](Tensor values, Bytes section) {
    values_.compressor().encode(values, section, {}, key, stream);
    values_.compressor().decode(section, values, Write::assign, stream);
  };
  device::sparse_encode({device_shape(x.count), *rule, x, out.data, static_cast<float*>(residual.data)}, made.start,
                        code, stream);
  return made.bytes;
}

std::size_t SparseCompressor::decode_on_device(ConstBytes in, Tensor y, Write write, StreamRef stream) const {
  const auto identity = frame::Identity{frame::Codec::sparse, static_cast<std::uint32_t>(values_.kind())};
  const frame::OnDevice found = frame::open_device(*this, identity, in, y, stream);
  const auto read = [&](ConstBytes section, Tensor values) {
    values_.compressor().decode(section, values, Write::assign, stream);
  };
  device::sparse_decode({device_shape(y.count), in.data, y, write}, found.start, read, stream);
  return found.bytes;
}

std::size_t SparseCompressor::max_entries(std::size_t count) const { return selection_->max_entries(count); }

Entries SparseCompressor::select(ConstTensor x, Entries out, const RandomKey& key) const {
  require(x.space == Space::host && is_float(x.dtype) && (x.count == 0 || x.data != nullptr),
          "{}: entries are chosen from f32, f16 or bf16 in host memory", spec_);
  require(out.count >= max_entries(x.count), "{}: room for {} entries, {} elements may give {}", spec_, out.count,
          x.count, max_entries(x.count));
  out.count = selection_->select({x, nullptr, key, spec_}, out);
  return out;
}

std::size_t SparseCompressor::encode_entries(const Entries& entries, std::size_t count, Bytes out,
                                             const RandomKey& key) const {
  const std::size_t room = max_frame_size(count, entries.count);
  bool ascend = true;
  for (std::size_t i = 1; i < entries.count; ++i) ascend &= entries.index[i] > entries.index[i - 1];
  require(entries.count == 0 || (ascend && entries.index[entries.count - 1] < count),
          "{}: the places of {} entries do not ascend below {}", spec_, entries.count, count);
  require(out.data != nullptr && out.size >= room, "{}: output has {} bytes, a frame of {} entries takes up to {}",
          spec_, out.size, entries.count, room);
  return sparse::encode_frame(entries, {count, DType::f32, selection_->block()}, values_, out, key);
}

Compressor SparseCompressor::with_values(const Compressor& values) const {
  if (values_.kind() != sparse::ValueCoding::Kind::f32)
    fail(Errc::unsupported, "{} codes its values already: {} cannot stand behind it", spec_, values.spec());
  return SparseCompressor(selection_, sparse::ValueCoding(values, spec_));
}

void SparseCompressor::add_memories(std::vector<StepMemory*>& all) const {
  if (StepMemory* const memory = selection_->memory(); memory != nullptr) all.push_back(memory);
  if (values_.kind() != sparse::ValueCoding::Kind::frame) return;
  for (StepMemory* const memory : values_.compressor().step_memories()) all.push_back(memory);
}

}  // namespace gradwire
