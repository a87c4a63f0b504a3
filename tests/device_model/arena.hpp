#pragma once
#include <cstddef>
#include <map>
#include <vector>

namespace device_model {

/// The memory of all devices: out of reach for the host's own accesses (they fault) but while the model executes what
/// is in a stream, and then only that of the stream's device. Sanitizers see reads and writes beyond an allocation.
class Arena {
 public:
  static constexpr std::size_t kAlignment = 256;

  explicit Arena(int devices);
  [[nodiscard]] void* allocate(std::size_t bytes, int device);
  /// False for what is no allocation.
  [[nodiscard]] bool release(void* data);
  /// The device whose memory it is; -1 for the host's.
  [[nodiscard]] int device_of(const void* data) const noexcept;
  [[nodiscard]] bool contains(const void* data) const noexcept { return device_of(data) >= 0; }
  /// 1 << device_of(); 0 for the host's.
  [[nodiscard]] unsigned bit_of(const void* data) const noexcept { return contains(data) ? 1u << device_of(data) : 0; }
  /// Whether all of it lies in one allocation.
  [[nodiscard]] bool holds(const void* data, std::size_t bytes) const;

  /// From now on the memory of these devices is in reach, a bit each, and no other's.
  void reach(unsigned devices);
  [[nodiscard]] unsigned in_reach() const noexcept { return in_reach_; }

 private:
  struct Region {
    std::size_t used = 0;
    std::multimap<std::size_t, std::byte*> free;  // by room, without the gap behind it
  };
  void protect(int device, bool is_open) const;
  [[nodiscard]] std::byte* base(int device) const noexcept;

  std::byte* base_ = nullptr;
  unsigned in_reach_ = 0;
  std::vector<Region> regions_;
  std::map<std::byte*, std::size_t> live_;  // start and size
};

}  // namespace device_model
