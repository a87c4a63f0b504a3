#include "plan/trace_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <utility>

#include "base/fail_io.hpp"

namespace gradwire {

std::uint64_t TraceHeader::sum() const noexcept { return XXH64(this, offsetof(TraceHeader, header_sum), 0); }

TraceFile::TraceFile(std::string path, int flags)
    : path_(std::move(path)), number_(::open(path_.c_str(), flags | O_CLOEXEC, 0644)) {
  if (number_ < 0) fail_io(path_, "open", errno);
}

TraceFile::~TraceFile() {
  if (number_ >= 0) ::close(number_);
}

void TraceFile::take() const {
  struct stat status {};
  if (::fstat(number_, &status) != 0) fail_io(path_, "open", errno);
  if (!S_ISREG(status.st_mode)) return;
  while (::flock(number_, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) fail(Errc::io, "{} is being written by another trace", path_);
    if (errno != EINTR) fail_io(path_, "lock", errno);
  }
  while (::ftruncate(number_, 0) != 0)
    if (errno != EINTR) fail_io(path_, "write", errno);
}

std::uint64_t TraceFile::size() const {
  struct stat status {};
  if (::fstat(number_, &status) != 0) fail_io(path_, "read", errno);
  if (!S_ISREG(status.st_mode)) fail(Errc::io, "{}: cannot read: not a regular file", path_);
  return static_cast<std::uint64_t>(status.st_size);
}

std::size_t TraceFile::read(std::uint64_t place, void* into, std::size_t size) const {
  std::size_t done = 0;
  while (done < size) {
    const ssize_t got =
        ::pread(number_, static_cast<char*>(into) + done, size - done, static_cast<off_t>(place + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_io(path_, "read", errno);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

void TraceFile::write(std::uint64_t place, std::string_view bytes) const {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t wrote = ::pwrite(number_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(place + done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      const int code = errno;
      while (::ftruncate(number_, static_cast<off_t>(place)) != 0 && errno == EINTR) {
      }
      fail_io(path_, "write", code);
    }
    done += static_cast<std::size_t>(wrote);
  }
}

void TraceFile::close() {
  if (::close(std::exchange(number_, -1)) != 0) fail_io(path_, "close", errno);
}

}  // namespace gradwire
