#pragma once
#include <cstddef>

namespace gradwire::test {

/// Counts what this thread allocates through operator new while it lives; what a C library allocates for itself is not
/// counted. One at a time per thread.
class AllocationCount {
 public:
  AllocationCount();
  AllocationCount(const AllocationCount&) = delete;
  AllocationCount& operator=(const AllocationCount&) = delete;
  ~AllocationCount();
  [[nodiscard]] std::size_t value() const;
};

}  // namespace gradwire::test
