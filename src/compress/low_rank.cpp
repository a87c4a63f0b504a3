#include "compress/low_rank.hpp"

#include <algorithm>

#include "base/fail.hpp"

namespace gradwire {

static_assert(CompressorImpl<LowRankCompressor>);

MatrixView matrix_view(std::span<const std::size_t> shape) noexcept {
  if (shape.size() < 2) return {};
  MatrixView view{shape.front(), 1};
  for (const std::size_t extent : shape.subspan(1)) view.cols *= extent;
  return view.rows == 0 || view.cols == 0 ? MatrixView{} : view;
}

bool LowRank::pays(MatrixView view) const noexcept {
  if (!view.is_matrix()) return false;
  const auto rows = static_cast<double>(view.rows);
  const auto cols = static_cast<double>(view.cols);
  return rank * (rows + cols) * min_ratio < rows * cols;
}

std::size_t LowRank::rank_for(MatrixView view) const noexcept {
  return std::min({std::size_t{rank}, view.rows, view.cols});
}

std::string LowRank::schedule() const {
  if (kind == Kind::projection) {
    return fmt::format("projection, {} iterations every {} steps, start {}", iterations, refresh, start);
  }
  return fmt::format("powersgd, {} iterations, {} rounds, start {}", iterations, rounds, start);
}

namespace {

std::string canonical_spec(const LowRank& scheme) {
  const std::string common = fmt::format("start={},min_ratio={},fallback={},factors={}", scheme.start, scheme.min_ratio,
                                         scheme.fallback, scheme.factors);
  if (scheme.kind == LowRank::Kind::projection) {
    return fmt::format("projection(rank={},refresh={},iterations={},{})", scheme.rank, scheme.refresh,
                       scheme.iterations, common);
  }
  return fmt::format("powersgd(rank={},iterations={},rounds={},{})", scheme.rank, scheme.iterations, scheme.rounds,
                     common);
}

}  // namespace

LowRankCompressor::LowRankCompressor(LowRank scheme) : scheme_(std::move(scheme)), spec_(canonical_spec(scheme_)) {
  require(make_compressor(scheme_.fallback).low_rank() == nullptr,
          "compressor \"{}\": option fallback is {}, which is low rank itself", spec_, scheme_.fallback);
  const Compressor factors = make_compressor(scheme_.factors);
  require(factors.low_rank() == nullptr && factors.sparsifier() == nullptr,
          "compressor \"{}\": option factors is {}; accepted: none, f16, bf16 and quantisers", spec_, scheme_.factors);
  on_device_ = factors.traits().on_device;
}

CompressorTraits LowRankCompressor::traits() const noexcept {
  CompressorTraits traits;
  traits.fixed_size = false;
  traits.block_elems = kWholeTensor;
  traits.on_device = on_device_;
  return traits;
}

void LowRankCompressor::refuse() const {
  fail(Errc::unsupported, "{} makes no frames: it is carried out by the algorithm lowrank", spec_);
}

std::size_t LowRankCompressor::max_frame_size(std::size_t, DType) const { refuse(); }
std::size_t LowRankCompressor::encode(ConstTensor, Bytes, Tensor, const RandomKey&, StreamRef) const { refuse(); }
std::size_t LowRankCompressor::decode(ConstBytes, Tensor, Write, StreamRef) const { refuse(); }

}  // namespace gradwire
