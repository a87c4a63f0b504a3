#include "device_model/arena.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(data, bytes) ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(data, bytes) ((void)0)
#endif

namespace device_model {
namespace {
constexpr std::size_t kBytes = std::size_t{2} << 30;  // of addresses, a device; pages come when they are touched

std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }
std::size_t room_for(std::size_t bytes) { return round_up(std::max<std::size_t>(bytes, 1), Arena::kAlignment); }
}  // namespace

Arena::Arena(int devices) : regions_(static_cast<std::size_t>(devices)) {
  void* const data =
      mmap(nullptr, kBytes * regions_.size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    std::perror("device model: mmap");
    std::abort();
  }
  base_ = static_cast<std::byte*>(data);
}

std::byte* Arena::base(int device) const noexcept { return base_ + static_cast<std::size_t>(device) * kBytes; }

void* Arena::allocate(std::size_t bytes, int device) {
  Region& region = regions_[static_cast<std::size_t>(device)];
  const std::size_t room = room_for(bytes);
  std::byte* data = nullptr;
  if (const auto found = region.free.find(room); found != region.free.end()) {
    data = found->second;
    region.free.erase(found);
  } else {
    if (room + kAlignment > kBytes - region.used) return nullptr;
    data = base(device) + region.used;
    region.used += room + kAlignment;
    ASAN_POISON_MEMORY_REGION(data, room + kAlignment);
    protect(device, (in_reach_ >> device & 1) != 0);
  }
  live_[data] = bytes;
  ASAN_UNPOISON_MEMORY_REGION(data, bytes);
  const unsigned before = in_reach_;
  reach(before | 1u << device);
  std::memset(data, 0xcd, bytes);  // what nobody wrote is no zeros
  reach(before);
  return data;
}

bool Arena::release(void* data) {
  const auto found = live_.find(static_cast<std::byte*>(data));
  if (found == live_.end()) return false;
  ASAN_POISON_MEMORY_REGION(data, found->second);
  regions_[static_cast<std::size_t>(device_of(data))].free.emplace(room_for(found->second), found->first);
  live_.erase(found);
  return true;
}

int Arena::device_of(const void* data) const noexcept {
  const auto at = reinterpret_cast<std::uintptr_t>(data);
  const auto base = reinterpret_cast<std::uintptr_t>(base_);
  return at >= base && at < base + kBytes * regions_.size() ? static_cast<int>((at - base) / kBytes) : -1;
}

bool Arena::holds(const void* data, std::size_t bytes) const {
  const auto* const first = static_cast<const std::byte*>(data);
  auto after = live_.upper_bound(const_cast<std::byte*>(first));
  if (after == live_.begin()) return false;
  --after;
  return static_cast<std::size_t>(first - after->first) + bytes <= after->second;
}

/// What no allocation has had so far stays out of reach.
void Arena::protect(int device, bool is_open) const {
  constexpr std::size_t kPage = 4096;
  const std::size_t used = round_up(regions_[static_cast<std::size_t>(device)].used, kPage);
  if (used > 0) (void)mprotect(base(device), used, is_open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

void Arena::reach(unsigned devices) {
  const unsigned before = in_reach_;
  in_reach_ = devices;
  for (int device = 0; device < static_cast<int>(regions_.size()); ++device) {
    const bool is_open = (devices >> device & 1) != 0;
    if (is_open != ((before >> device & 1) != 0)) protect(device, is_open);
  }
}

}  // namespace device_model
