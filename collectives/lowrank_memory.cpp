#include "collectives/lowrank_memory.hpp"

#include <algorithm>
#include <cstdint>

#include "base/fail.hpp"

namespace gradwire {
namespace {

constexpr std::size_t kAlign = 128;  // bytes: factors share no cache lines, and scratch holds doubles

std::size_t align(std::size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

/// Makes room for `count` floats at the end; returns where.
std::size_t append(std::size_t& elems, std::size_t count) {
  const std::size_t first = elems;
  elems += align(count * sizeof(float)) / sizeof(float);
  return first;
}

}  // namespace

LowRankMemory::LowRankMemory(std::span<const BucketItem> items, bool lossy_rounds, Space space)
    : lossy_rounds_(lossy_rounds), space_(space) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (items[i].count > 0) add(items, i);
  }
  const bool any_lossy = std::any_of(matrices_.begin(), matrices_.end(), [](const Matrix& m) { return m.lossy; });
  lost_elems_ = any_lossy ? mine_elems_ : 0;
}

void LowRankMemory::add(std::span<const BucketItem> items, std::size_t i) {
  const BucketItem& item = items[i];
  const LowRank& scheme = *item.compressor.low_rank();
  Matrix matrix{.item = i, .view = matrix_view(item.shape)};
  if (!matrix.view.is_matrix()) {
    fail(Errc::unsupported, "low rank cannot carry {}, which is no matrix: its shape has {} dimensions", item.name,
         std::max<std::size_t>(item.shape.size(), 1));
  }
  if (matrices_.empty()) scheme_ = scheme;
  if (scheme.schedule() != scheme_.schedule()) {
    fail(Errc::unsupported, "low rank cannot carry {} ({}) in one bucket with {} ({})", item.name, scheme.schedule(),
         items[matrices_.front().item].name, scheme_.schedule());
  }
  matrix.rank = scheme.rank_for(matrix.view);
  matrix.lossy = lossy_rounds_ || !make_compressor(scheme.factors).traits().lossless;
  matrix.staged = item.dtype != DType::f32;
  const std::size_t longer = std::max(matrix.view.rows, matrix.view.cols);
  matrix.left_first = append(left_elems_, matrix.view.rows * matrix.rank);
  matrix.right_first = append(right_elems_, matrix.view.cols * matrix.rank);
  matrix.mine_first = append(mine_elems_, longer * matrix.rank);
  if (matrix.staged) matrix.staged_first = append(staged_elems_, item.count);
  if (space_ == Space::host) {
    scratch_bytes_ = std::max(scratch_bytes_, ops::orthonormalise_scratch_bytes(longer, matrix.rank));
  }
  matrices_.push_back(matrix);
}

void LowRankMemory::lay_out(std::size_t round_bytes) {
  std::size_t bytes = 0;
  const auto take = [&](std::size_t size) {
    const std::size_t first = bytes;
    bytes += align(size);
    return first;
  };
  left_ = take(left_elems_ * sizeof(float));
  right_ = take(right_elems_ * sizeof(float));
  mine_ = take(mine_elems_ * sizeof(float));
  lost_ = take(lost_elems_ * sizeof(float));
  staged_ = take(staged_elems_ * sizeof(float));
  scratch_ = take(scratch_bytes_);
  round_ = take(round_bytes);
  round_bytes_ = round_bytes;
  workspace_bytes_ = bytes + kAlign;  // the caller's memory may begin anywhere
}

void LowRankMemory::set_workspace(Bytes workspace) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(workspace.data);
  const std::size_t skipped = (kAlign - address % kAlign) % kAlign;
  base_ = workspace.slice(skipped, workspace.size - skipped);
}

}  // namespace gradwire
