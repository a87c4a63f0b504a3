#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>

namespace gradwire {

/// Whether a file has to outlive a crash of the machine.
enum class Sync : std::uint8_t { no, yes };

/// A file that appears under its name complete or not at all: written under a temporary name beside it
/// (PATH.tmp-PID-NUMBER), then renamed.
class AtomicFile {
 public:
  /// Throws Errc::io when the file cannot be created there, or when `path` is a device, a pipe, a directory or
  /// something else that must not be replaced.
  explicit AtomicFile(std::filesystem::path path, Sync sync = Sync::no);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();  ///< removes the temporary file unless committed

  /// Where the file is until it is committed, for a writer that opens files by itself.
  [[nodiscard]] const std::filesystem::path& temporary() const { return temporary_; }

  /// All throw Errc::io naming the file when the system refuses (disk full, ...).
  void write(const void* data, std::size_t size);
  /// With Sync::yes, its bytes are on the disk then.
  void close();
  /// Gives the closed file its name. Several files appear together as nearly as the system allows when all are closed
  /// before the first is committed. With Sync::yes, its name is on the disk then.
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  std::FILE* file_ = nullptr;
  Sync sync_;
  bool pending_ = false;
};

}  // namespace gradwire
