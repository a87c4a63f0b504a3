#pragma once
#include <cstddef>
#include <vector>

#include "compress/device/carver.hpp"
#include "compress/device/statistics.hpp"
#include "plan/table_builder.hpp"

namespace gradwire {

/// measure_layer() of samples in device memory, in two parts, so that nothing waits for the device: what a layer's
/// candidates lose is found there (densities of plain `topk` from one histogram of magnitudes, to 0.4 %; numbers of
/// bits of `quantize` from one pass; all others but low rank by encoding), and ranks from factors found there. Bytes
/// are of frames in device memory, which have one size, whatever the data.
class DeviceMeasurement {
 public:
  /// `keeps_values`: results hold the sample, too. Throws Errc::unsupported naming layer and candidate where a
  /// candidate codes host memory only, and what make_compressor() throws.
  DeviceMeasurement(TableBuilder::Layer layer, bool keeps_values);

  /// Of pinned memory, for one sample.
  [[nodiscard]] std::size_t result_bytes() const noexcept { return layout_.bytes(); }
  /// `x` (f32) is read and `results` are written in the order of the stream, and until then by nobody else. Memory
  /// comes from the device's pool: as much again as x, and a frame of it.
  void launch(ConstTensor x, const RandomKey& key, std::byte* results, StreamRef stream);
  /// When the stream has come so far. Throws Errc::non_finite, as measure_layer().
  [[nodiscard]] TableLayer finish(const std::byte* results) const;
  /// With `keeps_values`.
  [[nodiscard]] ConstTensor values(const std::byte* results) const;

 private:
  enum class Way { low_rank, selected, quantised, encoded };
  struct Measured {
    Compressor compressor;
    Way way;
    std::size_t place;  ///< of its number of bits, its number of elements, or its norms
    std::size_t bytes;
    std::size_t widths = 0;  ///< which
  };
  /// Numbers of bits of one bucket and norm.
  struct Widths {
    QuantizeParams params;
    std::vector<std::uint32_t> bits;
    std::size_t losses_at = 0;
  };

  void add(const std::string& spec);
  void add_width(const Compressor& compressor, const QuantizeParams& params);
  void launch_encoded(ConstTensor x, const RandomKey& key, device::Norms* norms, StreamRef stream);
  void launch_spectrum(ConstTensor x, const RandomKey& key, std::byte* right, StreamRef stream) const;

  TableBuilder::Layer layer_;
  MatrixView view_;
  bool keeps_values_;
  std::vector<Measured> candidates_;
  std::vector<Widths> widths_;
  std::vector<std::uint64_t> kept_;  // elements that plain selections keep
  std::size_t encoded_ = 0;
  std::size_t frame_bytes_ = 0;  // of the largest frame
  std::size_t most_rank_ = 0;
  device::Carver layout_;     // of results, offsets into which follow
  std::size_t norms_at_ = 0;  // of x, then of what each encoded candidate loses
  std::size_t kept_at_ = 0;   // what each of kept_ loses
  std::size_t right_at_ = 0;  // a factor
  std::size_t values_at_ = 0;
};

}  // namespace gradwire
