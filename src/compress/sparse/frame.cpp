#include "compress/sparse/frame.hpp"

#include <algorithm>
#include <cstring>

#include "base/fail.hpp"
#include "base/half.hpp"
#include "compress/frame.hpp"
#include "compress/isa.hpp"
#include "compress/kernels.hpp"
#include "compress/sparse/index_coding.hpp"
#include "compress/sparse/layout.hpp"
#include "compress/sparse/selection.hpp"

namespace gradwire::sparse {
namespace {

/// Whether the entries are whole blocks; the tensor's last may be short.
bool fill_blocks(const Entries& entries, const FrameShape& shape) {
  for (std::size_t i = 0; i < entries.count;) {
    const std::size_t first = entries.index[i];
    const std::size_t size = std::min(shape.block, shape.count - first);
    if (first % shape.block != 0 || entries.count - i < size) return false;
    bool whole = true;
    for (std::size_t j = 0; j < size; ++j) whole &= entries.index[i + j] == first + j;
    if (!whole) return false;
    i += size;
  }
  return true;
}

/// Turns the places of the first entries of blocks into places of blocks, in place; returns how many.
std::size_t to_blocks(const Entries& entries, std::size_t block) {
  std::size_t blocks = 0;
  for (std::size_t i = 0; i < entries.count; i += block)
    entries.index[blocks++] = static_cast<std::uint32_t>(entries.index[i] / block);
  return blocks;
}

void from_blocks(const Entries& entries, std::size_t blocks, std::size_t block) {
  for (std::size_t b = blocks; b-- != 0;) {
    const std::size_t first = entries.index[b] * block;
    const std::size_t end = std::min((b + 1) * block, entries.count);
    for (std::size_t i = b * block; i < end; ++i) entries.index[i] = static_cast<std::uint32_t>(first + i - b * block);
  }
}

/// The parts of a frame before its values, which have been checked.
struct Parsed {
  IndexSection index;
  const std::uint32_t* places = nullptr;  ///< null: all there are
  std::size_t block = 0;
  std::size_t entries = 0;
  std::size_t frame_bytes = 0;
};

/// Reads everything before the values, the places included.
Parsed parse(ConstBytes in, const frame::Expected& expected) {
  const frame::Header header = frame::read_header(in, expected);
  const std::string_view spec = expected.spec;
  Parsed parsed;
  parsed.frame_bytes = std::size_t{header.blocks} * frame::kAlign;
  if (in.size < parsed.frame_bytes || parsed.frame_bytes < kHeadBytes)
    fail(Errc::bad_frame, "{}: frame of {} bytes is cut off after {}", spec, parsed.frame_bytes, in.size);
  SubHeader sub;
  std::memcpy(&sub, in.data + frame::kHeaderBytes, sizeof sub);
  const std::size_t index_bytes = std::size_t{sub.index_rows} * frame::kAlign;
  if (sub.block_32nds > 8 || sub.zero != 0 || sub.zero_too != 0 || index_bytes > parsed.frame_bytes - kHeadBytes)
    fail(Errc::bad_frame, "{}: frame has a corrupt second header", spec);
  parsed.block = sub.block_32nds * kBlockStep;
  parsed.index = {{sub.coding, sub.rice_bits, index_bytes},
                  in.data + kHeadBytes,
                  sub.chosen,
                  units_of(expected.count, parsed.block),
                  spec};
  check_index_section(parsed.index);
  const std::size_t n = parsed.index.count;
  if (sub.coding == IndexCoding::all) {
    parsed.entries = expected.count;
    return parsed;
  }
  std::uint32_t* const places = word_scratch(parsed.index.units);
  read_places(parsed.index, places);
  parsed.places = places;
  parsed.entries = entries_of(expected.count, parsed.block, n, n == 0 ? 0 : places[n - 1]);
  return parsed;
}

/// y gets the entries of a frame that is known to be sound.
class Scatter {
 public:
  Scatter(const Parsed& parsed, const ValueReader& values, Tensor y, Write write)
      : parsed_(parsed), values_(values), y_(y), write_(write) {}

  void run() {
    if (write_ == Write::assign && parsed_.entries != y_.count) std::memset(y_.data, 0, y_.bytes());
    if (parsed_.places == nullptr) return put_run(0, y_.count);
    const std::size_t n = parsed_.index.count;
    if (parsed_.block == 0) {
      for (std::size_t i = 0; i < n; i += kBatch) put_entries(parsed_.places + i, std::min(kBatch, n - i));
    } else {
      for (std::size_t i = 0; i < n; ++i) {
        const std::size_t first = parsed_.places[i] * parsed_.block;
        put_run(first, std::min(parsed_.block, y_.count - first));
      }
    }
  }

 private:
  static constexpr std::size_t kBatch = 1024;

  void put_entries(const std::uint32_t* places, std::size_t n) {
    float scratch[kBatch];
    const float* const values = values_.read(done_, n, scratch);
    done_ += n;
    if (y_.dtype == DType::f32) {
      auto* const y = static_cast<std::byte*>(y_.data);
      for (std::size_t i = 0; i < n; ++i) {
        float value = values[i];
        if (write_ == Write::add) value += load_f32(y, DType::f32, places[i]);
        store_f32(y, DType::f32, places[i], value);
      }
      return;
    }
    for (std::size_t i = 0; i < n; ++i) {
      const float value = write_ == Write::add ? load_f32(y_.data, y_.dtype, places[i]) + values[i] : values[i];
      store_f32(y_.data, y_.dtype, places[i], saturate(value, y_.dtype));
    }
  }

  /// The next values, to elements that follow each other.
  void put_run(std::size_t first, std::size_t size) {
    const auto& kernels = isa::kernels<ElementKernels>();
    float scratch[kBatch];
    for (const std::size_t end = first + size; first != end;) {
      const std::size_t n = std::min(kBatch, end - first);
      const float* const values = values_.read(done_, n, scratch);
      kernels.cast_decode({reinterpret_cast<const std::byte*>(values), DType::f32, y_.slice(first, n), write_});
      done_ += n;
      first += n;
    }
  }

  const Parsed& parsed_;
  const ValueReader& values_;
  const Tensor y_;
  const Write write_;
  std::size_t done_ = 0;
};

}  // namespace

std::size_t max_frame_bytes(std::size_t count, std::size_t entries, const ValueCoding& values) {
  entries = std::min(entries, count);
  return kHeadBytes + max_index_bytes(entries, count) + values.max_bytes(entries);
}

std::size_t encode_frame(const Entries& entries, const FrameShape& shape, const ValueCoding& values, Bytes out,
                         const RandomKey& key) {
  const bool blocks = shape.block != 0 && entries.count != 0 && fill_blocks(entries, shape);
  const std::size_t block = blocks ? shape.block : 0;
  const std::size_t chosen = blocks ? to_blocks(entries, block) : entries.count;
  const Places places{entries.index, chosen, units_of(shape.count, block)};
  const bool seeded = shape.seed != nullptr && chosen != 0;
  const IndexPlan plan = seeded        ? IndexPlan{IndexCoding::seeded, 0, kSeededBytes}
                         : shape.fixed ? plan_fixed(places.count, places.units)
                                       : plan_indices(places);
  std::byte* const index = out.data + kHeadBytes;
  if (seeded) {
    write_seed(*shape.seed, index);
  } else {
    write_indices(plan, places, index);
  }
  if (blocks) from_blocks(entries, chosen, block);
  const std::size_t before = kHeadBytes + plan.bytes;
  const std::size_t frame_bytes =
      before + values.encode(entries.value, entries.count, out.slice(before, out.size - before), key);
  frame::write_header(
      out.data, {frame::Codec::sparse, shape.dtype, static_cast<std::uint32_t>(values.kind()),
                 static_cast<std::uint32_t>(shape.count), static_cast<std::uint32_t>(frame_bytes / frame::kAlign)});
  const SubHeader sub{static_cast<std::uint32_t>(chosen),
                      plan.coding,
                      static_cast<std::uint8_t>(plan.rice_bits),
                      static_cast<std::uint8_t>(block / kBlockStep),
                      0,
                      static_cast<std::uint32_t>(plan.bytes / frame::kAlign),
                      0};
  std::memcpy(out.data + frame::kHeaderBytes, &sub, sizeof sub);
  return frame_bytes;
}

std::size_t decode_frame(ConstBytes in, Tensor y, Write write, const ValueCoding& values, std::string_view spec) {
  const Parsed parsed = parse(in, {frame::Codec::sparse, static_cast<std::uint32_t>(values.kind()), y.count, spec});
  const std::size_t before = kHeadBytes + parsed.index.plan.bytes;
  const ValueReader reader(values, parsed.entries, in.slice(before, parsed.frame_bytes - before), spec);
  if (before + reader.bytes() != parsed.frame_bytes)
    fail(Errc::bad_frame, "{}: frame says it has {} bytes, its parts take {}", spec, parsed.frame_bytes,
         before + reader.bytes());
  Scatter(parsed, reader, y, write).run();
  return parsed.frame_bytes;
}

}  // namespace gradwire::sparse
