#pragma once
#include <string>
#include <string_view>

#include "gradwire/compressor.hpp"

namespace gradwire {

/// `powersgd` and `projection`: parameters of the algorithm `lowrank` in a compressor's clothes, so that specs, plans
/// and reports treat them like any other. What needs frames gets Errc::unsupported.
///
/// powersgd: Vogels et al. 2019, arXiv:1905.13727, and epfml/powersgd; `rounds=1` also after ACP-SGD, arXiv:2306.08881.
/// projection: after GaLore, Zhao et al. 2024, arXiv:2403.03507.
class LowRankCompressor {
 public:
  /// Throws Errc::invalid_argument for a fallback that is low rank itself, or factors that make no frames.
  explicit LowRankCompressor(LowRank scheme);

  [[nodiscard]] std::string_view spec() const noexcept { return spec_; }
  [[nodiscard]] CompressorTraits traits() const noexcept;
  [[nodiscard]] std::size_t max_frame_size(std::size_t count, DType dtype) const;
  std::size_t encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key, StreamRef stream) const;
  std::size_t decode(ConstBytes in, Tensor y, Write write, StreamRef stream) const;
  /// 1: what it leaves out is orthogonal to what it keeps, of a matrix that may be all of it.
  [[nodiscard]] double error_bound(std::size_t) const noexcept { return 1; }
  [[nodiscard]] const LowRank* low_rank() const noexcept { return &scheme_; }

 private:
  [[noreturn]] void refuse() const;

  LowRank scheme_;
  std::string spec_;
  bool on_device_ = false;  ///< its factors are coded there
};

}  // namespace gradwire
