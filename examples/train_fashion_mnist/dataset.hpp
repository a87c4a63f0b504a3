#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace demo {

/// Grey images with their classes.
struct Split {
  std::vector<std::uint8_t> pixels;  ///< image after image, row after row
  std::vector<std::uint8_t> labels;

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(labels.size()); }
};

struct Dataset {
  static constexpr std::int64_t kSide = 28;  ///< images are square
  static constexpr std::int64_t kClasses = 10;
  Split train;
  Split test;
};

/// Reads Fashion-MNIST's four gzip files. Throws std::runtime_error naming the file, what is wrong with it and the
/// Debian package it comes from.
[[nodiscard]] Dataset load_dataset(const std::string& directory);

}  // namespace demo
