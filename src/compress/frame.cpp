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

void write_header(std::byte* out, const Header& header) noexcept {
  const RawHeader raw{kMagic,
                      kVersion,
                      static_cast<std::uint8_t>(header.codec),
                      static_cast<std::uint8_t>(header.dtype),
                      header.options,
                      header.count,
                      header.blocks};
  std::memcpy(out, &raw, sizeof raw);
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

}  // namespace gradwire::frame
