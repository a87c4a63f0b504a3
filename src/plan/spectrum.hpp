#pragma once
#include <vector>

#include "compress/factor_kernels.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire {

/// Squares of a matrix's `most` largest singular values (fewer where it has fewer rows or columns), descending: by a
/// randomised range finder with two power iterations (Halko, Martinsson and Tropp 2011, algorithm 4.4), whose error is
/// far below the value itself where the spectrum falls. `m` is rows x cols, row after row, all finite. Throws
/// Errc::non_finite where its products with the factors overflow f32.
[[nodiscard]] std::vector<double> largest_singular_squares(const float* m, MatrixView view, std::size_t most,
                                                           const RandomKey& key);

// The same of a matrix in device memory, in three parts, of which the second only launches.

/// Columns of the factors that `most` singular values are found with.
[[nodiscard]] std::size_t range_columns(MatrixView view, std::size_t most) noexcept;
/// `right`: on entry random numbers (ops::fill_random()), at the end what range_squares() reads. All memory is the
/// device's.
void find_range_on_device(const float* m, MatrixView view, const Factor& left, const Factor& right,
                          const RandomKey& key, StreamRef stream);
/// `right` is host memory. Throws Errc::non_finite.
[[nodiscard]] std::vector<double> range_squares(const Factor& right, std::size_t most);

}  // namespace gradwire
