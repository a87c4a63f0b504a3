#pragma once
#include <vector>

#include "gradwire/compressor.hpp"

namespace gradwire {

/// Squares of a matrix's `most` largest singular values (fewer where it has fewer rows or columns), descending: by a
/// randomised range finder with two power iterations (Halko, Martinsson and Tropp 2011, algorithm 4.4), whose error is
/// far below the value itself where the spectrum falls. `m` is rows x cols, row after row, all finite. Throws
/// Errc::non_finite where its products with the factors overflow f32.
[[nodiscard]] std::vector<double> largest_singular_squares(const float* m, MatrixView view, std::size_t most,
                                                           const RandomKey& key);

}  // namespace gradwire
