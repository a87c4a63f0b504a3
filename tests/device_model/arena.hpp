#pragma once
#include <cstddef>
#include <map>

namespace device_model {

/// Device memory: out of reach for the host's own accesses (they fault) but while the model executes what is in a
/// stream. Sanitizers see reads and writes beyond an allocation.
class Arena {
 public:
  static constexpr std::size_t kAlignment = 256;

  Arena();
  [[nodiscard]] void* allocate(std::size_t bytes);
  /// False for what is no allocation.
  [[nodiscard]] bool release(void* data);
  [[nodiscard]] bool contains(const void* data) const noexcept;
  /// Whether all of it lies in one allocation.
  [[nodiscard]] bool holds(const void* data, std::size_t bytes) const;

  void open();
  void close();

 private:
  std::byte* base_ = nullptr;
  std::size_t used_ = 0;
  int opened_ = 0;
  std::map<std::byte*, std::size_t> live_;       // start and size
  std::multimap<std::size_t, std::byte*> free_;  // by room, without the gap behind it
};

}  // namespace device_model
