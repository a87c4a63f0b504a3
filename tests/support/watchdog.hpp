#pragma once
#include <chrono>
#include <functional>
#include <string>

namespace gradwire::test {

/// Adds a gtest listener that ends the process when one test takes longer than `limit`: it prints the test's name,
/// every Watched activity and the stack of every thread, and aborts. A limit of 0 means GRADWIRE_TEST_LIMIT_S, or else
/// 120 s. `who` prefixes each line ("rank 2"). Call once, after InitGoogleTest; the mains of this folder do.
void install_watchdog(const std::string& who = {}, std::chrono::seconds limit = std::chrono::seconds(0));

/// What the watchdog prints about an activity while this object lives. `describe` is called from another thread, and
/// only when the test is given up.
class Watched {
 public:
  explicit Watched(std::function<std::string()> describe);
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;
  ~Watched();
};

}  // namespace gradwire::test
