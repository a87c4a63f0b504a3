#include "train/planning/guards.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

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

void Guards::begin_step(bool watching) {
  watching_ = watching;
  if (watching_) std::fill(now_.begin(), now_.end(), Seen{});
}

void Guards::see_gradient(std::size_t layer, ConstTensor x, float scale) {
  if (watching_) now_[layer].gradient = sum_squares(x, scale);
}

void Guards::see_sent(std::size_t layer, ConstTensor sent) {
  if (watching_) now_[layer].sent = sum_squares(sent, 1);
}

void Guards::see_delivered(std::size_t layer, ConstTensor delivered, ConstTensor lost) {
  if (!watching_ || lost.data == nullptr) return;
  now_[layer].delivered = sum_squares(delivered, 1);
  now_[layer].lost = sum_squares(lost, 1);
  now_[layer].counts = true;
}

void Guards::end_step(std::span<const double> owed, bool dropped) {
  has_seen_ = watching_ && !dropped;
  watching_ = false;
  if (!has_seen_) return;
  for (std::size_t l = 0; l < now_.size(); ++l) now_[l].owed = owed[l] * owed[l];
  now_.swap(last_);  // the next step may be watched, too
}

void Guards::pack(std::span<float> out) const {
  std::fill(out.begin(), out.end(), 0.0F);
  if (!has_seen_) return;
  const auto sane = [](double squares) { return std::isfinite(squares) && squares < 1e30; };
  for (std::size_t l = 0; l < last_.size(); ++l) {
    const Seen& seen = last_[l];
    const std::array values{seen.gradient, seen.sent, seen.delivered, seen.lost, seen.owed};
    if (!seen.counts || !std::all_of(values.begin(), values.end(), sane)) continue;
    float* row = &out[kPerLayer * l];
    *row++ = 1;
    for (const double value : values) *row++ = static_cast<float>(value);
  }
}

std::vector<Guards::Finding> Guards::check(std::span<const float> sums, int ranks) const {
  const auto n = static_cast<float>(ranks);
  std::vector<Finding> findings;
  for (std::size_t l = 0; l < last_.size(); ++l) {
    const float* const row = &sums[kPerLayer * l];
    if (row[0] < n) continue;
    const double gradient = row[1];
    const double sent = row[2];
    // Owners lose a share of the sum, senders one of what they send. No sum is larger than n times all that is sent,
    // but for what a compressor that diverges makes of it.
    const double delivered = std::min(static_cast<double>(row[3] / n), static_cast<double>(n) * sent);
    const auto root_ratio = [](double part, double whole) { return whole > 0 ? std::sqrt(part / whole) : 0; };
    const double lost = root_ratio(row[4], sent + delivered);
    const double owed = root_ratio(row[5], gradient);
    if (max_layer_error_ > 0 && lost > max_layer_error_) {
      findings.push_back({l, fmt::format("loses {:.3g} of what is sent, over {:.3g}", lost, max_layer_error_)});
    } else if (max_residual_ratio_ > 0 && owed > max_residual_ratio_) {
      findings.push_back({l, fmt::format("owes {:.3g} times its gradient, over {:.3g}", owed, max_residual_ratio_)});
    }
  }
  return findings;
}

}  // namespace gradwire
