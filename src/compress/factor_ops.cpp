#include "compress/factor_ops.hpp"

#include "compress/isa.hpp"
#include "compress/random.hpp"

// Eigen as plain loops: its sums then have one order on every machine, whatever the alignment. The other name keeps
// this build of its templates apart from a program's own, which the linker would otherwise merge with it.
#define EIGEN_DONT_VECTORIZE
#define EIGEN_DONT_PARALLELIZE
#define EIGEN_MPL2_ONLY
#define EIGEN_NO_MALLOC  // asserted, in builds with assertions
#define Eigen gradwire_eigen
#include <Eigen/Householder>

namespace gradwire::ops {
namespace {

using Matrix = Eigen::Map<Eigen::MatrixXd>;
using Column = Eigen::Map<Eigen::VectorXd>;

/// A column of which less than this remains outside the span of those before it is rounding.
constexpr double kDependent = 0x1p-20;

void fill_column(const Factor& factor, std::size_t j, const RandomKey& key) {
  const RandomStream random(key);
  float* const column = factor.column(j);
  for (std::size_t i = 0; i < factor.length; ++i) {
    column[i] = 2 * RandomStream::unit_interval(random.at(j * factor.length + i)) - 1;
  }
}

/// Householder's QR: `a` becomes reflectors, `tau` their scales; R's diagonal relative to its column's length goes to
/// `independence`.
void factorise(Matrix& a, Column& tau, Column& independence, double* work) {
  for (Eigen::Index j = 0; j < a.cols(); ++j) {
    const Eigen::Index below = a.rows() - j;
    const double length = a.col(j).norm();  // what earlier reflections keep
    double beta = 0;
    a.col(j).tail(below).makeHouseholderInPlace(tau(j), beta);
    independence(j) = length > 0 ? std::abs(beta) / length : 0;
    a.bottomRightCorner(below, a.cols() - j - 1).applyHouseholderOnTheLeft(a.col(j).tail(below - 1), tau(j), work);
  }
}

/// q = the first columns of the product of the reflectors.
void form_basis(const Matrix& a, const Column& tau, Matrix& q, double* work) {
  q.setIdentity();
  for (Eigen::Index j = a.cols(); j-- > 0;) {
    const Eigen::Index below = a.rows() - j;
    q.bottomRightCorner(below, a.cols() - j).applyHouseholderOnTheLeft(a.col(j).tail(below - 1), tau(j), work);
  }
}

}  // namespace

void times(const kernels::MatrixTimes& job) { isa::kernels<FactorKernels>().times(job); }
void transposed_times(const kernels::MatrixTimes& job) { isa::kernels<FactorKernels>().transposed_times(job); }
bool expand(const kernels::Expand& job) { return isa::kernels<FactorKernels>().expand(job); }

std::size_t orthonormalise_scratch_bytes(std::size_t length, std::size_t rank) noexcept {
  return (2 * length * rank + 3 * rank) * sizeof(double);
}

void orthonormalise(const Factor& factor, std::byte* scratch, const RandomKey& key) {
  if (factor.count() == 0) return;
  const auto length = static_cast<Eigen::Index>(factor.length);
  const auto rank = static_cast<Eigen::Index>(factor.rank);
  auto* const doubles = reinterpret_cast<double*>(scratch);
  Matrix a(doubles, length, rank);
  Matrix q(a.data() + a.size(), length, rank);
  Column tau(q.data() + q.size(), rank);
  Column independence(tau.data() + rank, rank);
  double* const work = independence.data() + rank;
  Eigen::Map<Eigen::MatrixXf> f(factor.data, length, rank);
  a = f.cast<double>();
  factorise(a, tau, independence, work);
  if (!(independence.array() > kDependent).all()) {
    for (std::size_t j = 0; j < factor.rank; ++j) {
      if (independence(static_cast<Eigen::Index>(j)) <= kDependent) fill_column(factor, j, key);
    }
    a = f.cast<double>();
    factorise(a, tau, independence, work);
  }
  form_basis(a, tau, q, work);
  f = q.cast<float>();
}

void fill_random(const Factor& factor, const RandomKey& key) {
  for (std::size_t j = 0; j < factor.rank; ++j) fill_column(factor, j, key);
}

}  // namespace gradwire::ops
