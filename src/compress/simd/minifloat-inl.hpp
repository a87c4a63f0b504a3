// f8, mx* and nvfp4: whole frames' payloads. Included once per instruction set.
#if defined(GRADWIRE_SIMD_MINIFLOAT_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_MINIFLOAT_INL_
#undef GRADWIRE_SIMD_MINIFLOAT_INL_
#else
#define GRADWIRE_SIMD_MINIFLOAT_INL_
#endif

#include <cstring>

#include "compress/minifloat_kernels.hpp"
#include "compress/simd/elementwise-inl.hpp"
#include "compress/simd/minifloat_scales-inl.hpp"
#include "compress/simd/minifloat_tiles-inl.hpp"
#include "compress/simd/noise-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

/// Blocks whose scales are found before their tiles are encoded: some hundreds of elements, which stay in the
/// first-level cache in between.
inline constexpr std::size_t kMinifloatWindow = 1024;
inline constexpr std::size_t kMaxMinifloatWindow = kMinifloatWindow + MinifloatParams::kMaxBlock;
inline constexpr std::size_t kMinifloatAheadElems = 4096 / sizeof(float);

/// One encode. Scales are found block by block, and codes made tile by tile: blocks need not be whole tiles, so the
/// rows of a tile that the last block has not filled wait for the next.
class MinifloatEncoder {
 public:
  explicit MinifloatEncoder(const kernels::MinifloatEncode& job)
      : job_(job),
        layout_{job.params, job.x.count},
        shape_(job.params.shape()),
        random_(job.key),
        encode_(choose_minifloat_encode(job.params, job.residual != nullptr)),
        payload_(reinterpret_cast<std::uint8_t*>(job.payload)) {}

  std::size_t run() {
    const std::size_t count = job_.x.count;
    if (count == 0) return 0;
    while (end_ < count) {
      while (end_ < count && end_ - start_ < kMinifloatWindow) {
        if (scale_mx_run()) continue;
        const std::size_t n = std::min<std::size_t>(job_.params.block, count - end_);
        widen(n);
        if (!(job_.params.scale == MinifloatScale::nvfp4 ? scale_span(n) : scale_block(n))) return end_;
        end_ += n;
      }
      encode_tiles((end_ - start_) / kTile);
      if (end_ == count && start_ != end_) encode_rest();
    }
    zero_padding(0, layout_.block_scale_bytes());
    zero_padding(layout_.group_scale_offset(), layout_.group_scale_bytes());
    return count;
  }

 private:
  void zero_padding(std::size_t offset, std::size_t bytes) {
    const std::size_t padded = (bytes + 15) / 16 * 16;
    std::memset(payload_ + offset + bytes, 0, padded - bytes);
  }

  /// Elements of the window from `first` on as f32; those of 16 bits are widened when their block arrives.
  [[nodiscard]] const float* window(std::size_t first) const {
    return job_.x.dtype == DType::f32 ? static_cast<const float*>(job_.x.data) + first : wide_ + (first - start_);
  }

  void widen(std::size_t n) {
    if (job_.x.dtype == DType::f32) return;
    const ConstTensor block = job_.x.slice(end_, n);
    cast_decode({static_cast<const std::byte*>(block.data), block.dtype, {wide_ + (end_ - start_), n}, Write::assign});
  }

  /// Scales go into the payload and, row by row, into unit_ and inv_. This for the block at end_, of n elements.
  bool scale_block(std::size_t n) {
    const float most = linf_norm(window(end_), n);
    if (!(most <= most_magnitude(job_.params.scale))) return false;
    MinifloatUnit unit;
    if (job_.params.scale == MinifloatScale::e8m0) {
      const std::uint8_t scale = e8m0_of_block(most, shape_);
      unit = unit_of_e8m0(most, scale);
      payload_[blocks_++] = scale;
    } else {
      unit = unit_of_block(most, shape_);
      write_f32_scale(unit.unit);
    }
    const std::size_t row = (end_ - start_) / kRow;
    const std::size_t rows = (n + kRow - 1) / kRow;
    std::fill_n(unit_ + row, rows, unit.unit);
    std::fill_n(inv_ + row, rows, unit.inv);
    return true;
  }

  /// Many whole blocks at once, where there are so many and all is well with them.
  bool scale_mx_run() {
    constexpr std::size_t kRun = kLanes * MinifloatParams::kMxBlock;
    if (job_.params.scale != MinifloatScale::e8m0 || job_.x.count - end_ < kRun) return false;
    widen(kRun);
    const std::size_t row = (end_ - start_) / kRow;
    if (!scale_mx_blocks(window(end_), shape_, payload_ + blocks_, unit_ + row, inv_ + row)) return false;
    blocks_ += kLanes;
    end_ += kRun;
    return true;
  }

  bool scale_span(std::size_t n) {
    const std::size_t row = (end_ - start_) / kRow;
    const std::size_t rows = (n + kRow - 1) / kRow;
    const float most = groups_.find_maxima(window(end_), n, unit_ + row);
    if (!(most <= most_magnitude(MinifloatScale::nvfp4))) return false;
    const MinifloatUnit span = unit_of_span(most);
    groups_.encode(span, job_.params.round, rows, unit_ + row, inv_ + row);
    groups_.write(payload_ + layout_.group_scale_offset() + end_ / kRow, rows);
    write_f32_scale(span.unit);
    return true;
  }

  void write_f32_scale(float unit) { std::memcpy(payload_ + sizeof(float) * blocks_++, &unit, sizeof unit); }

  [[nodiscard]] std::uint8_t* plane(std::size_t width) const {
    return payload_ + layout_.plane_offset(width) + start_ * width / 8;
  }
  [[nodiscard]] std::size_t first_width() const { return layout_.has_plane(8) ? 8 : 4; }

  const std::uint16_t* noise(std::size_t first, std::size_t n) {
    if (job_.params.round == Rounding::nearest) return nullptr;
    return noise_.fill(random_, job_.key.first_element + first, n);
  }

  /// Whole tiles from start_ on. What is left of the window moves to its front.
  void encode_tiles(std::size_t tiles) {
    const bool in_place = job_.x.dtype == DType::f32;
    const std::size_t most = kMinifloatWindow / kTile;
    const std::size_t window_start = start_;
    for (std::size_t done = 0; done < tiles;) {
      const std::size_t now = std::min(most, tiles - done);
      const std::size_t n = now * kTile;
      const std::size_t row = (start_ - window_start) / kRow;
      const bool far = start_ + n + kMinifloatAheadElems <= job_.x.count;
      float* const residual = job_.residual == nullptr ? nullptr : job_.residual + start_;
      const float* const x = in_place ? window(start_) : wide_ + row * kRow;
      encode_({x, residual, noise(start_, n), unit_ + row, inv_ + row, in_place && far ? kMinifloatAheadElems : 0,
               plane(first_width()), plane(2)},
              now);
      start_ += n;
      done += now;
    }
    const std::size_t moved = start_ - window_start;
    const std::size_t rows = (end_ - start_ + kRow - 1) / kRow;
    std::copy_n(unit_ + moved / kRow, rows, unit_);
    std::copy_n(inv_ + moved / kRow, rows, inv_);
    if (!in_place) std::copy_n(wide_ + moved, end_ - start_, wide_);
  }

  /// The last elements, fewer than a tile.
  void encode_rest() {
    const std::size_t n = end_ - start_;
    const std::size_t rows = (n + kRow - 1) / kRow;
    HWY_ALIGN float x[kTile] = {};
    HWY_ALIGN float residual[kTile];
    HWY_ALIGN std::uint8_t first[kTile];
    HWY_ALIGN std::uint8_t second[kTile / 4];
    std::copy_n(window(start_), n, x);
    std::fill(unit_ + rows, unit_ + kTileRows, 0.0f);
    std::fill(inv_ + rows, inv_ + kTileRows, 0.0f);
    encode_({x, residual, noise(start_, kTile), unit_, inv_, 0, first, second}, 1);
    const std::size_t width = first_width();
    std::memcpy(plane(width), first, (rows * width + 7) / 8 * kRow);
    if (layout_.has_plane(2)) std::memcpy(plane(2), second, (rows * 2 + 7) / 8 * kRow);
    if (job_.residual != nullptr) std::memcpy(job_.residual + start_, residual, n * sizeof(float));
    start_ = end_;
  }

  const kernels::MinifloatEncode& job_;
  const MinifloatLayout layout_;
  const MinifloatShape shape_;
  const RandomStream random_;
  const MinifloatEncodeFunction encode_;
  std::uint8_t* const payload_;
  std::size_t start_ = 0;   ///< elements encoded; whole tiles
  std::size_t end_ = 0;     ///< elements that have their scales
  std::size_t blocks_ = 0;  ///< blocks that have their scales
  HWY_ALIGN float unit_[kMaxMinifloatWindow / kRow + kRow];
  HWY_ALIGN float inv_[kMaxMinifloatWindow / kRow + kRow];
  HWY_ALIGN float wide_[kMaxMinifloatWindow];
  GroupScales groups_;
  Noise noise_;
};

/// One decode: windows of whole blocks.
class MinifloatDecoder {
 public:
  explicit MinifloatDecoder(const kernels::MinifloatDecode& job)
      : job_(job),
        layout_{job.params, job.y.count},
        decode_(choose_minifloat_decode(job.params.format, job.y.dtype == DType::f32 ? job.write : Write::assign)),
        payload_(reinterpret_cast<const std::uint8_t*>(job.payload)) {}

  void run() {
    const std::size_t block = job_.params.block;
    const std::size_t window = std::max(block, kMinifloatWindow / block * block);
    for (std::size_t first = 0; first < job_.y.count; first += window) {
      const std::size_t n = std::min(window, job_.y.count - first);
      read_units(first, n);
      if (job_.y.dtype == DType::f32) {
        decode(first, n, static_cast<float*>(job_.y.data) + first);
      } else {
        decode(first, n, wide_);
        cast_decode({reinterpret_cast<const std::byte*>(wide_), DType::f32, job_.y.slice(first, n), job_.write});
      }
    }
  }

 private:
  void read_units(std::size_t first, std::size_t n) {
    const std::size_t block = job_.params.block;
    for (std::size_t i = 0; i < n; i += block) {
      const std::size_t rows = (std::min(block, n - i) + kRow - 1) / kRow;
      const std::size_t index = (first + i) / block;
      float unit = 0;
      if (job_.params.scale == MinifloatScale::e8m0) {
        unit = value_of_e8m0(payload_[index]);
      } else {
        std::memcpy(&unit, payload_ + index * sizeof unit, sizeof unit);
      }
      if (job_.params.scale == MinifloatScale::nvfp4) {
        const std::uint8_t* const scales = payload_ + layout_.group_scale_offset() + (first + i) / kRow;
        groups_.decode(scales, unit, rows, unit_ + i / kRow);
      } else {
        std::fill_n(unit_ + i / kRow, rows, unit);
      }
    }
  }

  void decode(std::size_t first, std::size_t n, float* y) {
    constexpr std::size_t kPair = 2 * kRow;
    const std::size_t width = layout_.has_plane(8) ? 8 : 4;
    const std::size_t whole = n / kPair * kPair;
    const std::uint8_t* const plane = payload_ + layout_.plane_offset(width);
    const std::uint8_t* const second = payload_ + layout_.plane_offset(2);
    decode_({plane + first * width / 8, second, first / kRow, unit_, y}, whole / kPair);
    if (whole == n) return;
    const std::size_t rest = n - whole;
    HWY_ALIGN std::uint8_t bytes[kPair] = {};  // a plane of 8 bits may end within a pair of rows
    HWY_ALIGN float values[kPair] = {};
    const float units[2] = {unit_[whole / kRow], rest > kRow ? unit_[whole / kRow + 1] : 0.0f};
    const std::size_t rows = (rest + kRow - 1) / kRow;
    std::memcpy(bytes, plane + (first + whole) * width / 8, (rows * width + 7) / 8 * kRow);
    std::memcpy(values, y + whole, rest * sizeof(float));
    decode_({bytes, second, (first + whole) / kRow, units, values}, 1);
    std::memcpy(y + whole, values, rest * sizeof(float));
  }

  const kernels::MinifloatDecode& job_;
  const MinifloatLayout layout_;
  const MinifloatDecodeFunction decode_;
  const std::uint8_t* const payload_;
  HWY_ALIGN float unit_[MinifloatParams::kMaxBlock / kRow + kRow];
  HWY_ALIGN float wide_[MinifloatParams::kMaxBlock];
  GroupScales groups_;
};

inline std::size_t minifloat_encode(const kernels::MinifloatEncode& job) { return MinifloatEncoder(job).run(); }

inline void minifloat_decode(const kernels::MinifloatDecode& job) { MinifloatDecoder(job).run(); }

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
