#pragma once
#include <cstddef>
#include <cstdio>
#include <filesystem>

namespace gradwire::tools {

/// A file that appears under its name complete or not at all: written under a temporary name beside it, then renamed.
class AtomicFile {
 public:
  /// Throws Errc::invalid_argument when the file cannot be created there, or when `path` is a device, a directory or
  /// something else that must not be replaced.
  explicit AtomicFile(std::filesystem::path path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();  ///< removes the temporary file unless committed

  /// Both throw Errc::invalid_argument naming the file when the system refuses (disk full, ...).
  void write(const void* data, std::size_t size);
  void close();
  /// Gives the closed file its name. Several files appear together as nearly as the system allows when all are closed
  /// before the first is committed.
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  std::FILE* file_ = nullptr;
  bool pending_ = false;
};

}  // namespace gradwire::tools
