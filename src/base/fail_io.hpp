#pragma once
#include <string>
#include <system_error>

#include "base/fail.hpp"

namespace gradwire {

/// Throws Errc::io with the path, what could not be done, and the system's words for errno's `code`:
/// fail_io(path, "read", errno).
[[noreturn]] inline void fail_io(const std::string& path, const char* what, int code) {
  fail(Errc::io, "{}: cannot {}: {}", path, what, std::generic_category().message(code));
}

}  // namespace gradwire
