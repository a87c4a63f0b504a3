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

}  // namespace

std::vector<double> largest_singular_squares(const float* m, MatrixView view, std::size_t most, const RandomKey& key) {
  const std::size_t shorter = std::min(view.rows, view.cols);
  const std::size_t rank = std::min(most + kOversampling, shorter);
  std::vector<float> left_values(view.rows * rank);
  std::vector<float> right_values(view.cols * rank);
  const Factor left{left_values.data(), view.rows, rank};
  const Factor right{right_values.data(), view.cols, rank};
  const Buffer scratch(ops::orthonormalise_scratch_bytes(std::max(view.rows, view.cols), rank));

  ops::fill_random(right, key);
  for (int i = 0; i <= kPowerIterations; ++i) {
    ops::times({m, view.rows, view.cols, right.data, rank, left.data});
    require_finite(left);
    ops::orthonormalise(left, scratch.data(), key);
    ops::transposed_times({m, view.rows, view.cols, left.data, rank, right.data});
    require_finite(right);
    if (i < kPowerIterations) ops::orthonormalise(right, scratch.data(), key);
  }
  // right = m^T left: its Gram matrix has the squares as eigenvalues.
  const auto r = static_cast<Eigen::Index>(rank);
  const Eigen::MatrixXd columns =
      Eigen::Map<const Eigen::MatrixXf>(right.data, static_cast<Eigen::Index>(view.cols), r).cast<double>();
  const Eigen::VectorXd squares =
      Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(columns.transpose() * columns, Eigen::EigenvaluesOnly)
          .eigenvalues();
  std::vector<double> largest;
  for (std::size_t i = 0; i < std::min(most, shorter); ++i) {
    largest.push_back(std::max(squares(r - 1 - static_cast<Eigen::Index>(i)), 0.0));
  }
  return largest;
}

}  // namespace gradwire
