#pragma once
#include <memory>

#include "gradwire/export.hpp"
#include "gradwire/transport.hpp"

namespace gradwire {

/// A transport of host memory, made to reach device memory where there is a device: messages and all-reduces of a
/// device go through pinned buffers, on streams of their own, once what is on the caller's stream is done. Nothing
/// waits on the host; each piece moves on when a Work is polled. What one slot carries is posted in the order in which
/// it was given, and all-reduces in theirs, whatever memory they are of.
[[nodiscard]] GRADWIRE_API std::shared_ptr<Transport> reach_device(std::shared_ptr<Transport> transport);

}  // namespace gradwire
