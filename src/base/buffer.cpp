#include "gradwire/buffer.hpp"

#include <cstring>
#include <new>

#include "base/fail.hpp"

namespace gradwire {
namespace {
constexpr std::align_val_t kAlignment{128};
}

Buffer::Buffer(std::size_t size, Space space) {
  if (space != Space::host) fail(Errc::unsupported, "this build of gradwire has no device memory (built without CUDA)");
  if (size > 0) view_ = {static_cast<std::byte*>(::operator new(size, kAlignment)), size, space};
}

Buffer::~Buffer() {
  if (view_.data != nullptr) ::operator delete(view_.data, kAlignment);
}

void Buffer::fill_zero() const {
  if (view_.size > 0) std::memset(view_.data, 0, view_.size);
}

}  // namespace gradwire
