#include "compress/frame.hpp"

#include <bit>
#include <cstring>

#include "base/fail.hpp"

namespace gradwire::frame {
namespace {

constexpr std::uint8_t kMagic = 0xC7;
constexpr std::uint8_t kVersion = 1;

static_assert(std::endian::native == std::endian::little, "frames are written in the machine's byte order");

struct RawHeader {
  std::uint8_t magic;
  std::uint8_t version;
  std::uint8_t codec;
  std::uint8_t dtype;
  std::uint32_t options;
  std::uint32_t count;
  std::uint32_t blocks;
};
static_assert(sizeof(RawHeader) == kHeaderBytes);

template <class... Args>
void expect(bool condition, std::string_view spec, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) fail(Errc::bad_frame, "{}: {}", spec, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace

device::FrameStart start_of(const Header& header) noexcept {
  const RawHeader raw{kMagic,
                      kVersion,
                      static_cast<std::uint8_t>(header.codec),
                      static_cast<std::uint8_t>(header.dtype),
                      header.options,
                      header.count,
                      header.blocks};
  return std::bit_cast<device::FrameStart>(raw);
}

void write_header(std::byte* out, const Header& header) noexcept {
  const device::FrameStart start = start_of(header);
  std::memcpy(out, &start, sizeof start);
}

Header read_header(ConstBytes in, const Expected& expected) {
  const std::string_view spec = expected.spec;
  expect(in.data != nullptr && in.size >= kHeaderBytes, spec, "{} bytes are no frame: the header alone has {}", in.size,
         kHeaderBytes);
  RawHeader raw;
  std::memcpy(&raw, in.data, sizeof raw);
  expect(raw.magic == kMagic, spec, "first byte is {:#04x}, a frame starts with {:#04x}", raw.magic, kMagic);
  expect(raw.version == kVersion, spec, "frame version is {}, this build reads {}", raw.version, kVersion);
  const auto codec = static_cast<std::uint8_t>(expected.codec);
  expect(raw.codec == codec, spec, "frame is of codec {}, not {}", raw.codec, codec);
  expect(raw.options == expected.options, spec, "frame has options {:#010x}, not {:#010x}", raw.options,
         expected.options);
  expect(raw.dtype <= static_cast<std::uint8_t>(DType::bf16), spec, "frame has unknown dtype {}", raw.dtype);
  expect(raw.count == expected.count, spec, "frame holds {} elements, {} are expected", raw.count, expected.count);
  return {expected.codec, static_cast<DType>(raw.dtype), raw.options, raw.count, raw.blocks};
}

void check_size(ConstBytes in, const Header& header, std::size_t frame_bytes, std::string_view spec) {
  expect(header.blocks * kAlign == frame_bytes, spec, "frame says it has {} bytes, {} elements take {}",
         header.blocks * kAlign, header.count, frame_bytes);
  expect(in.size >= frame_bytes, spec, "frame of {} bytes is cut off after {}", frame_bytes, in.size);
}

void check_encode(ConstTensor x, Bytes out, Tensor residual, std::size_t frame_bytes, std::string_view spec) {
  if (x.space != Space::host || out.space != Space::host || (residual.data != nullptr && residual.space != Space::host))
    fail(Errc::unsupported, "{} encodes host memory; input is in {} memory, output in {}", spec, name(x.space),
         name(out.space));
  require(is_float(x.dtype), "{}: input is {}, expected f32, f16 or bf16", spec, name(x.dtype));
  require(x.count == 0 || x.data != nullptr, "{}: input of {} elements has no data", spec, x.count);
  require(out.data != nullptr && out.size >= frame_bytes, "{}: output has {} bytes, a frame of {} elements takes {}",
          spec, out.data == nullptr ? 0 : out.size, x.count, frame_bytes);
  if (residual.data == nullptr) return;
  require(residual.dtype == DType::f32, "{}: residual is {}, it must be f32", spec, name(residual.dtype));
  require(residual.count == x.count, "{}: residual has {} elements, input has {}", spec, residual.count, x.count);
}

void check_decode(ConstBytes in, Tensor y, std::string_view spec) {
  if (in.space != Space::host || y.space != Space::host)
    fail(Errc::unsupported, "{} decodes host memory; frame is in {} memory, output in {}", spec, name(in.space),
         name(y.space));
  require(is_float(y.dtype), "{}: output is {}, expected f32, f16 or bf16", spec, name(y.dtype));
  require(y.count == 0 || y.data != nullptr, "{}: output of {} elements has no data", spec, y.count);
}

void check_host(StreamRef stream, std::string_view spec) {
  if (!stream.is_host()) fail(Errc::unsupported, "{} runs on the host stream only", spec);
}

void check_count(std::size_t count, std::string_view spec) {
  require(count <= kMaxCount, "{}: {} elements do not fit one frame; the most is {}", spec, count, kMaxCount);
}

namespace {

template <class Memory>
bool is_on_device(const Memory& memory) {
  return memory.data == nullptr || memory.space == Space::device;
}

/// Kernels read and write whole elements, and frames by words.
void require_aligned(const void* data, std::size_t alignment, std::string_view what, std::string_view spec) {
  require(reinterpret_cast<std::uintptr_t>(data) % alignment == 0,
          "{}: {} is at {}, which is no multiple of {} bytes: device memory is read by whole elements", spec, what,
          data, alignment);
}

void check_device_tensor(const void* data, std::size_t count, DType dtype, std::string_view what,
                         std::string_view spec) {
  require(is_float(dtype), "{}: {} is {}, expected f32, f16 or bf16", spec, what, name(dtype));
  require(count == 0 || data != nullptr, "{}: {} of {} elements has no data", spec, what, count);
  require_aligned(data, size_of(dtype), what, spec);
}

}  // namespace

void check_device_encode(ConstTensor x, Bytes out, Tensor residual, std::size_t frame_bytes, std::string_view spec,
                         StreamRef stream) {
  if (!is_on_device(x) || !is_on_device(out) || !is_on_device(residual))
    fail(Errc::unsupported, "{} encodes device memory into device memory; input is in {} memory, output in {}{}", spec,
         name(x.space), name(out.space), is_on_device(residual) ? "" : ", residual in host memory");
  require(!stream.is_host(), "{}: device memory needs a stream of the device, not the host's", spec);
  check_device_tensor(x.data, x.count, x.dtype, "input", spec);
  require(out.data != nullptr && out.size >= frame_bytes, "{}: output has {} bytes, a frame of {} elements takes {}",
          spec, out.data == nullptr ? 0 : out.size, x.count, frame_bytes);
  require_aligned(out.data, kAlign, "output", spec);
  if (residual.data == nullptr) return;
  require(residual.dtype == DType::f32, "{}: residual is {}, it must be f32", spec, name(residual.dtype));
  require(residual.count == x.count, "{}: residual has {} elements, input has {}", spec, residual.count, x.count);
  require_aligned(residual.data, sizeof(float), "residual", spec);
}

void check_device_decode(ConstBytes in, Tensor y, std::size_t frame_bytes, std::string_view spec, StreamRef stream) {
  if (!is_on_device(in) || !is_on_device(y))
    fail(Errc::unsupported, "{} decodes device memory into device memory; frame is in {} memory, output in {}", spec,
         name(in.space), name(y.space));
  require(!stream.is_host(), "{}: device memory needs a stream of the device, not the host's", spec);
  check_device_tensor(y.data, y.count, y.dtype, "output", spec);
  expect(in.data != nullptr && in.size == frame_bytes, spec, "{} bytes of device memory, a frame of {} elements has {}",
         in.size, y.count, frame_bytes);
  require_aligned(in.data, kAlign, "frame", spec);
}

OnDevice device_frame(const Identity& identity, std::size_t count, DType dtype, std::size_t bytes) noexcept {
  const Header header{identity.codec, dtype, identity.options, static_cast<std::uint32_t>(count),
                      static_cast<std::uint32_t>(bytes / kAlign)};
  return {start_of(header), bytes};
}

}  // namespace gradwire::frame
