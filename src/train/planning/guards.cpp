#include "train/planning/guards.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "compress/device/statistics.hpp"
#include "compress/vector_ops.hpp"

namespace gradwire {
namespace {

/// Sum of squares of scale * x, for any float dtype.
double sum_squares(const ConstTensor& x, float scale) {
  constexpr std::size_t kBlock = 1024;
  std::array<float, kBlock> block;
  double sum = 0;
  for (std::size_t first = 0; first < x.count; first += kBlock) {
    const ConstTensor part = x.slice(first, std::min(kBlock, x.count - first));
    ops::scale_add(part, scale, nullptr, block.data());
    sum += ops::sum_squares(block.data(), part.count);
  }
  return sum;
}

}  // namespace

Guards::Guards(std::size_t layers, const PlanningOptions& options, Space space)
    : max_layer_error_(options.max_layer_error),
      max_residual_ratio_(options.max_residual_ratio),
      now_(layers),
      last_(layers) {
  if (space == Space::device) found_ = std::make_unique<device::Results>(layers * kSums * sizeof(device::Norms));
}

void Guards::begin_step(bool watching) {
  watching_ = watching;
  if (!watching_) return;
  std::fill(now_.begin(), now_.end(), Seen{});
  if (found_) std::memset(found_->data(), 0, now_.size() * kSums * sizeof(device::Norms));
}

void Guards::see(std::size_t layer, Quantity what, const ConstTensor& x, float scale, StreamRef stream) {
  const auto sum = static_cast<std::size_t>(what);
  if (!found_) {
    now_[layer].squares[sum] = sum_squares(x, scale);
    return;
  }
  auto* const norms = reinterpret_cast<device::Norms*>(found_->data());
  const device::Results::Writing writing(*found_, stream);
  device::find_norms(x, scale, norms + kSums * layer + sum, stream);
}

void Guards::see_gradient(std::size_t layer, ConstTensor x, float scale, StreamRef stream) {
  if (watching_) see(layer, Quantity::gradient, x, scale, stream);
}

void Guards::see_sent(std::size_t layer, ConstTensor sent, StreamRef stream) {
  if (watching_) see(layer, Quantity::sent, sent, 1, stream);
}

void Guards::see_delivered(std::size_t layer, ConstTensor delivered, ConstTensor lost, StreamRef stream) {
  if (!watching_ || lost.data == nullptr) return;
  see(layer, Quantity::delivered, delivered, 1, stream);
  see(layer, Quantity::lost, lost, 1, stream);
  now_[layer].counts = true;
}

void Guards::see_owed(std::size_t layer, ConstTensor values, StreamRef stream) {
  if (watching_) see(layer, Quantity::owed, values, 1, stream);
}

void Guards::end_step(bool dropped) {
  has_seen_ = watching_ && !dropped;
  watching_ = false;
  if (!has_seen_) return;
  if (found_) {
    const auto* const norms = reinterpret_cast<const device::Norms*>(found_->data());
    for (std::size_t l = 0; l < now_.size(); ++l)
      for (std::size_t sum = 0; sum < kSums; ++sum) now_[l].squares[sum] = norms[kSums * l + sum].squares;
  }
  now_.swap(last_);  // the next step may be watched, too
}

void Guards::pack(std::span<float> out) const {
  std::fill(out.begin(), out.end(), 0.0F);
  if (!has_seen_) return;
  const auto sane = [](double value) { return std::isfinite(value) && value < 1e30; };
  for (std::size_t l = 0; l < last_.size(); ++l) {
    const Seen& seen = last_[l];
    if (!seen.counts || !std::all_of(seen.squares.begin(), seen.squares.end(), sane)) continue;
    float* row = &out[kPerLayer * l];
    *row++ = 1;
    for (const double squares : seen.squares) *row++ = static_cast<float>(squares);
  }
}

std::vector<Guards::Finding> Guards::check(std::span<const float> sums, int ranks) const {
  const auto n = static_cast<float>(ranks);
  std::vector<Finding> findings;
  for (std::size_t l = 0; l < last_.size(); ++l) {
    const float* const row = &sums[kPerLayer * l];
    if (row[0] < n) continue;
    const auto of = [&](Quantity what) { return double{row[1 + static_cast<std::size_t>(what)]}; };
    const double gradient = of(Quantity::gradient);
    const double sent = of(Quantity::sent);
    // Owners lose a share of the sum, senders one of what they send. No sum is larger than n times all that is sent,
    // but for what a compressor that diverges makes of it.
    const double delivered = std::min(of(Quantity::delivered) / static_cast<double>(n), static_cast<double>(n) * sent);
    const auto root_ratio = [](double part, double whole) { return whole > 0 ? std::sqrt(part / whole) : 0; };
    const double lost = root_ratio(of(Quantity::lost), sent + delivered);
    const double owed = root_ratio(of(Quantity::owed), gradient);
    if (max_layer_error_ > 0 && lost > max_layer_error_) {
      findings.push_back({l, fmt::format("loses {:.3g} of what is sent, over {:.3g}", lost, max_layer_error_)});
    } else if (max_residual_ratio_ > 0 && owed > max_residual_ratio_) {
      findings.push_back({l, fmt::format("owes {:.3g} times its gradient, over {:.3g}", owed, max_residual_ratio_)});
    }
  }
  return findings;
}

}  // namespace gradwire
