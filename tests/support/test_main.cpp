// main() of the tests that need one process.
#include <gtest/gtest.h>

#include "support/watchdog.hpp"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  gradwire::test::install_watchdog();
  return RUN_ALL_TESTS();
}
