#include "atomic_file.hpp"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/fail.hpp"

namespace gradwire::tools {
namespace fs = std::filesystem;

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  std::error_code ignored;
  const fs::file_status status = fs::status(path_, ignored);
  require(!fs::exists(status) || fs::is_regular_file(status), "cannot write {}: it exists and is not a regular file",
          path_.string());
  temporary_ = path_;
  static std::atomic<unsigned> files{0};
  temporary_ += fmt::format(".tmp-{}-{}", ::getpid(), files++);
  file_ = std::fopen(temporary_.c_str(), "wbx");
  require(file_ != nullptr, "cannot write {}: {}", path_.string(), std::strerror(errno));
  pending_ = true;
}

AtomicFile::~AtomicFile() {
  if (file_ != nullptr) std::fclose(file_);
  if (pending_) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, std::size_t size) {
  require(size == 0 || std::fwrite(data, 1, size, file_) == size, "cannot write {}: {}", path_.string(),
          std::strerror(errno));
}

void AtomicFile::close() {
  require(std::fclose(std::exchange(file_, nullptr)) == 0, "cannot write {}: {}", path_.string(), std::strerror(errno));
}

void AtomicFile::commit() {
  std::error_code error;
  fs::rename(temporary_, path_, error);
  require(!error, "cannot write {}: {}", path_.string(), error.message());
  pending_ = false;
}

}  // namespace gradwire::tools
