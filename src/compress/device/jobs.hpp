#pragma once
#include <cstddef>
#include <cstdint>

#include "compress/kernels.hpp"

/// \file What kernels on devices do and those on hosts do not.
namespace gradwire::device {

/// What an owner of a chunk encodes: its own input (f32) and, added to it in turn, what payloads of the same layout
/// hold.
struct QuantizeSum {
  kernels::QuantizeEncode own;
  const std::byte* const* payloads = nullptr;
  std::uint32_t count = 0;
};

}  // namespace gradwire::device
