// Products of matrices with tall, narrow factors. Included once per instruction set.
//
// A matrix is read from memory once a product: what is used again (a row pair, a block of rows of a strip of columns,
// the factor's part that meets it) stays in the first two caches. At rank 4 that leaves memory the limit.
#if defined(GRADWIRE_SIMD_FACTOR_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_FACTOR_INL_
#undef GRADWIRE_SIMD_FACTOR_INL_
#else
#define GRADWIRE_SIMD_FACTOR_INL_
#endif

#include <algorithm>

#include "compress/factor_kernels.hpp"
#include "compress/simd/element-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

inline constexpr std::size_t kFactorGroup = 4;  // columns of a factor computed together

/// Columns of a matrix that are worked on together: a page of each row.
inline constexpr std::size_t kStrip = 1024;

/// Partial sums of two rows with four columns of the basis.
struct DotSums {
  HWY_ALIGN float lanes[2 * kFactorGroup][kRow];

  /// Those of lanes [v, v + Lanes) over the whole rows of 16 elements and the padded rest.
  HWY_INLINE void add(const float* const* rows, const float* const* basis, const PaddedRow<float>* rest,
                      std::size_t whole, std::size_t v) {
    const DF df;
    VF s0 = hn::Zero(df), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
    const auto step = [&](VF x, VF y, const float* b0, const float* b1, const float* b2, const float* b3) HWY_ATTR {
      const VF q0 = hn::LoadU(df, b0);
      const VF q1 = hn::LoadU(df, b1);
      const VF q2 = hn::LoadU(df, b2);
      const VF q3 = hn::LoadU(df, b3);
      s0 = hn::Add(s0, hn::Mul(x, q0));
      s1 = hn::Add(s1, hn::Mul(x, q1));
      s2 = hn::Add(s2, hn::Mul(x, q2));
      s3 = hn::Add(s3, hn::Mul(x, q3));
      t0 = hn::Add(t0, hn::Mul(y, q0));
      t1 = hn::Add(t1, hn::Mul(y, q1));
      t2 = hn::Add(t2, hn::Mul(y, q2));
      t3 = hn::Add(t3, hn::Mul(y, q3));
    };
    for (std::size_t i = v; i < whole; i += kRow) {
      step(hn::LoadU(df, rows[0] + i), hn::LoadU(df, rows[1] + i), basis[0] + i, basis[1] + i, basis[2] + i,
           basis[3] + i);
    }
    if (rest != nullptr) {
      step(hn::LoadU(df, rest[0].data + v), hn::LoadU(df, rest[1].data + v), rest[2].data + v, rest[3].data + v,
           rest[4].data + v, rest[5].data + v);
    }
    const VF all[] = {s0, s1, s2, s3, t0, t1, t2, t3};
    for (std::size_t k = 0; k < 2 * kFactorGroup; ++k) hn::StoreU(all[k], df, lanes[k] + v);
  }

  [[nodiscard]] HWY_INLINE float total(std::size_t row, std::size_t column) {
    float* const sums = lanes[row * kFactorGroup + column];
    add_halves<8>(sums);
    add_halves<4>(sums);
    sums[0] += sums[2];
    sums[1] += sums[3];
    return sums[0] + sums[1];
  }

 private:
  template <std::size_t half>
  static HWY_INLINE void add_halves(float* sums) {
    const hn::CappedTag<float, half> d;
    for (std::size_t v = 0; v < half; v += hn::Lanes(d))
      hn::Store(hn::Add(hn::Load(d, sums + v), hn::Load(d, sums + v + half)), d, sums + v);
  }
};

/// Two rows by four columns at a time; what lacks to that is computed twice and dropped.
inline void times_two_rows(const kernels::MatrixTimes& job, std::size_t row, std::size_t j) {
  const std::size_t height = std::min<std::size_t>(2, job.rows - row);
  const std::size_t width = std::min(kFactorGroup, job.rank - j);
  float totals[2][kFactorGroup] = {};
  for (std::size_t first = 0; first < job.cols; first += job.row_block()) {
    const std::size_t n = std::min(job.row_block(), job.cols - first);
    const std::size_t whole = n / kRow * kRow;
    const float* const m = job.m + row * job.cols + first;
    const float* const rows[2] = {m, m + (height - 1) * job.cols};
    const float* basis[kFactorGroup];
    for (std::size_t k = 0; k < kFactorGroup; ++k) {
      basis[k] = job.basis + (j + std::min(k, width - 1)) * job.cols + first;
    }
    PaddedRow<float> rest[2 + kFactorGroup];
    if (whole < n) {
      const std::size_t bytes = (n - whole) * sizeof(float);
      for (std::size_t k = 0; k < 2; ++k) std::memcpy(rest[k].data, rows[k] + whole, bytes);
      for (std::size_t k = 0; k < kFactorGroup; ++k) std::memcpy(rest[2 + k].data, basis[k] + whole, bytes);
    }
    DotSums sums;
    for (std::size_t v = 0; v < kRow; v += hn::Lanes(DF())) sums.add(rows, basis, whole < n ? rest : nullptr, whole, v);
    for (std::size_t r = 0; r < 2; ++r) {
      for (std::size_t k = 0; k < kFactorGroup; ++k) totals[r][k] += sums.total(r, k);
    }
  }
  for (std::size_t r = 0; r < height; ++r) {
    for (std::size_t k = 0; k < width; ++k) job.factor[(j + k) * job.rows + row + r] = totals[r][k];
  }
}

inline void times(const kernels::MatrixTimes& job) {
  for (std::size_t row = 0; row < job.rows; row += 2) {
    for (std::size_t j = 0; j < job.rank; j += kFactorGroup) times_two_rows(job, row, j);
  }
}

/// What four rows of a strip add to one column of the factor.
struct RowCoefficients {
  VF c0, c1, c2, c3;
  HWY_INLINE RowCoefficients(const float* c)
      : c0(hn::Set(DF(), c[0])), c1(hn::Set(DF(), c[1])), c2(hn::Set(DF(), c[2])), c3(hn::Set(DF(), c[3])) {}
  HWY_INLINE void add(VF m0, VF m1, VF m2, VF m3, float* sums) const {
    VF sum = hn::LoadU(DF(), sums);
    sum = hn::Add(sum, hn::Mul(c0, m0));
    sum = hn::Add(sum, hn::Mul(c1, m1));
    sum = hn::Add(sum, hn::Mul(c2, m2));
    sum = hn::Add(sum, hn::Mul(c3, m3));
    hn::StoreU(sum, DF(), sums);
  }
};

/// The sums of one block of rows in one strip, for up to four columns of the factor.
struct StripSums {
  HWY_ALIGN float of[kFactorGroup][kStrip];
  std::size_t width;

  /// Elements [from, n) of rows [row, row + height) of the strip at `col`, one product after another.
  HWY_INLINE void add_plainly(const kernels::MatrixTimes& job, std::size_t j, std::size_t row, std::size_t height,
                              std::size_t col, std::size_t from, std::size_t n) {
    for (std::size_t k = 0; k < width; ++k) {
      for (std::size_t r = row; r < row + height; ++r) {
        const float c = job.basis[(j + k) * job.rows + r];
        const float* const m = job.m + r * job.cols + col;
        for (std::size_t i = from; i < n; ++i) of[k][i] += c * m[i];
      }
    }
  }

  /// The same for four rows and n whole vectors.
  HWY_INLINE void add_four_rows(const kernels::MatrixTimes& job, std::size_t j, std::size_t row, std::size_t col,
                                std::size_t n) {
    const DF df;
    const float* const m0 = job.m + row * job.cols + col;
    const float* const m1 = m0 + job.cols;
    const float* const m2 = m1 + job.cols;
    const float* const m3 = m2 + job.cols;
    const float* const c = job.basis + j * job.rows + row;
    if (width == kFactorGroup) {
      const RowCoefficients k0(c), k1(c + job.rows), k2(c + 2 * job.rows), k3(c + 3 * job.rows);
      for (std::size_t i = 0; i < n; i += hn::Lanes(df)) {
        const VF v0 = hn::LoadU(df, m0 + i);
        const VF v1 = hn::LoadU(df, m1 + i);
        const VF v2 = hn::LoadU(df, m2 + i);
        const VF v3 = hn::LoadU(df, m3 + i);
        k0.add(v0, v1, v2, v3, of[0] + i);
        k1.add(v0, v1, v2, v3, of[1] + i);
        k2.add(v0, v1, v2, v3, of[2] + i);
        k3.add(v0, v1, v2, v3, of[3] + i);
      }
      return;
    }
    for (std::size_t k = 0; k < width; ++k) {
      const RowCoefficients each(c + k * job.rows);
      for (std::size_t i = 0; i < n; i += hn::Lanes(df)) {
        each.add(hn::LoadU(df, m0 + i), hn::LoadU(df, m1 + i), hn::LoadU(df, m2 + i), hn::LoadU(df, m3 + i), of[k] + i);
      }
    }
  }
};

inline void transposed_times(const kernels::MatrixTimes& job) {
  StripSums sums;
  std::fill_n(job.factor, job.cols * job.rank, 0.0f);
  for (std::size_t col = 0; col < job.cols; col += kStrip) {
    const std::size_t n = std::min(kStrip, job.cols - col);
    const std::size_t whole = n / hn::Lanes(DF()) * hn::Lanes(DF());
    for (std::size_t first = 0; first < job.rows; first += job.column_block()) {
      const std::size_t end = std::min(first + job.column_block(), job.rows);
      for (std::size_t j = 0; j < job.rank; j += kFactorGroup) {
        sums.width = std::min(kFactorGroup, job.rank - j);
        for (std::size_t k = 0; k < sums.width; ++k) std::fill_n(sums.of[k], n, 0.0f);
        std::size_t row = first;
        for (; row + 4 <= end; row += 4) {
          sums.add_four_rows(job, j, row, col, whole);
          if (whole < n) sums.add_plainly(job, j, row, 4, col, whole, n);
        }
        sums.add_plainly(job, j, row, end - row, col, 0, n);
        for (std::size_t k = 0; k < sums.width; ++k) {
          float* const factor = job.factor + (j + k) * job.cols + col;
          for (std::size_t i = 0; i < n; ++i) factor[i] += sums.of[k][i];
        }
      }
    }
  }
}

/// Products of two rows of the left factor with the columns of the right one.
struct RowPair {
  const float* left;
  std::size_t left_stride;
  std::size_t second;  ///< 1, or 0 where the last row stands for both
  const float* right;
  std::size_t right_stride;
  std::size_t rank;

  HWY_INLINE void product(std::size_t col, VF& first_row, VF& second_row) const {
    const DF df;
    const VF q = hn::LoadU(df, right + col);
    first_row = hn::Mul(hn::Set(df, left[0]), q);
    second_row = hn::Mul(hn::Set(df, left[second]), q);
    for (std::size_t j = 1; j < rank; ++j) {
      const VF qj = hn::LoadU(df, right + j * right_stride + col);
      first_row = hn::Add(first_row, hn::Mul(hn::Set(df, left[j * left_stride]), qj));
      second_row = hn::Add(second_row, hn::Mul(hn::Set(df, left[j * left_stride + second]), qj));
    }
  }
  [[nodiscard]] float entry(std::size_t row, std::size_t col) const {
    const float* const l = left + row * second;
    float sum = l[0] * right[col];
    for (std::size_t j = 1; j < rank; ++j) sum += l[j * left_stride] * right[j * right_stride + col];
    return sum;
  }
};

enum class Owed { nothing, shared, own };  // what the residual is made of

template <Owed owed>
HWY_INLINE VU expand_rows(const kernels::Expand& job, std::size_t row, std::size_t col, std::size_t n) {
  const DF df;
  const std::size_t second = row + 1 < job.rows ? 1 : 0;
  const RowPair sums{job.left_sum + row, job.rows, second, job.right_sum, job.cols, job.rank};
  const RowPair mine{job.left_mine + row, job.rows, second, job.right_mine, job.cols, job.rank};
  const std::size_t first = row * job.cols;
  const std::size_t next = first + second * job.cols;
  VU most = hn::Zero(DU());
  std::size_t i = col;
  for (; i + hn::Lanes(df) <= col + n; i += hn::Lanes(df)) {
    VF r0, r1;
    sums.product(i, r0, r1);
    most = hn::Max(most, hn::Max(magnitude_bits(r0), magnitude_bits(r1)));
    if constexpr (owed != Owed::nothing) {
      VF c0 = r0, c1 = r1;
      if constexpr (owed == Owed::own) mine.product(i, c0, c1);
      const VF e0 = hn::Sub(hn::LoadU(df, job.m + first + i), c0);
      const VF e1 = hn::Sub(hn::LoadU(df, job.m + next + i), c1);
      hn::StoreU(e0, df, job.residual + first + i);
      hn::StoreU(e1, df, job.residual + next + i);
    }
    hn::StoreU(r0, df, job.m + first + i);
    hn::StoreU(r1, df, job.m + next + i);
  }
  for (; i < col + n; ++i) {
    for (std::size_t r = 0; r <= second; ++r) {
      float& m = job.m[first + r * job.cols + i];
      if constexpr (owed != Owed::nothing) job.residual[first + r * job.cols + i] = m - mine.entry(r, i);
      m = sums.entry(r, i);
      most = hn::Max(most, magnitude_bits(hn::Set(df, m)));
    }
  }
  return most;
}

template <Owed owed>
bool expand_as(const kernels::Expand& job) {
  VU most = hn::Zero(DU());
  for (std::size_t col = 0; col < job.cols; col += kStrip) {
    const std::size_t n = std::min(kStrip, job.cols - col);
    for (std::size_t row = 0; row < job.rows; row += 2) most = hn::Max(most, expand_rows<owed>(job, row, col, n));
  }
  return is_finite(most);
}

inline bool expand(const kernels::Expand& job) {
  if (job.residual == nullptr) return expand_as<Owed::nothing>(job);
  if (job.left_sum == job.left_mine && job.right_sum == job.right_mine) return expand_as<Owed::shared>(job);
  return expand_as<Owed::own>(job);
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
