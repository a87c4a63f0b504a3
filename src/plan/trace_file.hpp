#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace gradwire {

/// docs/trace-format.md: the magic, whose last byte is the version, then records, each with this header.
inline constexpr std::string_view kTraceMagic{"GWTRACE", 7};
inline constexpr char kTraceVersion = 1;
inline constexpr std::size_t kTraceStart = kTraceMagic.size() + 1;

enum class TraceType : std::uint32_t { meta = 1, sample = 2, table = 3 };

struct TraceHeader {
  TraceType type;
  std::uint32_t head;        ///< bytes of the JSON text behind the header
  std::uint64_t stored;      ///< bytes of the payload behind it, a zstd frame, or 0
  std::uint64_t raw;         ///< bytes that the payload decompresses to
  std::uint64_t body_sum;    ///< XXH64 of head and payload
  std::uint64_t header_sum;  ///< XXH64 of the fields above

  [[nodiscard]] std::uint64_t sum() const noexcept;  ///< what header_sum should be
};
static_assert(sizeof(TraceHeader) == 40);

/// An open file. Its errors are Errc::io with the path and the system's words.
class TraceFile {
 public:
  TraceFile(std::string path, int flags);
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;
  ~TraceFile();

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] bool is_open() const { return number_ >= 0; }
  /// Locks the file against other writers until it is closed, and empties it. A device or a pipe has nothing to lock.
  void take() const;
  [[nodiscard]] std::uint64_t size() const;
  /// As many bytes as there are, at most `size`.
  [[nodiscard]] std::size_t read(std::uint64_t place, void* into, std::size_t size) const;
  /// All of `bytes`, or, where that fails, none: the file then ends at `place` again, as far as the system allows.
  void write(std::uint64_t place, std::string_view bytes) const;
  void close();

 private:
  std::string path_;
  int number_;
};

}  // namespace gradwire
