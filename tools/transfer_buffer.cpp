#include "transfer_buffer.hpp"

#include <exception>
#include <mutex>
#include <utility>
#include <vector>

namespace gradwire::tools {
namespace {

void keep_until_exit(Buffer buffer) noexcept {
  static std::mutex mutex;
  static std::vector<Buffer> kept;
  try {
    const std::lock_guard lock(mutex);
    kept.emplace_back();
    kept.back() = std::move(buffer);
  } catch (...) {
    buffer.leak();
  }
}

}  // namespace

TransferBuffer::~TransferBuffer() {
  if (std::uncaught_exceptions() > 0) keep_until_exit(std::move(buffer_));
}

}  // namespace gradwire::tools
