#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace gradwire {

/// \file What RunLog keeps of what there is any number of. docs/run-format.md has the numbers too.

inline constexpr std::size_t kMaxPoints = 2000;

/// Sums over consecutive steps.
struct StepGroup {
  std::uint64_t first = 0;
  std::uint64_t steps = 0;
  double wire_bytes = 0;
  double dense_bytes = 0;
  double exposed_us = 0;
  double encode_us = 0;
  double wire_us = 0;
  double decode_us = 0;
  std::uint64_t skipped = 0;

  StepGroup& operator+=(const StepGroup& other) {
    steps += other.steps;
    wire_bytes += other.wire_bytes;
    dense_bytes += other.dense_bytes;
    exposed_us += other.exposed_us;
    encode_us += other.encode_us;
    wire_us += other.wire_us;
    decode_us += other.decode_us;
    skipped += other.skipped;
    return *this;
  }
};

/// At most kMaxPoints groups of equal size; the last one may still be filling.
class StepSeries {
 public:
  void add(const StepGroup& step) {
    if (!groups_.empty() && groups_.back().steps < size_) {
      groups_.back() += step;
      return;
    }
    if (groups_.size() == kMaxPoints) halve();
    groups_.push_back(step);
  }
  [[nodiscard]] const std::vector<StepGroup>& groups() const { return groups_; }

 private:
  void halve() {
    for (std::size_t i = 0; i < groups_.size() / 2; ++i) {
      groups_[i] = groups_[2 * i];
      groups_[i] += groups_[2 * i + 1];
    }
    groups_.resize(groups_.size() / 2);
    size_ *= 2;
  }

  std::vector<StepGroup> groups_;
  std::uint64_t size_ = 1;
};

struct CurvePoint {
  std::uint64_t step = 0;
  double value = 0;
};

/// Every 2^k-th point that was added, and the newest.
struct Curve {
  std::vector<CurvePoint> points;
  std::optional<CurvePoint> newest;
  std::uint64_t stride = 1;
  std::uint64_t added = 0;

  void add(CurvePoint point) {
    newest = point;
    if (added++ % stride != 0) return;
    if (points.size() == kMaxPoints) {
      for (std::size_t i = 0; i < points.size() / 2; ++i) points[i] = points[2 * i];
      points.resize(points.size() / 2);
      stride *= 2;
      if ((added - 1) % stride != 0) return;
    }
    points.push_back(point);
  }
};

/// The oldest and the newest `capacity` / 2 of what was added.
template <class T>
class Ends {
 public:
  explicit Ends(std::size_t capacity) : capacity_(capacity) {}

  void add(T item) {
    if (items_.size() == capacity_) {
      items_.erase(items_.begin() + static_cast<std::ptrdiff_t>(capacity_ / 2));
      ++left_out_;
    }
    items_.push_back(std::move(item));
  }
  [[nodiscard]] const std::vector<T>& items() const { return items_; }
  [[nodiscard]] std::vector<T>& items() { return items_; }
  [[nodiscard]] std::uint64_t left_out() const { return left_out_; }

 private:
  std::size_t capacity_;
  std::vector<T> items_;
  std::uint64_t left_out_ = 0;
};

}  // namespace gradwire
