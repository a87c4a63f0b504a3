#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "gradwire/types.hpp"

namespace gradwire::frame {

inline constexpr std::size_t kAlign = 16;
inline constexpr std::size_t kHeaderBytes = 16;

/// docs/wire-format.md section 1. The values are pinned.
enum class Codec : std::uint8_t { none = 1, f16 = 2, bf16 = 3, quantize = 4 };

struct Header {
  Codec codec{};
  DType dtype{};
  std::uint32_t options = 0;
  std::uint32_t count = 0;
  std::uint32_t blocks = 0;  ///< frame size in units of kAlign, header included
};

[[nodiscard]] constexpr std::size_t align_up(std::size_t bytes) noexcept { return (bytes + kAlign - 1) / kAlign * kAlign; }

/// Writes the 16 header bytes.
void write_header(std::byte* out, const Header& header) noexcept;

/// Reads and checks a header against what the reader expects, `spec` naming the reader in messages.
/// `size_for(dtype)` is not needed: the caller compares blocks itself through check_size. Throws Errc::bad_frame.
[[nodiscard]] Header read_header(ConstBytes in, Codec codec, std::uint32_t options, std::size_t count,
                                 std::string_view spec);

/// Throws Errc::bad_frame unless the header's size is `expected` and `in` holds that much.
void check_size(ConstBytes in, const Header& header, std::size_t expected, std::string_view spec);

}  // namespace gradwire::frame
