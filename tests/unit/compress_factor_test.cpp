// Low rank's kernels and specs: every instruction set gives the reference's bits; orthonormal bases of any columns.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <random>

#include "compress/factor_ops.hpp"
#include "compress/isa.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

std::vector<float> normals(std::size_t count, unsigned seed) {
  std::minstd_rand engine(seed + 1);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(engine);
  return values;
}

/// Everything the kernels write, from memory that starts `shift` floats after an aligned address.
struct Outputs {
  std::vector<float> left, right, result, residual, shared_result, shared_residual, bare_result;
  bool operator==(const Outputs&) const = default;
};

Outputs run_kernels(const FactorKernels& kernels, MatrixView view, std::size_t rank, std::size_t shift) {
  const std::size_t rows = view.rows;
  const std::size_t cols = view.cols;
  std::vector<float> m(rows * cols + shift);
  const std::vector<float> values = normals(rows * cols, 3);
  std::vector<float> left_basis = normals(rows * rank + shift, 4);
  std::vector<float> right_basis = normals(cols * rank + shift, 5);
  const auto refill = [&] { std::copy(values.begin(), values.end(), m.begin() + static_cast<std::ptrdiff_t>(shift)); };
  const float* const a = left_basis.data() + shift;
  const float* const b = right_basis.data() + shift;
  float* const data = m.data() + shift;
  refill();

  Outputs out;
  out.left.resize(rows * rank + shift);
  out.right.resize(cols * rank + shift);
  kernels.times({data, rows, cols, b, rank, out.left.data() + shift});
  kernels.transposed_times({data, rows, cols, a, rank, out.right.data() + shift});
  const auto expand = [&](const float* left_mine, const float* right_mine, bool with_residual) {
    std::vector<float> residual(rows * cols + shift);
    refill();
    EXPECT_TRUE(kernels.expand(
        {data, rows, cols, rank, a, b, left_mine, right_mine, with_residual ? residual.data() + shift : nullptr}));
    return std::pair(m, residual);
  };
  std::tie(out.result, out.residual) = expand(a, out.right.data() + shift, true);
  std::tie(out.shared_result, out.shared_residual) = expand(a, b, true);
  out.bare_result = expand(a, b, false).first;
  return out;
}

class FactorKernelsTest : public ::testing::TestWithParam<std::string_view> {};

TEST_P(FactorKernelsTest, GiveTheReferencesBits) {
  const FactorKernels& reference = isa::kernels_of<FactorKernels>("scalar");
  const FactorKernels& kernels = isa::kernels_of<FactorKernels>(GetParam());
  for (const MatrixView view :
       {MatrixView{1, 1}, MatrixView{1, 37}, MatrixView{37, 1}, MatrixView{3, 5}, MatrixView{2, 16}, MatrixView{5, 15},
        MatrixView{7, 33}, MatrixView{64, 48}, MatrixView{9, 1024}, MatrixView{6, 1025}, MatrixView{13, 2100}}) {
    for (const std::size_t rank : {1u, 2u, 3u, 4u, 5u, 7u, 8u, 13u}) {
      for (const std::size_t shift : {0u, 1u}) {
        EXPECT_EQ(run_kernels(kernels, view, rank, shift), run_kernels(reference, view, rank, shift))
            << view.rows << "x" << view.cols << " rank " << rank << " shift " << shift;
      }
    }
  }
}

TEST_P(FactorKernelsTest, MatchClosedForms) {
  const FactorKernels& kernels = isa::kernels_of<FactorKernels>(GetParam());
  constexpr std::size_t kRows = 5;
  constexpr std::size_t kCols = 19;
  std::vector<float> m(kRows * kCols);
  for (std::size_t i = 0; i < m.size(); ++i) m[i] = static_cast<float>(i);
  std::vector<float> ones(2 * kCols, 1.0F);
  std::fill(ones.begin() + kCols, ones.end(), 2.0F);
  std::vector<float> left(2 * kRows);
  kernels.times({m.data(), kRows, kCols, ones.data(), 2, left.data()});
  for (std::size_t row = 0; row < kRows; ++row) {
    const auto sum = static_cast<float>(kCols * (2 * row * kCols + kCols - 1) / 2);
    EXPECT_EQ(left[row], sum);
    EXPECT_EQ(left[kRows + row], 2 * sum);
  }
  std::vector<float> right(kCols);
  kernels.transposed_times({m.data(), kRows, kCols, ones.data(), 1, right.data()});
  for (std::size_t col = 0; col < kCols; ++col) {
    EXPECT_EQ(right[col], static_cast<float>(kRows * col + kCols * kRows * (kRows - 1) / 2));
  }
  std::vector<float> residual(m.size());
  const float huge = 3e38F;
  std::vector<float> large(2 * kCols, huge);
  EXPECT_FALSE(kernels.expand(
      {m.data(), kRows, kCols, 1, large.data(), large.data(), large.data(), large.data(), residual.data()}));
}

std::string isa_param_name(const ::testing::TestParamInfo<std::string_view>& info) { return std::string(info.param); }
INSTANTIATE_TEST_SUITE_P(All, FactorKernelsTest, ::testing::ValuesIn(isa::list()), isa_param_name);

/// Largest entry of Q^T Q - I.
double defect(const Factor& q) {
  double worst = 0;
  for (std::size_t i = 0; i < q.rank; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      double dot = 0;
      for (std::size_t k = 0; k < q.length; ++k) dot += double{q.column(i)[k]} * double{q.column(j)[k]};
      worst = std::max(worst, std::abs(dot - (i == j ? 1 : 0)));
    }
  }
  return worst;
}

/// Share of `x` outside the span of q.
double outside(const Factor& q, const float* x) {
  std::vector<double> rest(x, x + q.length);
  double norm = 0;
  for (const double value : rest) norm += value * value;
  for (std::size_t j = 0; j < q.rank; ++j) {
    double dot = 0;
    for (std::size_t k = 0; k < q.length; ++k) dot += double{q.column(j)[k]} * double{x[k]};
    for (std::size_t k = 0; k < q.length; ++k) rest[k] -= dot * double{q.column(j)[k]};
  }
  double left = 0;
  for (const double value : rest) left += value * value;
  return norm > 0 ? std::sqrt(left / norm) : 0;
}

struct Orthonormal {
  std::vector<float> before;
  std::vector<float> memory;
  Factor factor;

  Orthonormal(std::vector<float> values, std::size_t rank, const RandomKey& key = {})
      : before(values), memory(std::move(values)), factor{memory.data(), memory.size() / rank, rank} {
    std::vector<double> scratch(ops::orthonormalise_scratch_bytes(factor.length, rank) / sizeof(double));
    ops::orthonormalise(factor, reinterpret_cast<std::byte*>(scratch.data()), key);
  }
  [[nodiscard]] const float* given(std::size_t j) const { return before.data() + j * factor.length; }
};

TEST(Orthonormalise, SpansWhatItWasGiven) {
  for (const std::size_t length : {1u, 2u, 7u, 100u, 1031u}) {
    for (const std::size_t rank : {1u, 2u, 4u, 9u, 64u}) {
      if (rank > length) continue;
      for (const float scale : {1.0F, 1e-30F, 1e30F}) {
        std::vector<float> values = normals(length * rank, 8);
        for (float& value : values) value *= scale;
        const Orthonormal q(values, rank);
        EXPECT_LT(defect(q.factor), 1e-6);
        for (std::size_t j = 0; j < rank; ++j) EXPECT_LT(outside(q.factor, q.given(j)), 1e-5) << length << " " << rank;
      }
    }
  }
}

/// Columns that differ by a millionth, where Cholesky of P^T P in f32 would fail.
TEST(Orthonormalise, IsStableForNearlyEqualColumns) {
  constexpr std::size_t kLength = 500;
  std::vector<float> values = normals(4 * kLength, 9);
  for (std::size_t j = 1; j < 4; ++j) {
    for (std::size_t i = 0; i < kLength; ++i) values[j * kLength + i] = values[i] + 1e-5F * values[j * kLength + i];
  }
  const Orthonormal q(values, 4);
  EXPECT_LT(defect(q.factor), 1e-6);
  for (std::size_t j = 0; j < 4; ++j) EXPECT_LT(outside(q.factor, q.given(j)), 1e-6);
}

TEST(Orthonormalise, ReplacesDependentColumnsAtRandom) {
  constexpr std::size_t kLength = 60;
  const std::vector<float> zeros(3 * kLength, 0.0F);
  const Orthonormal from_zero(zeros, 3, {.seed = 1});
  EXPECT_LT(defect(from_zero.factor), 1e-6);
  for (std::size_t i = 0; i < 3 * kLength; ++i) EXPECT_LT(std::abs(from_zero.memory[i]), 0.6F);
  EXPECT_EQ(Orthonormal(zeros, 3, {.seed = 1}).memory, from_zero.memory);
  EXPECT_NE(Orthonormal(zeros, 3, {.seed = 2}).memory, from_zero.memory);

  std::vector<float> twice = normals(3 * kLength, 10);
  for (std::size_t i = 0; i < kLength; ++i) twice[kLength + i] = -3 * twice[i];
  const Orthonormal q(twice, 3);
  EXPECT_LT(defect(q.factor), 1e-6);
  for (std::size_t j = 0; j < 3; ++j) EXPECT_LT(outside(q.factor, q.given(j)), 1e-5);
}

std::uint32_t hash_of(const std::vector<float>& values) {
  std::uint32_t hash = 2166136261u;
  for (const float value : values) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    hash = (hash ^ bits) * 16777619u;
  }
  return hash;
}

/// Written down once: any build, on any machine, must give these bits.
TEST(Orthonormalise, HasFixedBits) {
  EXPECT_EQ(hash_of(Orthonormal({3, 4, 0, 0, 1, 2, 2, 0, 5, 5, 5, 5}, 3).memory), 1034315261u);
  std::vector<float> values(200 * 60);
  std::uint32_t x = 1;
  for (float& value : values) {
    x = x * 1664525u + 1013904223u;
    value = static_cast<float>(static_cast<std::int32_t>(x >> 8) - (1 << 23)) * 1e-6F;
  }
  EXPECT_EQ(hash_of(Orthonormal(values, 60).memory), 2640357277u);
}

TEST(MatrixViews, FollowTheRule) {
  const auto view = [](std::vector<std::size_t> shape) { return matrix_view(shape); };
  EXPECT_EQ(view({}), (MatrixView{0, 0}));
  EXPECT_EQ(view({7}), (MatrixView{0, 0}));
  EXPECT_EQ(view({7, 0}), (MatrixView{0, 0}));
  EXPECT_EQ(view({7, 1}), (MatrixView{7, 1}));
  EXPECT_EQ(view({1, 7}), (MatrixView{1, 7}));
  EXPECT_EQ(view({64, 32, 3, 3}), (MatrixView{64, 288}));
}

TEST(LowRankSpecs, PayWhereTheFactorsAreSmaller) {
  LowRank scheme;  // rank 4, min_ratio 2
  EXPECT_FALSE(scheme.pays({}));
  EXPECT_FALSE(scheme.pays({16, 16}));  // 4 * 32 * 2 == 16 * 16
  EXPECT_TRUE(scheme.pays({16, 17}));
  EXPECT_FALSE(scheme.pays({1, 1000000}));
  scheme.min_ratio = 0;
  EXPECT_TRUE(scheme.pays({1, 1}));
  EXPECT_EQ(scheme.rank_for({3, 100}), 3u);
  EXPECT_EQ(scheme.rank_for({100, 100}), 4u);
}

TEST(LowRankSpecs, MakeNoFrames) {
  const Compressor compressor = make_compressor("powersgd(8)");
  ASSERT_NE(compressor.low_rank(), nullptr);
  EXPECT_EQ(compressor.low_rank()->rank, 8u);
  std::string message;
  EXPECT_EQ(code_of([&] { (void)compressor.max_frame_size(10, DType::f32); }, &message), Errc::unsupported);
  EXPECT_THAT(message, HasSubstr("carried out by the algorithm lowrank"));
  float x = 1;
  std::byte out[64];
  EXPECT_EQ(code_of([&] { (void)compressor.encode(ConstTensor(&x, 1), {out, 64}, {}, {}); }), Errc::unsupported);
  EXPECT_EQ(code_of([&] { (void)compressor.decode(ConstBytes(out, 64), {&x, 1}, Write::assign); }), Errc::unsupported);
}

}  // namespace
}  // namespace gradwire::testing
