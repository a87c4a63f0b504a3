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
  if (space == Space::device) fail(Errc::unsupported, "storage {}: state in device memory is kept as f32", storage);
  const std::vector<float> zeros(count);
  assign(zeros.data());
}

void StateVector::read(float* y, Write write) const {
  if (space() == Space::device) {
    require(write == Write::assign, "values in device memory are read, not added");
    return device::copy_now(y, current_.data(), current_.size());
  }
  if (codec_) {
    codec_->decode(current_.bytes(), {y, count_}, write);
  } else if (write == Write::add) {
    ops::add(current(), y, count_);
  } else if (count_ > 0) {
    std::memcpy(y, current(), count_ * sizeof(float));
  }
}

std::string StateVector::stored() const {
  const char* const data = reinterpret_cast<const char*>(current_.data());
  if (space() == Space::host) return {data, current_.size()};
  std::string host(current_.size(), '\0');
  device::copy_now(host.data(), current_.data(), current_.size());
  return host;
}

void StateVector::write(const float* values, const Buffer& buffer) const {
  require(space() == Space::host, "values in device memory are prepared there, in pending_tensor()");
  if (codec_) {
    codec_->encode({values, count_}, buffer.bytes(), {}, {});
  } else if (values != floats(buffer) && count_ > 0) {
    std::memcpy(buffer.data(), values, count_ * sizeof(float));
  }
}

void StateVector::prepare(const float* values) { write(values, pending_); }
void StateVector::assign(const float* values) { write(values, current_); }

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

void StateVector::scale(float factor, float* scratch, StreamRef stream) {
  if (is_f32()) return ops::scale(current_tensor(), factor, stream);
  read(scratch);
  for (std::size_t i = 0; i < count_; ++i) scratch[i] *= factor;
  assign(scratch);
}

}  // namespace gradwire
