#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "compress/device/frame_start.hpp"

#include "gradwire/types.hpp"

namespace gradwire::frame {

inline constexpr std::size_t kAlign = 16;
inline constexpr std::size_t kHeaderBytes = 16;
/// The count field has 32 bits.
inline constexpr std::size_t kMaxCount = 0xffff'ffff;

/// docs/wire-format.md section 1. The values are pinned.
enum class Codec : std::uint8_t {
  none = 1,
  f16 = 2,
  bf16 = 3,
  quantize = 4,
  ternary = 5,
  natural = 6,
  levels = 7,
  minifloat = 8,
  rotate = 9,
  thc = 10,
  sparse = 11,
  zstd = 12,
};

struct Header {
  Codec codec{};
  DType dtype{};
  std::uint32_t options = 0;
  std::uint32_t count = 0;
  std::uint32_t blocks = 0;  ///< frame size in units of kAlign, header included
};

[[nodiscard]] constexpr std::size_t align_up(std::size_t bytes) noexcept {
  return (bytes + kAlign - 1) / kAlign * kAlign;
}

/// The 16 header bytes, as words of the machine's order.
[[nodiscard]] device::FrameStart start_of(const Header& header) noexcept;
/// Writes the 16 header bytes.
void write_header(std::byte* out, const Header& header) noexcept;

/// What a reader takes for its own.
struct Expected {
  Codec codec{};
  std::uint32_t options = 0;
  std::size_t count = 0;
  std::string_view spec;  ///< names the reader in messages
};

/// Reads a header and checks all of it but its size, which depends on the dtype found: check_size does that.
/// Throws Errc::bad_frame.
[[nodiscard]] Header read_header(ConstBytes in, const Expected& expected);

/// Throws Errc::bad_frame unless the header's size is `frame_bytes` and `in` holds that much.
void check_size(ConstBytes in, const Header& header, std::size_t frame_bytes, std::string_view spec);

/// What every host codec asks of the arguments of encode and decode.
/// Throws Errc::unsupported for device memory or a device stream, Errc::invalid_argument for what does not fit.
void check_encode(ConstTensor x, Bytes out, Tensor residual, std::size_t frame_bytes, std::string_view spec);
void check_decode(ConstBytes in, Tensor y, std::string_view spec);
void check_host(StreamRef stream, std::string_view spec);
/// Throws Errc::invalid_argument when a frame cannot carry `count` elements.
void check_count(std::size_t count, std::string_view spec);

/// What tells the frames of one compressor from others'.
struct Identity {
  Codec codec{};
  std::uint32_t options = 0;
};

/// The start of encode() where a frame has max_frame_size() bytes whatever the data: checks the arguments and writes
/// the header. Returns the frame's size.
template <class C>
std::size_t begin_fixed(const C& compressor, const Identity& identity, ConstTensor x, Bytes out, Tensor residual,
                        StreamRef stream) {
  check_host(stream, compressor.spec());
  const std::size_t bytes = compressor.max_frame_size(x.count, x.dtype);
  check_encode(x, out, residual, bytes, compressor.spec());
  write_header(out.data, {identity.codec, x.dtype, identity.options, static_cast<std::uint32_t>(x.count),
                          static_cast<std::uint32_t>(bytes / kAlign)});
  return bytes;
}

struct Opened {
  DType dtype{};  ///< of what was encoded
  std::size_t bytes = 0;
};

/// The start of decode() of such a frame: checks the arguments and the header.
template <class C>
Opened open_fixed(const C& compressor, const Identity& identity, ConstBytes in, Tensor y, StreamRef stream) {
  check_host(stream, compressor.spec());
  check_decode(in, y, compressor.spec());
  const Header header = read_header(in, {identity.codec, identity.options, y.count, compressor.spec()});
  const std::size_t bytes = compressor.max_frame_size(y.count, header.dtype);
  check_size(in, header, bytes, compressor.spec());
  return {header.dtype, bytes};
}

/// What codecs ask of the arguments of encode and decode on device memory: all of it there, at multiples of its
/// elements, frames at multiples of 16 bytes, a stream of the device; to decode, `in` is one frame and nothing more, as
/// its size cannot be read from it. Throw as their counterparts for the host.
void check_device_encode(ConstTensor x, Bytes out, Tensor residual, std::size_t frame_bytes, std::string_view spec,
                         StreamRef stream);
void check_device_decode(ConstBytes in, Tensor y, std::size_t frame_bytes, std::string_view spec, StreamRef stream);

/// A frame in device memory, whose first bytes are the kernel's to write or to look for.
struct OnDevice {
  device::FrameStart start;
  std::size_t bytes = 0;
};
[[nodiscard]] OnDevice device_frame(const Identity& identity, std::size_t count, DType dtype,
                                    std::size_t bytes) noexcept;

/// begin_fixed() and open_fixed() on device memory.
template <class C>
OnDevice begin_device(const C& compressor, const Identity& identity, ConstTensor x, Bytes out, Tensor residual,
                      StreamRef stream) {
  const std::size_t bytes = compressor.max_frame_size(x.count, x.dtype);
  check_device_encode(x, out, residual, bytes, compressor.spec(), stream);
  return device_frame(identity, x.count, x.dtype, bytes);
}
template <class C>
OnDevice open_device(const C& compressor, const Identity& identity, ConstBytes in, Tensor y, StreamRef stream) {
  const std::size_t bytes = compressor.max_frame_size(y.count, y.dtype);
  check_device_decode(in, y, bytes, compressor.spec(), stream);
  return device_frame(identity, y.count, y.dtype, bytes);
}

}  // namespace gradwire::frame
