#pragma once
#include <string>
#include <vector>

#include "learner.hpp"

namespace demo {

/// Writes gradients as they are before they are sent, one NumPy file each: DIR/<tag>.<parameter>.npy, little-endian f4
/// of the parameter's shape.
class Recorder {
 public:
  /// Creates the directory. Throws std::exception naming it when that fails.
  Recorder(std::string directory, std::vector<Learner::Parameter> parameters);

  /// Throws std::runtime_error naming the file that cannot be written.
  void write(const std::string& tag, const Learner::Gradient& gradient) const;

 private:
  std::string directory_;
  std::vector<Learner::Parameter> parameters_;
};

}  // namespace demo
