#include "gradwire/buffer.hpp"

#include <cstring>
#include <mutex>
#include <new>
#include <vector>

#include "base/device.hpp"
#include "base/fail.hpp"

namespace gradwire {
namespace {
constexpr std::align_val_t kAlignment{128};

/// Where abandoned memory stays in reach, so that leak checkers report only what was lost by mistake.
struct Abandoned {
  std::mutex mutex;
  std::vector<Bytes> memory;
};
Abandoned& abandoned() {
  static auto* const instance = new Abandoned;  // outlives every static destructor
  return *instance;
}

}  // namespace

Buffer::Buffer(std::size_t size, Space space) {
  if (space == Space::device) {
    if (const std::string why = device::problem(); !why.empty()) fail(Errc::unsupported, "no device memory: {}", why);
    if (size > 0) view_ = {device::allocate(size), size, space};
  } else if (size > 0) {
    view_ = {static_cast<std::byte*>(::operator new(size, kAlignment)), size, space};
  }
}

Buffer::~Buffer() {
  if (view_.data == nullptr) return;
  if (view_.space == Space::device) {
    device::release(view_.data);
  } else {
    ::operator delete(view_.data, kAlignment);
  }
}

void Buffer::abandon() noexcept {
  const Bytes memory = std::exchange(view_, {});
  if (memory.data == nullptr) return;
  try {
    const std::lock_guard lock(abandoned().mutex);
    abandoned().memory.push_back(memory);
  } catch (const std::bad_alloc&) {  // then nobody remembers it, which harms nobody
  }
}

void Buffer::fill_zero() const {
  if (view_.size == 0) return;
  if (view_.space == Space::host) {
    std::memset(view_.data, 0, view_.size);
    return;
  }
  const device::Scope scope(device::of(view_.data));
  const device::Stream stream;
  device::zero(view_.data, view_.size, stream.ref());
  device::wait(stream.ref());
}

}  // namespace gradwire
