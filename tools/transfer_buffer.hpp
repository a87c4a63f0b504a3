#pragma once
#include <cstddef>

#include "gradwire/buffer.hpp"

namespace gradwire::tools {

/// Memory handed to a transport. When an exception unwinds it, an operation may be pending on it and another rank may
/// still read or write it: it is then kept until the process exits.
class TransferBuffer {
 public:
  explicit TransferBuffer(std::size_t size) : buffer_(size) {}
  TransferBuffer(const TransferBuffer&) = delete;
  TransferBuffer& operator=(const TransferBuffer&) = delete;
  ~TransferBuffer();

  const Buffer& operator*() const noexcept { return buffer_; }
  const Buffer* operator->() const noexcept { return &buffer_; }

 private:
  Buffer buffer_;
};

}  // namespace gradwire::tools
