#pragma once
#include <memory>

#include "gradwire/export.hpp"
#include "gradwire/transport.hpp"

namespace gradwire {

enum class DevicePath {
  staged,  ///< the transport knows host memory only
  direct,  ///< its messages may be in device memory, which is ready when it gets them, as it is once they have come
};

/// A transport made to reach device memory where there is a device. Messages and all-reduces of a device go through
/// pinned buffers, on streams of their own, once what is on the caller's stream is done; messages of a transport that
/// takes them (DevicePath::direct) as they are, all-reduces never. Nothing waits on the host; each piece moves on when
/// a Work is polled. What one slot carries is posted in the order in which it was given, and all-reduces in theirs,
/// whatever memory they are of.
[[nodiscard]] GRADWIRE_API std::shared_ptr<Transport> reach_device(std::shared_ptr<Transport> transport,
                                                                   DevicePath path = DevicePath::staged);

}  // namespace gradwire
