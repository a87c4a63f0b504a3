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
constexpr std::size_t kBytes = std::size_t{2} << 30;  // of addresses; pages come when they are touched

std::size_t room_for(std::size_t bytes) {
  return (std::max<std::size_t>(bytes, 1) + Arena::kAlignment - 1) / Arena::kAlignment * Arena::kAlignment;
}
}  // namespace

Arena::Arena() {
  void* const data = mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    std::perror("device model: mmap");
    std::abort();
  }
  base_ = static_cast<std::byte*>(data);
  ASAN_POISON_MEMORY_REGION(base_, kBytes);
}

void* Arena::allocate(std::size_t bytes) {
  const std::size_t room = room_for(bytes);
  std::byte* data = nullptr;
  if (const auto found = free_.find(room); found != free_.end()) {
    data = found->second;
    free_.erase(found);
  } else {
    if (room + kAlignment > kBytes - used_) return nullptr;
    data = base_ + used_;
    used_ += room + kAlignment;
  }
  live_[data] = bytes;
  ASAN_UNPOISON_MEMORY_REGION(data, bytes);
  open();
  std::memset(data, 0xcd, bytes);  // what nobody wrote is no zeros
  close();
  return data;
}

bool Arena::release(void* data) {
  const auto found = live_.find(static_cast<std::byte*>(data));
  if (found == live_.end()) return false;
  ASAN_POISON_MEMORY_REGION(data, found->second);
  free_.emplace(room_for(found->second), found->first);
  live_.erase(found);
  return true;
}

bool Arena::contains(const void* data) const noexcept {
  const auto at = reinterpret_cast<std::uintptr_t>(data);
  const auto base = reinterpret_cast<std::uintptr_t>(base_);
  return at >= base && at < base + kBytes;
}

bool Arena::holds(const void* data, std::size_t bytes) const {
  const auto* const first = static_cast<const std::byte*>(data);
  auto after = live_.upper_bound(const_cast<std::byte*>(first));
  if (after == live_.begin()) return false;
  --after;
  return static_cast<std::size_t>(first - after->first) + bytes <= after->second;
}

void Arena::open() {
  if (opened_++ == 0) (void)mprotect(base_, kBytes, PROT_READ | PROT_WRITE);
}

void Arena::close() {
  if (--opened_ == 0) (void)mprotect(base_, kBytes, PROT_NONE);
}

}  // namespace device_model
