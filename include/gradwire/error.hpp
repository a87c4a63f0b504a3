#pragma once
#include <stdexcept>
#include <string>
#include <string_view>

#include "gradwire/export.hpp"

namespace gradwire {

/// What went wrong, as far as a caller can act on it. The values are pinned: they are also the codes of the C ABI.
enum class Errc : int {
  ok = 0,
  invalid_argument = 1,  ///< the caller's mistake: bad spec, bad size, unknown or missing parameter
  unsupported = 2,       ///< well formed, but this build, transport or compressor cannot do it
  bad_frame = 3,         ///< bytes that are no frame of the expected compressor: truncated, foreign or corrupt
  transport = 4,         ///< the backend reported a failure
  timeout = 5,           ///< a deadline passed; the message names the operation and the peers it waited for
  aborted = 6,           ///< this or another rank called abort; the message says which and why
  device = 7,            ///< the accelerator or its driver failed or is absent
  rank_mismatch = 8,     ///< ranks disagree; the message names the rank, the thing and both values
  non_finite = 9,        ///< NaN or Inf in a gradient; the message names the parameter and the rank
  io = 10,               ///< a file could not be read or written; the message has its path and the system's words
  bad_state = 11,        ///< a file of saved state that is torn, foreign, or of another model; live state is untouched
  internal = 99,         ///< a broken invariant of gradwire itself: please report it
};

/// "invalid_argument", "timeout", ...
[[nodiscard]] GRADWIRE_API std::string_view name(Errc code) noexcept;

/// The one exception gradwire throws.
class GRADWIRE_API Error : public std::runtime_error {
 public:
  Error(Errc code, const std::string& what) : std::runtime_error(what), code_(code) {}
  [[nodiscard]] Errc code() const noexcept { return code_; }

 private:
  Errc code_;
};

}  // namespace gradwire
