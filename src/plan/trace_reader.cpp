// Traces from disk: docs/trace-format.md.
#include <fcntl.h>
#include <fmt/format.h>
#include <xxhash.h>
#include <zstd.h>

#include <bit>
#include <new>

#include "base/fail.hpp"
#include "base/parse_json.hpp"
#include "compress/byte_split.hpp"
#include "compress/isa.hpp"
#include "plan/json_object.hpp"
#include "plan/sample.hpp"
#include "plan/trace_file.hpp"

#include "gradwire/trace.hpp"

namespace gradwire {
namespace {

static_assert(std::endian::native == std::endian::little, "traces are little-endian");

/// A zstd frame has blocks of at most 128 KiB, and each that gives bytes takes 4 (RFC 8878, section 3.1.1.2).
constexpr std::uint64_t kMostOfBlock = std::uint64_t{128} << 10;
constexpr std::uint64_t kLeastBlock = 4;

}  // namespace

struct TraceReader::Impl {
  Impl(const std::string& path, Torn torn_) : file(path, O_RDONLY), torn(torn_) {}

  template <class... Args>
  void expect(bool good, fmt::format_string<Args...> format, Args&&... args) const {
    if (!good) fail(Errc::bad_state, "{}: {}", file.path(), fmt::format(format, std::forward<Args>(args)...));
  }
  /// Of the record at `place`.
  template <class... Args>
  void expect_record(bool good, fmt::format_string<Args...> format, Args&&... args) const {
    expect(good, "record at byte {}: {}", place, fmt::format(format, std::forward<Args>(args)...));
  }

  void read_start() {
    char magic[kTraceStart] = {};
    const std::size_t got = file.read(0, magic, sizeof magic);
    expect(got == sizeof magic && std::string_view(magic, kTraceMagic.size()) == kTraceMagic, "no gradwire trace");
    expect(magic[kTraceMagic.size()] == kTraceVersion, "a trace of version {}; this gradwire reads version {}",
           static_cast<unsigned char>(magic[kTraceMagic.size()]), kTraceVersion + 0);
    place = kTraceStart;
    expect(read_record() && header.type == TraceType::meta, "the trace ends before its meta data do");
    expect_record(parse_head().is_object(), "its meta data are no JSON object");
    meta = head;
    place += bytes;
  }

  /// Header, head and payload of the record at `place` into this; false at the end of the file.
  bool read_record() {
    const std::uint64_t size = file.size();
    const std::uint64_t left = size > place ? size - place : 0;
    if (left == 0) return false;
    if (left < sizeof header) return end_torn(left);
    expect_record(file.read(place, &header, sizeof header) == sizeof header, "the file shrinks");
    expect_record(header.header_sum == header.sum(), "damaged: the checksum of its header is wrong");
    const std::uint64_t room = left - sizeof header;
    if (header.head > room || header.stored > room - header.head) return end_torn(left);
    bytes = sizeof header + header.head + header.stored;
    body.resize(bytes - sizeof header);
    expect_record(file.read(place + sizeof header, body.data(), body.size()) == body.size(), "the file shrinks");
    expect_record(header.body_sum == XXH64(body.data(), body.size(), 0), "damaged: its checksum is wrong");
    head.assign(body, 0, header.head);
    return true;
  }

  bool end_torn(std::uint64_t left) {
    expect(torn == Torn::stop, "torn: {} bytes behind byte {} are no whole record", left, place);
    torn_bytes = left;
    return false;
  }

  [[nodiscard]] Json parse_head() const {
    try {
      return parse_json<Json>(head, "its head");
    } catch (const Error& error) {
      fail(Errc::bad_state, "{}: record at byte {}: {}", file.path(), place, error.what());
    }
  }

  /// The payload, whose size has been checked against the bytes there are, and what libzstd says of it.
  [[nodiscard]] std::string decompress() const {
    const char* const from = body.data() + header.head;
    expect_record(header.raw <= header.stored / kLeastBlock * kMostOfBlock &&
                      ZSTD_getFrameContentSize(from, header.stored) == header.raw,
                  "its payload is no zstd frame of {} bytes", header.raw);
    std::string raw;
    try {
      raw.resize(header.raw);
    } catch (const std::bad_alloc&) {
      expect_record(false, "no memory for the {} bytes of its payload", header.raw);
    }
    const std::size_t size = ZSTD_decompress(raw.data(), raw.size(), from, header.stored);
    expect_record(ZSTD_isError(size) == 0, "libzstd says of its payload: {}", ZSTD_getErrorName(size));
    expect_record(size == raw.size(), "its payload has {} bytes, not {}", size, raw.size());
    return raw;
  }

  [[nodiscard]] TraceSample make_sample() const {
    const Json json = parse_head();
    const JsonObject from(json, "its head");
    TraceSample sample{from.whole("step"), from.text("name"), from.wholes("shape"), {}, from.text("reference")};
    const std::uint64_t count = from.whole("count");
    expect_record(count > 0 && header.raw % sizeof(float) == 0 && count == header.raw / sizeof(float),
                  "{} elements in {} bytes", count, header.raw);
    expect_record(sample.shape.empty() || elements_of(sample.shape) == count, "its shape has not {} elements", count);
    expect_record(!sample.name.empty() && !sample.reference.empty(), "its name or its reference is empty");
    const std::string planes = decompress();
    sample.values.resize(count);
    isa::kernels<ByteSplitKernels>().merge({reinterpret_cast<const std::byte*>(planes.data()),
                                            reinterpret_cast<std::byte*>(sample.values.data()), count, sizeof(float)});
    return sample;
  }

  [[nodiscard]] TraceTable make_table() const {
    const Json json = parse_head();
    return {JsonObject(json, "its head").whole("step"), table_from_json(decompress())};
  }

  /// Nothing for a record of a type that is not known.
  [[nodiscard]] std::optional<TraceRecord> make_record() const {
    try {
      if (header.type == TraceType::sample) return make_sample();
      if (header.type == TraceType::table) return make_table();
      expect_record(header.type != TraceType::meta, "meta data that are not the first record");
      return {};
    } catch (const Error& error) {
      if (error.code() == Errc::bad_state) throw;
      fail(Errc::bad_state, "{}: record at byte {}: {}", file.path(), place, error.what());
    }
  }

  TraceFile file;
  Torn torn;
  std::uint64_t place = 0;
  TraceHeader header{};
  std::string body;
  std::string head;
  std::uint64_t bytes = 0;
  std::uint64_t torn_bytes = 0;
  std::string meta;
};

TraceReader::TraceReader(const std::string& path, Torn torn) : impl_(std::make_unique<Impl>(path, torn)) {
  impl_->read_start();
}

TraceReader::TraceReader(TraceReader&&) noexcept = default;
TraceReader& TraceReader::operator=(TraceReader&&) noexcept = default;
TraceReader::~TraceReader() = default;

const std::string& TraceReader::meta() const noexcept { return impl_->meta; }

std::optional<TraceRecord> TraceReader::next() {
  while (impl_->read_record()) {
    std::optional<TraceRecord> record = impl_->make_record();
    impl_->place += impl_->bytes;
    if (record) return record;
  }
  return {};
}

std::uint64_t TraceReader::record_bytes() const noexcept { return impl_->bytes; }

std::uint64_t TraceReader::torn_bytes() const noexcept { return impl_->torn_bytes; }

}  // namespace gradwire
