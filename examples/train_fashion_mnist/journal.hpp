#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "options.hpp"

#include "gradwire/hook.hpp"
#include "gradwire/run_log.hpp"

namespace demo {

/// Logs a training for `gradwire report`.
class Journal {
 public:
  Journal(const Options& options, const gradwire::Communicator& comm);

  /// After each step.
  void step(const gradwire::StepReport& report, const gradwire::GradientHook& hook);
  /// Of the test images, a fraction.
  void accuracy(std::uint64_t step, double value) { log_.accuracy(step, value, "test accuracy"); }
  /// At the end. Throws gradwire::Error naming the file when it cannot be written.
  void write() const { log_.write(path_); }

 private:
  std::string path_;
  gradwire::RunLog log_;
  std::size_t events_ = 0;  // that are logged
};

}  // namespace demo
