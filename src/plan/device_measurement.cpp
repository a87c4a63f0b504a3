#include "plan/device_measurement.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/device.hpp"
#include "base/fail.hpp"
#include "compress/factor_ops.hpp"
#include "compress/quantize.hpp"
#include "plan/sample.hpp"
#include "plan/spectrum.hpp"

namespace gradwire {
namespace {

/// Whether it sends the largest elements as they are: then their squares say what it loses.
bool is_plain_selection(const Compressor& compressor) {
  const Sparsifier* const sparsifier = compressor.sparsifier();
  return sparsifier != nullptr && sparsifier->takes_largest() && compressor.spec().find('|') == std::string_view::npos;
}

}  // namespace

DeviceMeasurement::DeviceMeasurement(TableBuilder::Layer layer, bool keeps_values)
    : layer_(std::move(layer)), view_(matrix_view(layer_.shape)), keeps_values_(keeps_values) {
  for (const std::string& spec : layer_.specs) {
    try {
      add(spec);
    } catch (const Error& error) {
      fail(error.code(), "layer '{}': {}", layer_.name, error.what());
    }
  }
  most_rank_ = most_rank(layer_.specs, view_);
  norms_at_ = layout_.take<device::Norms>(1 + encoded_);
  for (Widths& widths : widths_) widths.losses_at = layout_.take<double>(widths.bits.size());
  kept_at_ = layout_.take<double>(kept_.size());
  if (most_rank_ > 0) right_at_ = layout_.take<float>(view_.cols * range_columns(view_, most_rank_));
  if (keeps_values_) values_at_ = layout_.take<float>(layer_.count);
}

void DeviceMeasurement::add(const std::string& spec) {
  const Compressor compressor = compressor_for(spec, view_);
  if (!compressor.traits().on_device) fail(Errc::unsupported, "candidate {} codes host memory only", compressor.spec());
  compressor.check_device(layer_.count);
  if (const LowRank* const scheme = compressor.low_rank(); scheme != nullptr) {
    candidates_.push_back({compressor, Way::low_rank, 0, low_rank_bytes(*scheme, view_)});
    return;
  }
  const std::size_t bytes = compressor.max_frame_size(layer_.count, DType::f32);
  if (is_plain_selection(compressor)) {
    candidates_.push_back({compressor, Way::selected, kept_.size(), bytes});
    kept_.push_back(compressor.sparsifier()->max_entries(layer_.count));
    return;
  }
  if (const auto params = uniform_params(compressor); params && has_quantize_errors(*params))
    return add_width(compressor, *params);
  candidates_.push_back({compressor, Way::encoded, ++encoded_, bytes});
  frame_bytes_ = std::max(frame_bytes_, bytes);
}

void DeviceMeasurement::add_width(const Compressor& compressor, const QuantizeParams& params) {
  const auto place_in = [](auto& all, auto&& is_same, auto&& made) {
    const auto found = std::find_if(all.begin(), all.end(), is_same);
    const auto place = static_cast<std::size_t>(found - all.begin());
    if (found == all.end()) all.push_back(made);
    return place;
  };
  const std::size_t which = place_in(
      widths_,
      [&](const Widths& known) { return known.params.bucket == params.bucket && known.params.norm == params.norm; },
      Widths{params, {}});
  const std::size_t place = place_in(
      widths_[which].bits, [&](std::uint32_t known) { return known == params.bits; }, params.bits);
  candidates_.push_back(
      {compressor, Way::quantised, place, compressor.max_frame_size(layer_.count, DType::f32), which});
}

void DeviceMeasurement::launch(ConstTensor x, const RandomKey& key, std::byte* results, StreamRef stream) {
  auto* const norms = reinterpret_cast<device::Norms*>(results + norms_at_);
  device::find_norms(x, 1, norms, stream);
  for (const Widths& widths : widths_) {
    device::QuantizeLosses job{widths.params,
                               x,
                               {},
                               static_cast<std::uint32_t>(widths.bits.size()),
                               reinterpret_cast<double*>(results + widths.losses_at)};
    std::copy(widths.bits.begin(), widths.bits.end(), job.bits);
    device::find_quantize_losses(job, stream);
  }
  for (std::size_t first = 0; first < kept_.size(); first += device::SelectionLosses::kMostCounts) {
    const std::size_t n = std::min(kept_.size() - first, device::SelectionLosses::kMostCounts);
    auto* const losses = reinterpret_cast<double*>(results + kept_at_) + first;
    device::SelectionLosses job{x, {}, static_cast<std::uint32_t>(n), losses};
    std::copy_n(kept_.begin() + static_cast<std::ptrdiff_t>(first), n, job.kept);
    device::find_selection_losses(job, stream);
  }
  if (encoded_ > 0) launch_encoded(x, key, norms, stream);
  if (most_rank_ > 0) launch_spectrum(x, key, results + right_at_, stream);
  if (keeps_values_) device::copy(results + values_at_, x.data, x.bytes(), stream);
}

void DeviceMeasurement::launch_encoded(ConstTensor x, const RandomKey& key, device::Norms* norms, StreamRef stream) {
  const device::Scratch frame(frame_bytes_, stream);
  const device::Scratch lost(x.bytes(), stream);
  const Tensor residual{lost.data(), x.count, DType::f32, Space::device};
  for (Measured& each : candidates_) {
    if (each.way != Way::encoded) continue;
    if (!each.compressor.step_memories().empty())  // what other samples have left must not count
      each.compressor = make_compressor(each.compressor.spec());
    each.compressor.encode(x, {frame.data(), each.bytes, Space::device}, residual, key, stream);
    device::find_norms(residual, 1, norms + each.place, stream);
  }
}

void DeviceMeasurement::launch_spectrum(ConstTensor x, const RandomKey& key, std::byte* right, StreamRef stream) const {
  const std::size_t rank = range_columns(view_, most_rank_);
  const Factor random{reinterpret_cast<float*>(right), view_.cols, rank};
  ops::fill_random(random, key);
  const std::size_t bytes = random.count() * sizeof(float);
  const device::Scratch left(view_.rows * rank * sizeof(float), stream);
  const device::Scratch found(bytes, stream);
  device::copy(found.data(), right, bytes, stream);
  find_range_on_device(static_cast<const float*>(x.data), view_,
                       {reinterpret_cast<float*>(left.data()), view_.rows, rank},
                       {reinterpret_cast<float*>(found.data()), view_.cols, rank}, key, stream);
  device::copy(right, found.data(), bytes, stream);
}

TableLayer DeviceMeasurement::finish(const std::byte* results) const {
  const auto* const norms = reinterpret_cast<const device::Norms*>(results + norms_at_);
  const auto loss_at = [&](std::size_t offset, std::size_t place) {
    return reinterpret_cast<const double*>(results + offset)[place];
  };
  if (!device::is_finite(norms[0])) fail(Errc::non_finite, "layer '{}': NaN or Inf", layer_.name);
  TableLayer layer{layer_.name, layer_.count, layer_.reference, {}, layer_.shape};
  layer.norm = std::sqrt(norms[0].squares);
  std::vector<double> spectrum;
  if (most_rank_ > 0) {
    const std::size_t rank = range_columns(view_, most_rank_);
    auto* const right = const_cast<float*>(reinterpret_cast<const float*>(results + right_at_));  // which is read
    spectrum = range_squares({right, view_.cols, rank}, most_rank_);
  }
  for (const double square : spectrum) layer.singular_values.push_back(std::sqrt(square));
  for (std::size_t c = 0; c < candidates_.size(); ++c) {
    const Measured& each = candidates_[c];
    double squares = 0;
    switch (each.way) {
      case Way::low_rank: {
        const auto rank = static_cast<std::ptrdiff_t>(each.compressor.low_rank()->rank_for(view_));
        squares = norms[0].squares - std::accumulate(spectrum.begin(), spectrum.begin() + rank, 0.0);
        break;
      }
      case Way::selected: squares = loss_at(kept_at_, each.place); break;
      case Way::quantised: squares = loss_at(widths_[each.widths].losses_at, each.place); break;
      case Way::encoded: squares = norms[each.place].squares; break;
    }
    if (!std::isfinite(squares))
      fail(Errc::non_finite, "layer '{}': values that {} cannot code", layer_.name, each.compressor.spec());
    layer.candidates.push_back({layer_.specs[c], each.bytes, std::sqrt(std::max(squares, 0.0))});
  }
  check(Table{{layer}});
  return layer;
}

ConstTensor DeviceMeasurement::values(const std::byte* results) const {
  return {reinterpret_cast<const float*>(results + values_at_), layer_.count};
}

}  // namespace gradwire
