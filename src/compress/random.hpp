#pragma once
#include <cstddef>
#include <cstdint>

#include "gradwire/compressor.hpp"

namespace gradwire {

/// Counter-based random numbers of docs/wire-format.md section 2.
class RandomStream {
 public:
  /// Keys of the 32-bit hash: they hold for all pairs of elements with the same high half of the pair's number.
  struct Keys {
    std::uint32_t k0;
    std::uint32_t k1;
  };

  explicit constexpr RandomStream(const RandomKey& key) noexcept
      : base_(mix(mix(mix(key.seed + 0x9e37'79b9'7f4a'7c15u) ^ key.step) ^ static_cast<std::uint32_t>(key.param))) {}

  [[nodiscard]] constexpr Keys keys(std::uint32_t pair_high) const noexcept {
    const std::uint64_t k = mix(base_ ^ pair_high);
    return {static_cast<std::uint32_t>(k), static_cast<std::uint32_t>(k >> 32)};
  }

  /// 32 random bits: the low 16 are of the pair's even element, the high 16 of its odd one.
  [[nodiscard]] static constexpr std::uint32_t hash(std::uint32_t pair_low, Keys keys) noexcept {
    std::uint32_t h = pair_low ^ keys.k0;
    h ^= h >> 16;
    h *= 0x21f0'aaadu;
    h += keys.k1;
    h ^= h >> 15;
    h *= 0x735a'2d97u;
    h ^= h >> 15;
    return h;
  }

  [[nodiscard]] constexpr std::uint16_t at(std::uint64_t element) const noexcept {
    const std::uint64_t pair = element >> 1;
    const std::uint32_t h = hash(static_cast<std::uint32_t>(pair), keys(static_cast<std::uint32_t>(pair >> 32)));
    return static_cast<std::uint16_t>((element & 1) != 0 ? h >> 16 : h);
  }

  /// The number in (0, 1) that stochastic rounding adds.
  [[nodiscard]] static constexpr float unit_interval(std::uint16_t r) noexcept {
    return (static_cast<float>(r) + 0.5f) * 0x1p-16f;
  }

 private:
  [[nodiscard]] static constexpr std::uint64_t mix(std::uint64_t z) noexcept {
    z = (z ^ (z >> 30)) * 0xbf58'476d'1ce4'e5b9u;
    z = (z ^ (z >> 27)) * 0x94d0'49bb'1331'11ebu;
    return z ^ (z >> 31);
  }

  std::uint64_t base_;
};

}  // namespace gradwire
