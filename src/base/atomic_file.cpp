#include "base/atomic_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/fail.hpp"
#include "base/fail_io.hpp"

namespace gradwire {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_to_write(const fs::path& path, int code) {
  fail(Errc::io, "cannot write {}: {}", path.string(), std::generic_category().message(code));
}

/// So that the names in it outlive a crash.
void sync_folder(const fs::path& folder) {
  const int number = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (number < 0) fail_io(folder.string(), "open", errno);
  const int code = ::fsync(number) == 0 ? 0 : errno;
  ::close(number);
  if (code != 0) fail_io(folder.string(), "sync", code);
}

}  // namespace

AtomicFile::AtomicFile(fs::path path, Sync sync) : path_(std::move(path)), sync_(sync) {
  std::error_code ignored;
  const fs::file_status status = fs::status(path_, ignored);
  if (fs::exists(status) && !fs::is_regular_file(status))
    fail(Errc::io, "cannot write {}: it exists and is not a regular file", path_.string());
  // A process before us may have had our number and died: what it left is not ours.
  static std::atomic<unsigned> files{0};
  do {
    temporary_ = path_;
    temporary_ += fmt::format(".tmp-{}-{}", ::getpid(), files++);
    file_ = std::fopen(temporary_.c_str(), "wbxe");
  } while (file_ == nullptr && errno == EEXIST);
  if (file_ == nullptr) fail_to_write(path_, errno);
  pending_ = true;
}

AtomicFile::~AtomicFile() {
  if (file_ != nullptr) std::fclose(file_);
  if (pending_) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, std::size_t size) {
  if (size != 0 && std::fwrite(data, 1, size, file_) != size) fail_to_write(path_, errno);
}

void AtomicFile::close() {
  if (sync_ == Sync::yes && (std::fflush(file_) != 0 || ::fsync(::fileno(file_)) != 0)) fail_to_write(path_, errno);
  if (std::fclose(std::exchange(file_, nullptr)) != 0) fail_to_write(path_, errno);
}

void AtomicFile::commit() {
  std::error_code error;
  fs::rename(temporary_, path_, error);
  if (error) fail_to_write(path_, error.value());
  pending_ = false;
  if (sync_ == Sync::yes) sync_folder(path_.has_parent_path() ? path_.parent_path() : ".");
}

}  // namespace gradwire
