#include <cstring>

#include "base/device.hpp"
#include "base/fail.hpp"
#include "compress/vector_ops.hpp"

#include "gradwire/feedback.hpp"

namespace gradwire {
namespace {

std::unique_ptr<const Compressor> make_codec(std::string_view storage) {
  if (storage == "f32") return nullptr;
  auto codec = std::make_unique<const Compressor>(make_compressor(storage));
  const bool plain = codec->low_rank() == nullptr && codec->sparsifier() == nullptr && codec->traits().fixed_size;
  require(plain,
          "storage \"{}\": state can be kept as f32, f16, bf16 or what a quantiser with frames of fixed size gives",
          storage);
  return codec;
}

std::size_t bytes_of(std::size_t count, const Compressor* codec) {
  return codec == nullptr ? count * sizeof(float) : codec->max_frame_size(count, DType::f32);
}

}  // namespace

StateVector::StateVector(std::size_t count, std::string_view storage, Space space)
    : count_(count),
      codec_(make_codec(storage)),
      current_(bytes_of(count, codec_.get()), space),
      pending_(bytes_of(count, codec_.get()), space) {
  current_.fill_zero();
  pending_.fill_zero();
  if (is_f32()) return;
  if (space == Space::device) {
    if (!codec_->traits().on_device)
      fail(Errc::unsupported, "storage {}: its values can be kept in host memory only", storage);
    codec_->check_device(count);
  }
  restore(zeros());
}

/// As they are stored.
std::string StateVector::zeros() const {
  std::string frame(current_.size(), '\0');
  const std::vector<float> values(count_);
  (void)codec_->encode({values.data(), count_}, {reinterpret_cast<std::byte*>(frame.data()), frame.size()}, {}, {});
  return frame;
}

void StateVector::read(Tensor y, Write write, StreamRef stream) const {
  require(y.count == count_ && y.dtype == DType::f32 && y.space == space(), "{} values in {} memory, read as {}[{}]",
          count_, name(space()), name(y.dtype), y.count);
  if (codec_) {
    codec_->decode(current_.bytes(), y, write, stream);
  } else if (write == Write::add) {
    ops::add(current_tensor(), y, stream);
  } else {
    ops::copy(current_tensor(), y, stream);
  }
}

void StateVector::read(float* y) const {
  if (space() == Space::host) return read({y, count_}, Write::assign);
  if (!codec_) return device::copy_now(y, current_.data(), current_.size());
  const std::string frame = stored();
  codec_->decode({reinterpret_cast<const std::byte*>(frame.data()), frame.size()}, {y, count_}, Write::assign);
}

std::string StateVector::stored() const {
  const char* const data = reinterpret_cast<const char*>(current_.data());
  if (space() == Space::host) return {data, current_.size()};
  std::string host(current_.size(), '\0');
  device::copy_now(host.data(), current_.data(), current_.size());
  return host;
}

void StateVector::write(ConstTensor values, const Buffer& buffer, StreamRef stream) const {
  require(values.count == count_ && values.dtype == DType::f32 && values.space == space(),
          "{} values in {} memory, given {}[{}] in {} memory", count_, name(space()), name(values.dtype), values.count,
          name(values.space));
  if (codec_) {
    codec_->encode(values, buffer.bytes(), {}, {}, stream);
  } else if (values.data != floats(buffer)) {
    ops::copy(values, buffer.tensor(count_), stream);
  }
}

void StateVector::prepare(ConstTensor values, StreamRef stream) { write(values, pending_, stream); }
void StateVector::assign(ConstTensor values, StreamRef stream) { write(values, current_, stream); }

void StateVector::restore(std::string_view stored) {
  const Bytes place = current_.bytes();
  if (stored.size() != place.size) {
    fail(Errc::bad_state, "{} bytes are no {} values as {}", stored.size(), count_, storage());
  }
  if (codec_) {
    std::vector<float> values(count_);
    try {
      codec_->decode({reinterpret_cast<const std::byte*>(stored.data()), stored.size()}, {values.data(), count_},
                     Write::assign);
    } catch (const Error& error) {
      fail(Errc::bad_state, "stored as {}: {}", storage(), error.what());
    }
  }
  if (space() == Space::device) return device::copy_now(place.data, stored.data(), stored.size());
  if (!stored.empty()) std::memcpy(place.data, stored.data(), stored.size());
}

void StateVector::scale(float factor, Tensor scratch, StreamRef stream) {
  if (is_f32()) return ops::scale(current_tensor(), factor, stream);
  const Tensor values = scratch.slice(0, count_);
  read(values, Write::assign, stream);
  ops::scale(values, factor, stream);
  assign(values, stream);
}

}  // namespace gradwire
