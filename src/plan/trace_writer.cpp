// Traces to disk: docs/trace-format.md.
#include <fcntl.h>
#include <xxhash.h>
#include <zstd.h>

#include <bit>
#include <limits>
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

constexpr int kLevel = 1;  // higher ones gain little on floats

/// The object on one line, as it is written.
std::string check_meta(std::string_view text, const std::string& path) {
  const Json json = parse_json<Json>(text, path + ": meta data of a trace");
  require(json.is_object(), "{}: the meta data of a trace are a JSON object", path);
  return dump(json, path);
}

}  // namespace

struct TraceWriter::Impl {
  struct Free {
    void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  };

  explicit Impl(const std::string& path) : file(path, O_WRONLY | O_CREAT), encoder(ZSTD_createCCtx()) {
    if (encoder == nullptr) throw std::bad_alloc();
    file.take();
  }

  /// `start`: what stands before the record.
  void write(TraceType type, std::string_view head, std::string_view payload, std::string_view start = {}) {
    require(file.is_open(), "{}: the trace is closed", file.path());
    require(head.size() <= std::numeric_limits<std::uint32_t>::max(), "{}: a head of {} bytes", file.path(),
            head.size());
    const std::size_t body = start.size() + sizeof(TraceHeader);
    record.assign(start);
    record.append(sizeof(TraceHeader), '\0');
    record.append(head);
    TraceHeader header{type, static_cast<std::uint32_t>(head.size()), 0, payload.size(), 0, 0};
    if (!payload.empty()) {
      const std::size_t before = record.size();
      record.resize(before + ZSTD_compressBound(payload.size()));
      const std::size_t size = ZSTD_compressCCtx(encoder.get(), record.data() + before, record.size() - before,
                                                 payload.data(), payload.size(), kLevel);
      if (ZSTD_isError(size) != 0) throw std::bad_alloc();  // nothing else can go wrong
      record.resize(before + size);
      header.stored = size;
    }
    header.body_sum = XXH64(record.data() + body, record.size() - body, 0);
    header.header_sum = header.sum();
    record.replace(start.size(), sizeof header, reinterpret_cast<const char*>(&header), sizeof header);
    file.write(bytes, record);
    bytes += record.size();
  }

  TraceFile file;
  std::unique_ptr<ZSTD_CCtx, Free> encoder;
  std::uint64_t bytes = 0;
  std::string record;  ///< kept, as is `planes`: what is as large as a sample is allocated once
  std::string planes;
};

TraceWriter::TraceWriter(const std::string& path, std::string_view meta) {
  const std::string head = check_meta(meta, path);
  impl_ = std::make_unique<Impl>(path);
  impl_->write(TraceType::meta, head, {}, std::string(kTraceMagic) + kTraceVersion);
}

TraceWriter::TraceWriter(TraceWriter&&) noexcept = default;
TraceWriter& TraceWriter::operator=(TraceWriter&&) noexcept = default;
TraceWriter::~TraceWriter() = default;

void TraceWriter::sample(std::uint64_t step, const LayerSample& sample, std::string_view reference) {
  check(sample);
  require(!sample.name.empty() && !reference.empty(), "{}: a sample has a name and a reference", impl_->file.path());
  const Json head{{"step", step},
                  {"name", sample.name},
                  {"count", sample.values.count},
                  {"shape", sample.shape},
                  {"reference", reference}};
  impl_->planes.resize(sample.values.bytes());
  isa::kernels<ByteSplitKernels>().split({static_cast<const std::byte*>(sample.values.data),
                                          reinterpret_cast<std::byte*>(impl_->planes.data()), sample.values.count,
                                          sizeof(float)});
  impl_->write(TraceType::sample, dump(head, impl_->file.path()), impl_->planes);
}

void TraceWriter::table(std::uint64_t step, const Table& table) {
  impl_->write(TraceType::table, Json{{"step", step}}.dump(), to_json(table));
}

void TraceWriter::close() {
  if (impl_->file.is_open()) impl_->file.close();
}

std::uint64_t TraceWriter::bytes() const noexcept { return impl_->bytes; }

}  // namespace gradwire
