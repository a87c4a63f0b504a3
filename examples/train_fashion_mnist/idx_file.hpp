#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace demo {

/// Contents of an IDX file of unsigned bytes (the format of MNIST): big-endian sizes, then the bytes in row-major
/// order.
struct IdxFile {
  std::vector<std::int64_t> shape;
  std::vector<std::uint8_t> values;
};

/// Reads a gzip IDX file that must have `dimensions` dimensions.
/// Throws std::runtime_error naming the file when it cannot be read or is malformed, too short or too long.
[[nodiscard]] IdxFile read_idx_file(const std::string& path, std::size_t dimensions);

}  // namespace demo
