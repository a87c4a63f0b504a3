#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "compress/sparse/selection.hpp"
#include "compress/sparse/values.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire {

/// `topk(...)` and its kin: a rule that chooses, and a coding of the chosen values.
class SparseCompressor final : public Sparsifier {
 public:
  explicit SparseCompressor(std::shared_ptr<const sparse::Selection> selection, sparse::ValueCoding values = {});

  [[nodiscard]] std::string_view spec() const noexcept { return spec_; }
  [[nodiscard]] CompressorTraits traits() const noexcept;
  [[nodiscard]] std::size_t max_frame_size(std::size_t count, DType dtype) const;
  std::size_t encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key, StreamRef stream) const;
  void check_device(std::size_t count) const { (void)device_shape(count); }
  std::size_t decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const;
  [[nodiscard]] double error_bound(std::size_t count) const;
  [[nodiscard]] const Sparsifier* sparsifier() const noexcept { return this; }
  [[nodiscard]] const IntegerCoder* integer_coder() const noexcept { return coder_.get(); }
  void add_memories(std::vector<StepMemory*>& all) const;

  [[nodiscard]] std::size_t max_entries(std::size_t count) const override;
  [[nodiscard]] Entries select(ConstTensor x, Entries out, const RandomKey& key) const override;
  [[nodiscard]] bool takes_largest() const noexcept override { return selection_->takes_largest(); }
  [[nodiscard]] std::size_t max_frame_size(std::size_t count, std::size_t entries) const override;
  std::size_t encode_entries(const Entries& entries, std::size_t count, Bytes out, const RandomKey& key) const override;
  [[nodiscard]] Compressor with_values(const Compressor& values) const override;

 private:
  /// Of frames in device memory. Throws Errc::unsupported for values that devices cannot code.
  [[nodiscard]] device::SparseShape device_shape(std::size_t count) const;
  [[nodiscard]] std::size_t most_chosen(std::size_t count) const;
  std::size_t encode_on_device(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key, StreamRef stream) const;
  std::size_t decode_on_device(ConstBytes in, Tensor y, Write write, StreamRef stream) const;

  std::shared_ptr<const sparse::Selection> selection_;
  sparse::ValueCoding values_;
  std::shared_ptr<const IntegerCoder> coder_;  ///< null: places differ between ranks, or values are coded
  std::string spec_;
};

}  // namespace gradwire
