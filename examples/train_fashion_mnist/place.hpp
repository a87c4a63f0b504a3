#pragma once

namespace demo {

/// Where a network is, with its gradients and what gradwire keeps of them.
enum class Place { host, cuda };

}  // namespace demo
