#pragma once
#include <span>

#include "gradwire/transport.hpp"

namespace gradwire {

/// Posts one exchange with everybody: this rank's part, parts[rank()], goes to all, theirs come into the others. A part
/// may arrive shorter than its place.
[[nodiscard]] Work all_gather(const Communicator& comm, std::span<const Bytes> parts, Slot slot);

}  // namespace gradwire
