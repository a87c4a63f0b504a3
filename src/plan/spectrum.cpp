#include "plan/spectrum.hpp"

#include <algorithm>

#include "base/fail.hpp"
#include "compress/factor_ops.hpp"
#include "compress/vector_ops.hpp"

// See compress/factor_ops.cpp.
#define EIGEN_DONT_VECTORIZE
#define EIGEN_DONT_PARALLELIZE
#define EIGEN_MPL2_ONLY
#define Eigen gradwire_eigen
#include <Eigen/Eigenvalues>

#include "gradwire/buffer.hpp"

namespace gradwire {
namespace {

constexpr std::size_t kOversampling = 8;
constexpr int kPowerIterations = 2;

void require_finite(const Factor& product) {
  if (ops::all_finite({product.data, product.count()})) return;
  fail(Errc::non_finite, "its products with factors are beyond f32");
}

struct Range {
  const float* m;
  MatrixView view;
  Factor left;
  Factor right;
  RandomKey key;
  Space space;
  StreamRef stream;
};

/// right = m^T left, whose columns are an orthonormal basis of nearly all of m. On devices NaN and Inf stay to the end.
void find_range(const Range& r) {
  const bool on_host = r.space == Space::host;
  const std::size_t longer = std::max(r.view.rows, r.view.cols);
  const Buffer scratch(on_host ? ops::orthonormalise_scratch_bytes(longer, r.right.rank) : 0);
  const auto orthonormalise = [&](const Factor& factor) {
    const kernels::OrthonormaliseJob job{factor, r.key};
    ops::orthonormalise({&job, 1}, scratch.data(), r.space, r.stream);
  };
  const auto require_finite_here = [&](const Factor& product) {
    if (on_host) require_finite(product);
  };
  for (int i = 0; i <= kPowerIterations; ++i) {
    const kernels::MatrixTimes times{r.m, r.view.rows, r.view.cols, r.right.data, r.right.rank, r.left.data};
    ops::times({&times, 1}, r.space, r.stream);
    require_finite_here(r.left);
    orthonormalise(r.left);
    const kernels::MatrixTimes transposed{r.m, r.view.rows, r.view.cols, r.left.data, r.left.rank, r.right.data};
    ops::transposed_times({&transposed, 1}, r.space, r.stream);
    require_finite_here(r.right);
    if (i < kPowerIterations) orthonormalise(r.right);
  }
}

}  // namespace

std::size_t range_columns(MatrixView view, std::size_t most) noexcept {
  return std::min(most + kOversampling, std::min(view.rows, view.cols));
}

std::vector<double> largest_singular_squares(const float* m, MatrixView view, std::size_t most, const RandomKey& key) {
  const std::size_t rank = range_columns(view, most);
  std::vector<float> left_values(view.rows * rank);
  std::vector<float> right_values(view.cols * rank);
  const Factor left{left_values.data(), view.rows, rank};
  const Factor right{right_values.data(), view.cols, rank};
  ops::fill_random(right, key);
  find_range({m, view, left, right, key, Space::host, StreamRef::host()});
  return range_squares(right, most);
}

void find_range_on_device(const float* m, MatrixView view, const Factor& left, const Factor& right,
                          const RandomKey& key, StreamRef stream) {
  find_range({m, view, left, right, key, Space::device, stream});
}

std::vector<double> range_squares(const Factor& right, std::size_t most) {
  require_finite(right);
  // right = m^T left: its Gram matrix has the squares as eigenvalues.
  const auto r = static_cast<Eigen::Index>(right.rank);
  const Eigen::MatrixXd columns =
      Eigen::Map<const Eigen::MatrixXf>(right.data, static_cast<Eigen::Index>(right.length), r).cast<double>();
  const Eigen::VectorXd squares =
      Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(columns.transpose() * columns, Eigen::EigenvaluesOnly)
          .eigenvalues();
  std::vector<double> largest;
  for (std::size_t i = 0; i < std::min(most, right.rank); ++i)
    largest.push_back(std::max(squares(r - 1 - static_cast<Eigen::Index>(i)), 0.0));
  return largest;
}

}  // namespace gradwire
