#pragma once
#include "compress/device/integer_codes.hpp"
#include "compress/sparse/selection.hpp"

namespace gradwire::sparse {

/// One element of each of k strata of equal size (up to one element), uniform in its stratum and independent of the
/// others: places ascend by construction, and a frame carries the seed instead of them. An element is chosen with
/// probability 1/s, s the size of its stratum: floor(d/k) or ceil(d/k).
class RandomK final : public Selection {
 public:
  enum class Scale { none, unbiased };  ///< unbiased: values are multiplied by s
  RandomK(const Density& density, Scale scale) noexcept : density_(density), scale_(scale) {}

  [[nodiscard]] std::string spec() const override;
  [[nodiscard]] std::size_t max_entries(std::size_t count) const override { return density_.of(count); }
  std::size_t select(const Choice& choice, const Entries& out) const override;
  [[nodiscard]] double kept(std::size_t count) const override;
  [[nodiscard]] double error_bound(std::size_t count, const CodingError& coding) const override;
  [[nodiscard]] bool unbiased() const override { return scale_ == Scale::unbiased; }
  [[nodiscard]] bool fills_frames() const override { return true; }
  [[nodiscard]] std::optional<device::SparseRule> device_rule(std::size_t count, const RandomKey& key) const override;
  [[nodiscard]] bool is_seeded() const override { return true; }
  [[nodiscard]] std::optional<RandomStream::Keys> seed(const RandomKey& key) const override { return place_keys(key); }
  [[nodiscard]] std::unique_ptr<const IntegerCoder> coder() const override;

 private:
  Density density_;
  Scale scale_;
};

/// The values at places that all ranks draw alike, from the shared key: k floats, which add up as they are. Places need
/// no wire.
class RandomKCoder final : public IntegerCoder {
 public:
  explicit RandomKCoder(const RandomK& selection) : selection_(selection), spec_(selection.spec()) {}
  [[nodiscard]] bool on_device() const noexcept override { return true; }
  [[nodiscard]] std::size_t ranges(std::size_t) const override { return 0; }
  /// On a device encode() looks at x.
  void find_ranges(ConstTensor x, float* ranges, StreamRef stream) const override;
  [[nodiscard]] DType sum_dtype(int) const override { return DType::f32; }
  [[nodiscard]] std::size_t codes(std::size_t count) const override { return selection_.max_entries(count); }
  void encode(ConstTensor x, const float* ranges, Tensor codes, Tensor residual, const CodingKeys& keys,
              StreamRef stream) const override;
  void decode(ConstTensor codes, int ranks, const float* ranges, Tensor y, const RandomKey& shared,
              StreamRef stream) const override;

 private:
  [[nodiscard]] device::DrawnValues drawn(std::size_t count, std::size_t chosen, const RandomKey& shared) const {
    return {count, chosen, place_keys(shared), selection_.unbiased()};
  }

  RandomK selection_;
  std::string spec_;
};

}  // namespace gradwire::sparse
