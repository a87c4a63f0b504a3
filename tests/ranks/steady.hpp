#pragma once
#include <gtest/gtest.h>

#include <string>

#include "support/allocations.hpp"

#include "gradwire/transport.hpp"

namespace gradwire::test {

/// `checked` compares texts, which it builds anew each time: it is for debugging.
inline bool is_checked(const Communicator& comm) {
  return comm.transport().info().detail.find("checked") != std::string::npos;
}

/// Pools and queues grow to the most that was ever in flight, which depends on timing, and then stop: after a warm-up,
/// most batches of rounds allocate nothing. One allocation a round would leave no such batch.
template <class Round>
void expect_steady(Round&& round, const std::string& what) {
  for (int i = 0; i < 50; ++i) round();
  int clean = 0;
  for (int batch = 0; batch < 20; ++batch) {
    const AllocationCount count;
    for (int i = 0; i < 5; ++i) round();
    clean += count.value() == 0 ? 1 : 0;
  }
  EXPECT_GE(clean, 15) << what;
}

}  // namespace gradwire::test
