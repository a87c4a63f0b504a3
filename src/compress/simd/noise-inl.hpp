// Random numbers of docs/wire-format.md section 2 for a run of elements. Included once per instruction set.
#if defined(GRADWIRE_SIMD_NOISE_INL_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADWIRE_SIMD_NOISE_INL_
#undef GRADWIRE_SIMD_NOISE_INL_
#else
#define GRADWIRE_SIMD_NOISE_INL_
#endif

#include "compress/quantize_params.hpp"
#include "compress/random.hpp"
#include "compress/simd/element-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace gradwire::HWY_NAMESPACE {

class Noise {
 public:
  /// The 16-bit numbers of `n` elements from `first` on, `n` rounded up to whole rows. Valid until the next call.
  const std::uint16_t* fill(const RandomStream& random, std::uint64_t first, std::size_t n) {
    const std::uint64_t pair = first >> 1;
    const auto low = static_cast<std::uint32_t>(pair);
    const std::size_t odd = first & 1;
    const std::size_t pairs = (n + odd + kRow - 1) / kRow * (kRow / 2) + odd * (kRow / 2);
    if (low + static_cast<std::uint64_t>(pairs) + kRow > 0x1'0000'0000u) {
      // Keys change inside the run: once in 2^33 elements.
      for (std::size_t i = 0; i < 2 * pairs; ++i) numbers_[i] = random.at(first - odd + i);
    } else {
      fill_pairs(random.keys(static_cast<std::uint32_t>(pair >> 32)), low, pairs);
    }
    return numbers_ + odd;
  }

 private:
  void fill_pairs(RandomStream::Keys keys, std::uint32_t low, std::size_t pairs) {
    const DU du;
    const hn::Repartition<std::uint16_t, DU> du16;
    const VU k0 = hn::Set(du, keys.k0);
    const VU k1 = hn::Set(du, keys.k1);
    const VU m0 = hn::Set(du, 0x21f0'aaadu);
    const VU m1 = hn::Set(du, 0x735a'2d97u);
    const VU step = hn::Set(du, static_cast<std::uint32_t>(hn::Lanes(du)));
    VU counter = hn::Iota(du, low);
    for (std::size_t i = 0; i < pairs; i += hn::Lanes(du)) {
      VU h = hn::Xor(counter, k0);
      h = hn::Xor(h, hn::ShiftRight<16>(h));
      h = hn::Add(hn::Mul(h, m0), k1);
      h = hn::Xor(h, hn::ShiftRight<15>(h));
      h = hn::Mul(h, m1);
      h = hn::Xor(h, hn::ShiftRight<15>(h));
      hn::Store(hn::BitCast(du16, h), du16, numbers_ + 2 * i);
      counter = hn::Add(counter, step);
    }
  }

  HWY_ALIGN std::uint16_t numbers_[QuantizeParams::kMaxBucket + 6 * kRow];
};

}  // namespace gradwire::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
