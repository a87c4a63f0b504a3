#include "compress/zstd.hpp"

#include <fmt/format.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "base/fail.hpp"
#include "compress/byte_split.hpp"
#include "compress/frame.hpp"
#include "compress/isa.hpp"

namespace gradwire {
namespace {

/// What follows the frame's header; docs/wire-format.md section 1.12.
struct Stored {
  std::uint64_t bytes;
  std::uint32_t inner_blocks;
  std::uint32_t width;  ///< 0: the inner frame as it is; 1, 2, 4: compressed, its words of so many bytes split
};
constexpr std::size_t kOverhead = frame::kHeaderBytes + sizeof(Stored);
static_assert(kOverhead % frame::kAlign == 0);

/// The common header of all frames.
constexpr std::size_t kCodecAt = 2;
constexpr std::size_t kDTypeAt = 3;
constexpr std::size_t kBlocksAt = 12;

template <class... Args>
void expect(bool condition, std::string_view spec, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) fail(Errc::bad_frame, "{}: {}", spec, fmt::format(format, std::forward<Args>(args)...));
}

/// One thread's libzstd contexts, and the buffer that Scratch lends.
struct Workshop {
  struct Free {
    void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  struct Buffer {
    std::unique_ptr<std::byte[]> data;
    std::size_t size = 0;
  };

  static Workshop& mine() {
    thread_local Workshop workshop;
    return workshop;
  }

  std::unique_ptr<ZSTD_CCtx, Free> encoder{ZSTD_createCCtx()};
  std::unique_ptr<ZSTD_DCtx, Free> decoder{ZSTD_createDCtx()};
  Buffer spare;
};

/// At least so many bytes for a scope. Scopes may nest: a compressor may hold another that ends in zstd.
class Scratch {
 public:
  explicit Scratch(std::size_t bytes) : buffer_(std::exchange(Workshop::mine().spare, {})) {
    if (buffer_.size >= bytes) return;
    buffer_.data.reset();
    buffer_ = {std::unique_ptr<std::byte[]>(new std::byte[bytes]), bytes};
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    Workshop::Buffer& spare = Workshop::mine().spare;
    if (buffer_.size > spare.size) spare = std::move(buffer_);
  }
  [[nodiscard]] std::byte* data() const { return buffer_.data.get(); }

 private:
  Workshop::Buffer buffer_;
};

/// The size of what is written, or 0 where that would take more than `to` has room for.
std::size_t compress_bytes(ConstBytes from, Bytes to, std::uint32_t level) {
  ZSTD_CCtx* const encoder = Workshop::mine().encoder.get();
  if (encoder == nullptr) throw std::bad_alloc();
  ZSTD_CCtx_setParameter(encoder, ZSTD_c_compressionLevel, static_cast<int>(level));
  ZSTD_CCtx_setParameter(encoder, ZSTD_c_checksumFlag, 1);
  const std::size_t size = ZSTD_compress2(encoder, to.data, to.size, from.data, from.size);
  if (ZSTD_isError(size) == 0) return size;
  if (ZSTD_getErrorCode(size) == ZSTD_error_dstSize_tooSmall) return 0;
  throw std::bad_alloc();  // nothing else can go wrong with a valid level
}

/// Bytes of the words that a frame's payload consists of; 1 where there are no floats.
std::uint32_t word_bytes(const std::byte* inner_frame) {
  switch (static_cast<frame::Codec>(inner_frame[kCodecAt])) {
    case frame::Codec::none: return static_cast<std::uint32_t>(size_of(static_cast<DType>(inner_frame[kDTypeAt])));
    case frame::Codec::f16:
    case frame::Codec::bf16: return 2;
    default: return 1;
  }
}

kernels::ByteSplit split_job(const std::byte* from, std::byte* to, std::size_t bytes, std::uint32_t width) {
  return {from, to, bytes / width, width};
}

/// Each of `planes` equal parts on its own, one behind the other: bytes of one plane are coded by their own statistics,
/// however few they are. 0 where they do not fit.
std::size_t compress_planes(ConstBytes from, Bytes to, std::size_t planes, std::uint32_t level) {
  const std::size_t plane_bytes = from.size / planes;
  std::size_t written = 0;
  for (std::size_t plane = 0; plane < planes; ++plane) {
    const std::size_t size =
        compress_bytes(from.slice(plane * plane_bytes, plane_bytes), to.slice(written, to.size - written), level);
    if (size == 0) return 0;
    written += size;
  }
  return written;
}

/// Compresses the inner frame of `bytes` bytes at `at` where it lies, and says what is there now.
Stored compress(std::byte* at, std::size_t bytes, const ZstdCompressor::Options& options) {
  const auto inner_blocks = static_cast<std::uint32_t>(bytes / frame::kAlign);
  const std::size_t room = bytes - frame::kAlign;  // more would not save a block
  const std::uint32_t width = options.split ? word_bytes(at) : 1;
  const Scratch scratch(bytes);
  if (width == 1) {
    const std::size_t size = compress_bytes({at, bytes}, {scratch.data(), room}, options.level);
    std::memcpy(at, scratch.data(), size);
    return size == 0 ? Stored{bytes, inner_blocks, 0} : Stored{size, inner_blocks, width};
  }
  const auto& kernels = isa::kernels<ByteSplitKernels>();
  kernels.split(split_job(at, scratch.data(), bytes, width));
  if (const std::size_t size = compress_planes({scratch.data(), bytes}, {at, room}, width, options.level); size != 0)
    return {size, inner_blocks, width};
  kernels.merge(split_job(scratch.data(), at, bytes, width));
  return {bytes, inner_blocks, 0};
}

std::uint32_t options_field(const ZstdCompressor::Options& options) {
  return options.level | static_cast<std::uint32_t>(options.split) << 8;
}

/// Finishes a frame whose inner frame, of `inner_bytes` bytes, lies behind room for the headers. Returns its size.
std::size_t finish_frame(std::byte* out, std::size_t inner_bytes, std::size_t count,
                         const ZstdCompressor::Options& options) {
  std::byte* const inner = out + kOverhead;
  const auto dtype = static_cast<DType>(inner[kDTypeAt]);
  const Stored stored = compress(inner, inner_bytes, options);
  const std::size_t padded = frame::align_up(stored.bytes);
  std::memset(inner + stored.bytes, 0, padded - stored.bytes);
  const std::size_t frame_bytes = kOverhead + padded;
  frame::write_header(out, {frame::Codec::zstd, dtype, options_field(options), static_cast<std::uint32_t>(count),
                            static_cast<std::uint32_t>(frame_bytes / frame::kAlign)});
  std::memcpy(out + frame::kHeaderBytes, &stored, sizeof stored);
  return frame_bytes;
}

/// Reads `stored`, which follows a header that has been checked, and checks it; `most` is the largest inner frame.
Stored read_stored(ConstBytes in, std::size_t most, std::string_view spec) {
  expect(in.size >= kOverhead, spec, "frame is cut off after {} bytes", in.size);
  Stored stored;
  std::memcpy(&stored, in.data + frame::kHeaderBytes, sizeof stored);
  const std::size_t inner_bytes = std::size_t{stored.inner_blocks} * frame::kAlign;
  expect(inner_bytes >= frame::kHeaderBytes && inner_bytes <= most, spec,
         "inner frame is to have {} bytes; the most is {}", inner_bytes, most);
  const bool known = stored.width == 0 || stored.width == 1 || stored.width == 2 || stored.width == 4;
  expect(known, spec, "payload is split by words of {} bytes, which this build does not know", stored.width);
  expect(stored.width == 0 ? stored.bytes == inner_bytes : stored.bytes < inner_bytes, spec,
         "payload of {} bytes for an inner frame of {}", stored.bytes, inner_bytes);
  return stored;
}

/// The inner frame out of a payload that was compressed, in `scratch`, which has room for it twice.
ConstBytes decompress(const std::byte* payload, const Stored& stored, std::byte* scratch, std::string_view spec) {
  const std::size_t inner_bytes = std::size_t{stored.inner_blocks} * frame::kAlign;
  ZSTD_DCtx* const decoder = Workshop::mine().decoder.get();
  if (decoder == nullptr) throw std::bad_alloc();
  const std::size_t size = ZSTD_decompressDCtx(decoder, scratch, inner_bytes, payload, stored.bytes);
  expect(ZSTD_isError(size) == 0, spec, "libzstd says of the payload: {}", ZSTD_getErrorName(size));
  expect(size == inner_bytes, spec, "payload has {} bytes, it should have {}", size, inner_bytes);
  if (stored.width == 1) return {scratch, inner_bytes};
  isa::kernels<ByteSplitKernels>().merge(split_job(scratch, scratch + inner_bytes, inner_bytes, stored.width));
  return {scratch + inner_bytes, inner_bytes};
}

/// The largest inner frame that any encoder writes: a sparsifier's frames may hold more than it chooses itself, such as
/// sums of several ranks' choices.
std::size_t most_inner_bytes(const Compressor& inner, std::size_t count, DType dtype) {
  const std::size_t most = inner.max_frame_size(count, dtype);
  const Sparsifier* const sparsifier = inner.sparsifier();
  return sparsifier == nullptr ? most : std::max(most, sparsifier->max_frame_size(count, count));
}

/// Throws Errc::bad_frame unless an inner frame says of itself what the frame around it does.
void check_inner(ConstBytes inner, DType dtype, std::string_view spec) {
  std::uint32_t blocks = 0;
  std::memcpy(&blocks, inner.data + kBlocksAt, sizeof blocks);
  expect(blocks == inner.size / frame::kAlign && inner.data[kDTypeAt] == static_cast<std::byte>(dtype), spec,
         "inner frame is not the one announced");
}

/// A sparsifier's frames, compressed.
class ZstdSparsifier final : public Sparsifier {
 public:
  ZstdSparsifier(Compressor inner, const ZstdCompressor::Options& options)
      : inner_(std::move(inner)), options_(options) {}

  [[nodiscard]] std::size_t max_entries(std::size_t count) const override { return facet().max_entries(count); }
  [[nodiscard]] Entries select(ConstTensor x, Entries out, const RandomKey& key) const override {
    return facet().select(x, out, key);
  }
  [[nodiscard]] std::size_t max_frame_size(std::size_t count, std::size_t entries) const override {
    return kOverhead + facet().max_frame_size(count, entries);
  }
  std::size_t encode_entries(const Entries& entries, std::size_t count, Bytes out,
                             const RandomKey& key) const override {
    const std::size_t most = max_frame_size(count, entries.count);
    require(out.data != nullptr && out.size >= most, "{}|zstd: output has {} bytes, a frame of {} entries takes {}",
            inner_.spec(), out.data == nullptr ? 0 : out.size, entries.count, most);
    const std::size_t inner_bytes =
        facet().encode_entries(entries, count, out.slice(kOverhead, out.size - kOverhead), key);
    return finish_frame(out.data, inner_bytes, count, options_);
  }
  [[nodiscard]] Compressor with_values(const Compressor& values) const override {
    return ZstdCompressor(facet().with_values(values), options_);
  }

 private:
  [[nodiscard]] const Sparsifier& facet() const { return *inner_.sparsifier(); }

  Compressor inner_;
  ZstdCompressor::Options options_;
};

}  // namespace

static_assert(CompressorImpl<ZstdCompressor>);

ZstdCompressor::ZstdCompressor(Compressor inner, const Options& options)
    : inner_(std::move(inner)),
      options_(options),
      spec_(fmt::format("{}|zstd(level={},split={})", inner_.spec(), options.level, options.split ? "bytes" : "none")) {
  if (inner_.sparsifier() != nullptr) sparsifier_ = std::make_shared<ZstdSparsifier>(inner_, options_);
}

CompressorTraits ZstdCompressor::traits() const noexcept {
  CompressorTraits traits = inner_.traits();
  traits.on_device = false;
  traits.fixed_size = false;
  return traits;
}

std::size_t ZstdCompressor::max_frame_size(std::size_t count, DType dtype) const {
  return kOverhead + inner_.max_frame_size(count, dtype);
}

std::size_t ZstdCompressor::encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key,
                                   StreamRef stream) const {
  frame::check_host(stream, spec_);
  frame::check_encode(x, out, residual, max_frame_size(x.count, x.dtype), spec_);
  const std::size_t inner_bytes = inner_.encode(x, out.slice(kOverhead, out.size - kOverhead), residual, key, stream);
  return finish_frame(out.data, inner_bytes, x.count, options_);
}

std::size_t ZstdCompressor::decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const {
  frame::check_host(stream, spec_);
  frame::check_decode(in, y, spec_);
  const frame::Header header = frame::read_header(in, {frame::Codec::zstd, options_field(options_), y.count, spec_});
  const Stored stored = read_stored(in, most_inner_bytes(inner_, y.count, header.dtype), spec_);
  const std::size_t frame_bytes = kOverhead + frame::align_up(stored.bytes);
  frame::check_size(in, header, frame_bytes, spec_);
  const std::size_t inner_bytes = std::size_t{stored.inner_blocks} * frame::kAlign;
  if (stored.width == 0) {
    const ConstBytes inner = in.slice(kOverhead, inner_bytes);
    check_inner(inner, header.dtype, spec_);
    inner_.decode(inner, y, write, stream);
    return frame_bytes;
  }
  const Scratch scratch(stored.width == 1 ? inner_bytes : 2 * inner_bytes);
  const ConstBytes inner = decompress(in.data + kOverhead, stored, scratch.data(), spec_);
  check_inner(inner, header.dtype, spec_);
  inner_.decode(inner, y, write, stream);
  return frame_bytes;
}

Compressor make_zstd(const Spec& spec, const Compressor& inner) {
  ZstdCompressor::Options options;
  OptionReader reader(spec, {"level"});
  options.level = reader.number("level", options.level, 1, 19);
  options.split = reader.choice("split", 0, {"bytes", "none"}) == 0;
  reader.finish();
  require(inner.low_rank() == nullptr, "compressor \"{}\" cannot stand behind {}, which makes no frames", spec.text,
          inner.spec());
  return ZstdCompressor(inner, options);
}

}  // namespace gradwire
