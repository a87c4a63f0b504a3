#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "compress/isa.hpp"
#include "plan/bins.hpp"
#include "plan/table.hpp"

namespace gradwire {

struct BinItem {
  std::uint64_t bins;
  double cost;
  std::size_t candidate;
};

/// What there is to choose from for one layer of a table.
struct BinLayer {
  std::size_t layer;
  std::vector<BinItem> items;  ///< bins rise, costs fall; never empty
  double base = 0;             ///< of each cost, this much is left out
  double floor = 0;            ///< what the costs before are raised to
};

/// The dynamic program over layers of items, with room for `spare` bins above the least of each. A row of cells holds,
/// for each number of spare bins, the least cost of the layers so far: cost = max(cost before, floor) + item.cost -
/// base, and 0 before the first. All rows are kept, and walking back asks each which candidate it came from.
/// All sums of costs are exact in T, or the same whenever they are taken in this order.
template <class T>
class BinProgram {
 public:
  BinProgram(const std::vector<BinLayer>& layers, std::size_t spare)
      : layers_(layers), cells_(spare + 1), rows_(std::make_unique<T[]>((layers.size() + 1) * cells_)) {
    std::vector<std::uint32_t> bins;
    std::vector<T> costs;
    std::vector<T> raised;
    for (std::size_t l = 0; l < layers.size(); ++l) {
      bins.clear();
      costs.clear();
      for (const BinItem& item : layers[l].items) {
        bins.push_back(static_cast<std::uint32_t>(bins_of(l, item)));
        costs.push_back(cost_of(l, item));
      }
      const T* before = row(l);
      if (layers[l].floor > 0) {
        raised.resize(cells_);
        for (std::size_t cell = 0; cell < cells_; ++cell) raised[cell] = cost_before(l, cell);
        before = raised.data();
      }
      relax({before, row(l + 1), bins.data(), costs.data(), bins.size(), cells_});
    }
  }

  /// The fewest spare bins that give the least cost with at most `spare` of them.
  [[nodiscard]] std::size_t first_cell(std::size_t spare) const {
    const T* const last = row(layers_.size());
    return static_cast<std::size_t>(std::find(last, last + spare, last[spare]) - last);  // along a row costs never rise
  }
  /// The plan of a first_cell(); of several the one with the lowest candidates, from the last layer on.
  [[nodiscard]] Choice trace(std::size_t cell) const {
    Choice choice(layers_.size());
    for (std::size_t l = layers_.size(); l-- > 0;) {
      const BinItem* best = nullptr;
      for (const BinItem& item : layers_[l].items) {
        if (bins_of(l, item) > cell || (best != nullptr && best->candidate < item.candidate)) continue;
        if (cost_before(l, cell - bins_of(l, item)) + cost_of(l, item) == row(l + 1)[cell]) best = &item;
      }
      choice[layers_[l].layer] = best->candidate;
      cell -= bins_of(l, *best);
    }
    return choice;
  }

 private:
  static void relax(const kernels::Relax<T>& job) {
    const BinKernels& kernels = isa::kernels<BinKernels>();
    if constexpr (std::is_same_v<T, double>) {
      kernels.relax_f64(job);
    } else {
      kernels.relax_u32(job);
    }
  }
  [[nodiscard]] std::size_t bins_of(std::size_t layer, const BinItem& item) const {
    return item.bins - layers_[layer].items.front().bins;
  }
  [[nodiscard]] T cost_of(std::size_t layer, const BinItem& item) const {
    return static_cast<T>(item.cost - layers_[layer].base);
  }
  [[nodiscard]] T cost_before(std::size_t layer, std::size_t cell) const {
    return std::max(row(layer)[cell], static_cast<T>(layers_[layer].floor));
  }
  [[nodiscard]] T* row(std::size_t layer) const { return rows_.get() + layer * cells_; }

  const std::vector<BinLayer>& layers_;
  std::size_t cells_;
  std::unique_ptr<T[]> rows_;
};

}  // namespace gradwire
