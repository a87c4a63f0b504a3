#pragma once
#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "base/atomic_file.hpp"

#include "gradwire/buffer.hpp"
#include "gradwire/types.hpp"

namespace gradwire::tools {

/// A NumPy array in memory, C order.
struct NpyArray {
  std::vector<std::size_t> shape;
  std::size_t count = 0;  ///< product of the shape; 1 for a scalar
  DType dtype = DType::f32;
  Buffer data;

  [[nodiscard]] Tensor tensor() const noexcept { return data.tensor(count, dtype); }
};

/// Reads a .npy file, format 1.0, 2.0 or 3.0, holding little-endian f4 or f2 in C order, and nothing after it.
/// Throws Errc::invalid_argument naming the file and what is wrong for anything else.
[[nodiscard]] NpyArray read_npy(const std::filesystem::path& path);

/// Writes `values` (f32 or f16) with `shape` as format 1.0, or 2.0 where the shape is too long for that.
void write_npy(AtomicFile& file, const std::vector<std::size_t>& shape, ConstTensor values);

/// As Python prints a shape: "()", "(3,)", "(3, 4)".
[[nodiscard]] std::string format_shape(const std::vector<std::size_t>& shape);

}  // namespace gradwire::tools
