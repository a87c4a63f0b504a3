#pragma once
#include <algorithm>
#include <cstddef>
#include <span>

#include "base/host_device.hpp"
#include "compress/factor_ops.hpp"

/// \file Jobs of several matrices in one launch: they travel with its parameters, so nothing is copied before it.
namespace gradwire::device {

inline constexpr unsigned kMostJobs = 32;  // of at most 104 bytes: parameters of a launch are at most 4 KiB

template <class Job>
struct Batch {
  Job jobs[kMostJobs];
  std::size_t ends[kMostJobs];  ///< of each job's items, in those of all
  unsigned count = 0;

  [[nodiscard]] bool is_full() const noexcept { return count == kMostJobs; }
  [[nodiscard]] GRADWIRE_HD std::size_t items() const { return count == 0 ? 0 : ends[count - 1]; }
  void add(const Job& job, std::size_t items) {
    const std::size_t end = this->items() + items;
    jobs[count] = job;
    ends[count++] = end;
  }
  /// The job of an item, whose number within it `item` becomes.
  [[nodiscard]] GRADWIRE_HD const Job& find(std::size_t& item) const {
    unsigned low = 0;
    for (unsigned above = count - 1; low < above;) {
      const unsigned middle = (low + above) / 2;
      if (item < ends[middle]) {
        above = middle;
      } else {
        low = middle + 1;
      }
    }
    if (low > 0) item -= ends[low - 1];
    return jobs[low];
  }
};

/// A product, block by block: the sums of block b are at sums + b * factor elements, each as a factor.
struct ProductJob {
  kernels::MatrixTimes product;
  float* sums;
};

/// Adds them.
struct AddJob {
  const float* sums;
  float* factor;
  std::size_t count;  ///< elements of the factor
  std::size_t blocks;
};

[[nodiscard]] GRADWIRE_HD constexpr std::size_t divide_up(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

inline constexpr std::size_t kFactorGroup = 4;  // columns of a factor computed together
inline constexpr std::size_t kRowPair = 2;
inline constexpr std::size_t kSumLanes = 16;  // of times()
inline constexpr std::size_t kRowGroup = 4;   // of expand()

}  // namespace gradwire::device
