#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "gradwire/plan.hpp"

namespace gradwire {

/// A table of several measurements of each layer: root mean squares of norms, errors and singular values, mean bytes.
/// What it keeps are sums, so that builders of one layout can be added, over ranks for example.
class TableBuilder {
 public:
  struct Layer {
    std::string name;
    std::uint64_t count = 0;
    std::vector<std::size_t> shape;
    std::size_t reference = 0;
    std::vector<std::string> specs;
  };

  /// Returns the layer's index. Throws what make_compressor() throws for its specs.
  std::size_t add_layer(Layer layer);
  [[nodiscard]] const std::vector<Layer>& layers() const { return layers_; }

  /// Of this layer; made by measure_layer() with its specs, or from that. Throws Errc::invalid_argument for another
  /// name, shape or number of elements, other specs, or another number of singular values than these give.
  void add(std::size_t layer, const TableLayer& measured);

  /// Of each layer in turn: measurements, squares of the norm, then for each candidate squares of its error and bytes,
  /// then squares of singular values. The same layers have the same layout: builders add up element by element.
  [[nodiscard]] const std::vector<double>& sums() const { return sums_; }
  [[nodiscard]] std::vector<double>& sums() { return sums_; }

  /// Which of the sums are of bytes, and so whole numbers.
  [[nodiscard]] std::vector<std::size_t> byte_places() const;
  /// And which of norms: one for each layer.
  [[nodiscard]] std::vector<std::size_t> norm_places() const;

  /// Measurements of the layer so far.
  [[nodiscard]] double samples(std::size_t layer) const { return sums_[firsts_[layer]]; }
  [[nodiscard]] bool measured(std::size_t layer) const { return samples(layer) > 0; }
  /// Of the layers that were measured. Throws what check() throws.
  [[nodiscard]] Table table() const;

 private:
  std::vector<Layer> layers_;
  std::vector<std::size_t> firsts_{0};  ///< of each layer in sums_, and the end
  std::vector<double> sums_;
};

}  // namespace gradwire
