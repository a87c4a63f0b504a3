#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "compress/device/memory.hpp"
#include "compress/device/sparse.hpp"
#include "compress/sparse/index_coding.hpp"
#include "compress/sparse/kernels.hpp"
#include "compress/sparse/layout.hpp"

/// \file The words of a sparse frame, each a function of what was chosen: threads write them in any order.
namespace gradwire::device {

/// What was chosen: places in ascending order.
struct Chosen {
  const std::uint32_t* places = nullptr;  ///< of elements, or of blocks
  std::size_t count = 0;
  std::uint32_t most = 0;  ///< largest magnitude of all elements; of the rule `random` only
};

/// Where the parts of a frame lie.
struct SparseLayout {
  std::size_t chosen = 0;
  std::size_t block = 0;  ///< 0: places are of elements
  std::size_t units = 0;
  sparse::IndexPlan index;
  std::size_t entries = 0;  ///< elements
  std::size_t value_bytes = 0;

  [[nodiscard]] constexpr std::size_t values_at() const noexcept { return sparse::kHeadBytes + index.bytes; }
  [[nodiscard]] constexpr std::size_t bytes() const noexcept { return values_at() + value_bytes; }
};

/// Of a frame with `chosen` places, the last of which is `last`, coded as `index` says.
[[nodiscard]] constexpr SparseLayout layout_of(const SparseShape& shape, const sparse::IndexPlan& index,
                                               std::size_t chosen, std::size_t last) noexcept {
  SparseLayout layout;
  layout.chosen = chosen;
  layout.block = chosen == 0 ? 0 : shape.block;
  layout.units = sparse::units_of(shape.count, layout.block);
  layout.index = index;
  layout.entries = sparse::entries_of(shape.count, layout.block, chosen, last);
  layout.value_bytes = shape.values == sparse::ValueCoding::Kind::frame
                           ? shape.value_bytes
                           : frame::align_up(layout.entries * size_of(sparse::dtype_of(shape.values)));
  return layout;
}

/// Of the frame that an encoder writes.
[[nodiscard]] GRADWIRE_HD inline SparseLayout layout_of(const SparseEncode& job, const Chosen& chosen) {
  const std::size_t n = chosen.count;
  const sparse::IndexPlan index =
      job.shape.is_seeded && n != 0
          ? sparse::IndexPlan{sparse::IndexCoding::seeded, 0, sparse::kSeededBytes}
          : sparse::plan_fixed(n, sparse::units_of(job.shape.count, n == 0 ? 0 : job.shape.block));
  return layout_of(job.shape, index, n, n == 0 ? 0 : chosen.places[n - 1]);
}

/// Of a frame with as many places as there may be, where its size does not depend on which they are.
[[nodiscard]] constexpr SparseLayout full_layout(const SparseShape& shape) noexcept {
  const std::size_t n = shape.most;
  const sparse::IndexPlan index = shape.is_seeded && n != 0
                                      ? sparse::IndexPlan{sparse::IndexCoding::seeded, 0, sparse::kSeededBytes}
                                      : sparse::plan_fixed(n, sparse::units_of(shape.count, shape.block));
  return layout_of(shape, index, n, n == 0 ? 0 : n - 1);
}

/// How many of the places are below `bound`.
[[nodiscard]] GRADWIRE_HD inline std::size_t places_below(const Chosen& chosen, std::size_t bound) {
  std::size_t first = 0;
  std::size_t last = chosen.count;
  while (first < last) {
    const std::size_t middle = (first + last) / 2;
    if (chosen.places[middle] < bound) {
      first = middle + 1;
    } else {
      last = middle;
    }
  }
  return first;
}

/// Word `w` of the index section.
[[nodiscard]] GRADWIRE_HD inline std::uint32_t index_word(const SparseRule& rule, const SparseLayout& layout,
                                                          const Chosen& chosen, std::size_t w) {
  const std::size_t n = chosen.count;
  switch (layout.index.coding) {
    case sparse::IndexCoding::words: return w < n ? chosen.places[w] : 0;
    case sparse::IndexCoding::seeded: return w == 0 ? rule.keys.k0 : w == 1 ? rule.keys.k1 : 0;
    case sparse::IndexCoding::offsets: {
      const std::size_t blocks = sparse::offset_blocks(layout.units);
      if (w < blocks) {
        const std::size_t first = w * sparse::kOffsetBlock;
        return static_cast<std::uint32_t>(places_below(chosen, first + sparse::kOffsetBlock) -
                                          places_below(chosen, first));
      }
      const std::size_t i = 2 * (w - blocks);
      const std::uint32_t low = i < n ? chosen.places[i] % sparse::kOffsetBlock : 0;
      const std::uint32_t high = i + 1 < n ? chosen.places[i + 1] % sparse::kOffsetBlock : 0;
      return low | high << 16;
    }
    case sparse::IndexCoding::bitmap: {
      std::uint32_t bits = 0;
      for (std::size_t i = places_below(chosen, 32 * w); i < n && chosen.places[i] / 32 == w; ++i)
        bits |= 1u << chosen.places[i] % 32;
      return bits;
    }
    default: return 0;  // all: there is no section
  }
}

/// Place of the tensor's element that is entry `e`.
[[nodiscard]] GRADWIRE_HD inline std::size_t element_of(const SparseLayout& layout, const std::uint32_t* places,
                                                        std::size_t e) {
  if (layout.block == 0) return places[e];
  return places[e / layout.block] * layout.block + e % layout.block;
}

/// The value that entry `e` is to carry, of element `place`. Where values are drawn, NaN or Inf anywhere spoils them
/// all, as most elements are in no frame.
[[nodiscard]] GRADWIRE_HD inline float entry_value(const SparseEncode& job, const Chosen& chosen, std::size_t e,
                                                   std::size_t place) {
  const float x = load_element(job.x.data, job.x.dtype, place);
  if (job.rule.kind != SparseRule::Kind::random) return x;
  if (chosen.most >= sparse::kInfinity) return std::numeric_limits<float>::quiet_NaN();
  if (!job.rule.is_scaled) return x;
  return x * static_cast<float>(sparse::Strata(e, chosen.count, job.shape.count).next(job.rule.keys).size);
}

/// What is owed to an element whose entry decodes to `sent`.
GRADWIRE_HD inline void settle_entry(const SparseEncode& job, std::size_t place, float sent) {
  if (job.residual == nullptr) return;
  job.residual[place] = load_element(job.x.data, job.x.dtype, place) - sent;
}

/// Word `w` of the value section, of elements; settles what it carries.
[[nodiscard]] GRADWIRE_HD inline std::uint32_t value_word(const SparseEncode& job, const SparseLayout& layout,
                                                          const Chosen& chosen, std::size_t w) {
  const DType dtype = sparse::dtype_of(job.shape.values);
  const std::size_t in_word = sizeof(std::uint32_t) / size_of(dtype);
  std::uint32_t word = 0;
  for (std::size_t j = 0; j < in_word; ++j) {
    const std::size_t e = in_word * w + j;
    if (e >= layout.entries) break;
    const std::size_t place = element_of(layout, chosen.places, e);
    const float value = entry_value(job, chosen, e, place);
    if (dtype == DType::f32) {
      settle_entry(job, place, value);
      return std::bit_cast<std::uint32_t>(value);
    }
    std::uint16_t bits = 0;
    store_element(&bits, dtype, 0, saturate(value, dtype));
    settle_entry(job, place, load_element(&bits, dtype, 0));
    word |= std::uint32_t{bits} << (16 * j);
  }
  return word;
}

/// Writes word `w` of a frame and of what follows it up to its capacity, which is zero; but for values that are a
/// frame.
GRADWIRE_HD inline void write_frame_word(const SparseEncode& job, const FrameStart& start, const SparseLayout& layout,
                                         const Chosen& chosen, std::size_t w) {
  constexpr std::size_t kWord = sizeof(std::uint32_t);
  const std::size_t values = layout.values_at() / kWord;
  const std::size_t end = layout.bytes() / kWord;
  std::uint32_t word = 0;
  if (w < 3) {
    word = start.words[w];
  } else if (w == 3) {
    word = static_cast<std::uint32_t>(layout.bytes() / frame::kAlign);
  } else if (w == 4) {
    word = static_cast<std::uint32_t>(layout.chosen);
  } else if (w == 5) {
    word = static_cast<std::uint32_t>(layout.index.coding) |
           static_cast<std::uint32_t>(layout.block / sparse::kBlockStep) << 16;
  } else if (w == 6) {
    word = static_cast<std::uint32_t>(layout.index.bytes / frame::kAlign);
  } else if (w >= sparse::kHeadBytes / kWord && w < values) {
    word = index_word(job.rule, layout, chosen, w - sparse::kHeadBytes / kWord);
  } else if (w >= values && w < end) {
    if (job.shape.values == sparse::ValueCoding::Kind::frame) return;
    word = value_word(job, layout, chosen, w - values);
  }
  store_word(job.frame + kWord * w, word);
}

}  // namespace gradwire::device
