#include "gradwire/error.hpp"

#include "gradwire/types.hpp"

namespace gradwire {

std::string_view name(Errc code) noexcept {
  switch (code) {
    case Errc::ok: return "ok";
    case Errc::invalid_argument: return "invalid_argument";
    case Errc::unsupported: return "unsupported";
    case Errc::bad_frame: return "bad_frame";
    case Errc::transport: return "transport";
    case Errc::timeout: return "timeout";
    case Errc::aborted: return "aborted";
    case Errc::device: return "device";
    case Errc::rank_mismatch: return "rank_mismatch";
    case Errc::non_finite: return "non_finite";
    case Errc::io: return "io";
    case Errc::bad_state: return "bad_state";
    case Errc::internal: return "internal";
  }
  return "unknown";
}

std::string_view name(DType dtype) noexcept {
  switch (dtype) {
    case DType::f32: return "f32";
    case DType::f16: return "f16";
    case DType::bf16: return "bf16";
    case DType::u8: return "u8";
    case DType::u16: return "u16";
    case DType::u32: return "u32";
  }
  return "unknown";
}

std::string_view name(Space space) noexcept { return space == Space::host ? "host" : "device"; }

}  // namespace gradwire
