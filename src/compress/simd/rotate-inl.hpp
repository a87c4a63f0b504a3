// rotate: the Hadamard transform between random signs. Included once per instruction set.
#if defined(GRADWIRE_SIMD_ROTATE_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_ROTATE_INL_
#undef GRADWIRE_SIMD_ROTATE_INL_
#else
#define GRADWIRE_SIMD_ROTATE_INL_
#endif

#include <hwy/cache_control.h>

#include <algorithm>
#include <utility>

#include "compress/rotate_kernels.hpp"
#include "compress/simd/elementwise-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

// A transform of 2^k elements is k levels; level h adds and subtracts elements h apart. A pass loads 2^r vectors, runs
// r levels on them in registers and stores them: the first one also the levels inside vectors. All passes but the
// first load run in the first-level cache.

/// Levels between vectors that one pass runs: as many vectors as leave room among 16 or 32 registers.
inline constexpr std::size_t kMaxPassLevels = HWY_TARGET <= HWY_AVX3 || !HWY_ARCH_X86 ? 4 : 3;

template <std::size_t kHalf>
HWY_INLINE VF swap_lanes(VF v) {
  if constexpr (kHalf == 1) {
    return hn::Reverse2(DF(), v);
  } else if constexpr (kHalf == 2) {
    return hn::Shuffle1032(v);
  } else {
#if HWY_MAX_BYTES >= 64
    if constexpr (kHalf == 4) return hn::SwapAdjacentBlocks(v);
#endif
#if HWY_MAX_BYTES >= 32
    return hn::ConcatLowerUpper(DF(), v, v);
#else
    return v;
#endif
  }
}

/// Levels inside a vector. a - b is the sum of a and -b, bit for bit.
template <std::size_t kHalf = 1>
HWY_INLINE VF lane_levels(VF v) {
  constexpr std::size_t kLanes = HWY_MIN(HWY_MAX_BYTES / sizeof(float), kRow);
  if constexpr (kHalf < kLanes) {
    constexpr int kToSign = kHalf == 1 ? 31 : kHalf == 2 ? 30 : kHalf == 4 ? 29 : 28;
    const VU upper = hn::ShiftLeft<kToSign>(hn::And(hn::Iota(DU(), 0), hn::Set(DU(), std::uint32_t{kHalf})));
    v = hn::Add(swap_lanes<kHalf>(v), hn::Xor(v, hn::BitCast(DF(), upper)));
    return lane_levels<kHalf * 2>(v);
  } else {
    return v;
  }
}

HWY_INLINE void butterfly(VF& a, VF& b) {
  const VF sum = hn::Add(a, b);
  b = hn::Sub(a, b);
  a = sum;
}

template <std::size_t kHalf, std::size_t... kPair>
HWY_INLINE void vector_level(VF* v, std::index_sequence<kPair...>) {
  (butterfly(v[kPair / kHalf * 2 * kHalf + kPair % kHalf], v[kPair / kHalf * 2 * kHalf + kPair % kHalf + kHalf]), ...);
}

template <std::size_t kVectors, std::size_t kHalf = 1>
HWY_INLINE void vector_levels(VF* v) {
  if constexpr (kHalf < kVectors) {
    vector_level<kHalf>(v, std::make_index_sequence<kVectors / 2>());
    vector_levels<kVectors, kHalf * 2>(v);
  }
}

/// The signs of a block, as words of 32 bits.
class Signs {
 public:
  Signs(const kernels::SignKey& key, std::size_t size, bool negate) {
    const std::size_t words = size / 32;
    for (std::size_t i = 0; i < words; i += hn::Lanes(DU())) {
      VU h = hn::Xor(hn::Iota(DU(), key.word + static_cast<std::uint32_t>(i)), hn::Set(DU(), key.keys.k0));
      h = hn::Xor(h, hn::ShiftRight<16>(h));
      h = hn::Add(hn::Mul(h, hn::Set(DU(), 0x21f0'aaadu)), hn::Set(DU(), key.keys.k1));
      h = hn::Xor(h, hn::ShiftRight<15>(h));
      h = hn::Mul(h, hn::Set(DU(), 0x735a'2d97u));
      h = hn::Xor(h, hn::ShiftRight<15>(h));
      hn::Store(negate ? hn::Not(h) : h, DU(), words_ + i);
    }
  }

  /// The vector at element i, with its signs.
  [[nodiscard]] HWY_INLINE VF apply(VF v, std::size_t i) const {
    const VU to_sign = hn::Sub(hn::Set(DU(), 31), hn::Iota(DU(), 0));
    const VU bits = hn::Shl(hn::Set(DU(), words_[i / 32] >> (i % 32)), to_sign);
    return hn::Xor(v, hn::BitCast(DF(), hn::And(bits, hn::Set(DU(), 0x8000'0000u))));
  }

 private:
  HWY_ALIGN std::uint32_t words_[kernels::kMaxRotation / 32];
};

/// What is done to elements as they enter a transform.
struct EnterForward {
  const Signs* signs;
  VF factor;
  std::size_t ahead;
  VU most;  ///< magnitudes so far

  HWY_INLINE VF operator()(const float* x, std::size_t i) {
    if (ahead != 0) hwy::Prefetch(x + i + ahead);
    const VF v = hn::LoadU(DF(), x + i);
    most = hn::Max(most, magnitude_bits(v));
    return hn::Mul(signs->apply(v, i), factor);
  }
};
struct EnterInverse {
  VF factor;
  const float* target;

  HWY_INLINE VF operator()(const float* x, std::size_t i) const {
    if (target != nullptr) hwy::Prefetch(target + i);
    return hn::Mul(hn::LoadU(DF(), x + i), factor);
  }
};

/// And as they leave it.
struct LeaveForward {
  HWY_INLINE VF operator()(VF v, std::size_t) const { return v; }
};
struct LeaveInverse {
  const Signs& signs;
  HWY_INLINE VF operator()(VF v, std::size_t i) const { return signs.apply(v, i); }
};

template <std::size_t kLevels, class Enter, class Leave>
void first_pass(const float* x, float* y, std::size_t size, Enter& enter, const Leave& leave) {
  constexpr std::size_t kVectors = std::size_t{1} << kLevels;
  const std::size_t lanes = hn::Lanes(DF());
  Enter local = enter;  // so that what it counts stays in a register
  for (std::size_t i = 0; i < size; i += kVectors * lanes) {
    VF v[kVectors];
    for (std::size_t k = 0; k < kVectors; ++k) v[k] = lane_levels(local(x, i + k * lanes));
    vector_levels<kVectors>(v);
    for (std::size_t k = 0; k < kVectors; ++k) hn::StoreU(leave(v[k], i + k * lanes), DF(), y + i + k * lanes);
  }
  enter = local;
}

/// Levels half, 2 half, ...
template <std::size_t kLevels, class Leave>
void next_pass(float* y, std::size_t size, std::size_t half, const Leave& leave) {
  constexpr std::size_t kVectors = std::size_t{1} << kLevels;
  for (std::size_t base = 0; base < size; base += kVectors * half) {
    for (std::size_t i = base; i < base + half; i += hn::Lanes(DF())) {
      VF v[kVectors];
      for (std::size_t k = 0; k < kVectors; ++k) v[k] = hn::LoadU(DF(), y + i + k * half);
      vector_levels<kVectors>(v);
      for (std::size_t k = 0; k < kVectors; ++k) hn::StoreU(leave(v[k], i + k * half), DF(), y + i + k * half);
    }
  }
}

/// Calls run(integral constant) for levels 1 .. kMaxPassLevels.
template <class Run>
HWY_INLINE void with_levels(std::size_t levels, const Run& run) {
  switch (levels) {
    case 1: return run(std::integral_constant<std::size_t, 1>());
    case 2: return run(std::integral_constant<std::size_t, 2>());
    case 3: return run(std::integral_constant<std::size_t, 3>());
    default: return run(std::integral_constant<std::size_t, kMaxPassLevels>());
  }
}

template <class Enter, class Leave>
void transform(const float* x, float* y, std::size_t size, Enter& enter, const Leave& leave) {
  std::size_t half = hn::Lanes(DF());
  std::size_t left = hwy::Num0BitsBelowLS1Bit_Nonzero32(static_cast<std::uint32_t>(size / half));
  // As few passes as there can be, of about equally many levels.
  const std::size_t passes = (left + kMaxPassLevels - 1) / kMaxPassLevels;
  const std::size_t most = (left + passes - 1) / passes;
  const LeaveForward pass_on;
  with_levels(most, [&](auto levels) HWY_ATTR {
    if (left == levels) return first_pass<levels>(x, y, size, enter, leave);
    first_pass<levels>(x, y, size, enter, pass_on);
  });
  half <<= most;
  left -= most;
  while (left != 0) {
    const std::size_t now = std::min(left, most);
    with_levels(now, [&](auto levels) HWY_ATTR {
      if (left == levels) return next_pass<levels>(y, size, half, leave);
      next_pass<levels>(y, size, half, pass_on);
    });
    half <<= now;
    left -= now;
  }
}

inline bool rotate_forward(const kernels::RotateForward& job) {
  const auto* x = static_cast<const float*>(job.x.data);
  if (job.x.dtype != DType::f32 || job.x.count != job.size) {
    cast_decode({static_cast<const std::byte*>(job.x.data), job.x.dtype, {job.y, job.x.count}, Write::assign});
    std::fill(job.y + job.x.count, job.y + job.size, 0.0f);
    x = job.y;
  }
  const Signs signs(job.signs, job.size, false);
  EnterForward enter{&signs, hn::Set(DF(), rotation_factor(job.size)), x == job.y ? 0 : job.ahead, hn::Zero(DU())};
  transform(x, job.y, job.size, enter, LeaveForward());
  return hn::GetLane(hn::MaxOfLanes(DU(), enter.most)) <= 0x7780'0000u;  // of kMaxRotated
}

inline void rotate_inverse(const kernels::RotateInverse& job) {
  const Signs signs(job.signs, job.size, job.negate);
  EnterInverse enter{hn::Set(DF(), job.factor), job.target};
  transform(job.v, job.v, job.size, enter, LeaveInverse{signs});
}

#if HWY_HAVE_FLOAT64
inline kernels::Products rotate_products(const float* y, const float* q, std::size_t size) {
  const hn::CappedTag<double, kRow / 2> d;
  const hn::Rebind<float, decltype(d)> df;
  HWY_ALIGN double sums[3][kRow];
  for (std::size_t j = 0; j < kRow; j += hn::Lanes(d)) {
    auto yy = hn::Zero(d);
    auto yq = hn::Zero(d);
    auto qq = hn::Zero(d);
    for (std::size_t i = j; i < size; i += kRow) {
      const auto a = hn::PromoteTo(d, hn::LoadU(df, y + i));
      const auto b = hn::PromoteTo(d, hn::LoadU(df, q + i));
      yy = hn::Add(yy, hn::Mul(a, a));
      yq = hn::Add(yq, hn::Mul(a, b));
      qq = hn::Add(qq, hn::Mul(b, b));
    }
    hn::Store(yy, d, sums[0] + j);
    hn::Store(yq, d, sums[1] + j);
    hn::Store(qq, d, sums[2] + j);
  }
  return {add_pairwise(sums[0]), add_pairwise(sums[1]), add_pairwise(sums[2])};
}
#else
inline kernels::Products rotate_products(const float* y, const float* q, std::size_t size) {
  double sums[3][kRow] = {};
  for (std::size_t i = 0; i < size; ++i) {
    const double a = y[i];
    const double b = q[i];
    sums[0][i % kRow] += a * a;
    sums[1][i % kRow] += a * b;
    sums[2][i % kRow] += b * b;
  }
  return {add_pairwise(sums[0]), add_pairwise(sums[1]), add_pairwise(sums[2])};
}
#endif

inline void rotate_clamp(const float* v, std::size_t size, float limit, float* out) {
  const VF top = hn::Set(DF(), limit);
  for (std::size_t i = 0; i < size; i += hn::Lanes(DF()))
    hn::StoreU(hn::Min(hn::Max(hn::LoadU(DF(), v + i), hn::Neg(top)), top), DF(), out + i);
}

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
