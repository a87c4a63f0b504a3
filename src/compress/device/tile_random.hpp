#pragma once
#include <cstdint>

#include "base/host_device.hpp"
#include "compress/random.hpp"

namespace gradwire::device {

/// RandomStream::at(), whose keys hold for 2^33 elements.
class TileRandom {
 public:
  GRADWIRE_HD TileRandom(const RandomKey& key, std::uint64_t element)
      : stream_(key), high_(high_of(element)), keys_(stream_.keys(high_)) {}

  [[nodiscard]] GRADWIRE_HD std::uint16_t at(std::uint64_t element) {
    if (high_of(element) != high_) {
      high_ = high_of(element);
      keys_ = stream_.keys(high_);
    }
    const std::uint32_t h = RandomStream::hash(static_cast<std::uint32_t>(element >> 1), keys_);
    return static_cast<std::uint16_t>((element & 1) != 0 ? h >> 16 : h);
  }

 private:
  [[nodiscard]] static constexpr std::uint32_t high_of(std::uint64_t element) noexcept {
    return static_cast<std::uint32_t>(element >> 33);
  }

  RandomStream stream_;
  std::uint32_t high_;
  RandomStream::Keys keys_;
};

}  // namespace gradwire::device
