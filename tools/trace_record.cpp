// `gradwire trace record`: a command whose hook is to write a trace.
#include <fmt/format.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <tuple>

#include "base/fail.hpp"
#include "trace_actions.hpp"

#include "gradwire/trace.hpp"

namespace gradwire::tools {
namespace {

/// What tells a file from what was there before.
using Identity = std::tuple<ino_t, off_t, time_t, decltype(timespec::tv_nsec)>;

std::optional<Identity> identify(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return {};
  return Identity{status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

/// A signal that its sender means for the command, which shares our terminal: we wait for what it makes of it.
class Ignored {
 public:
  explicit Ignored(int signal) : signal_(signal) {
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(signal_, &ignore, &before_);
  }
  Ignored(const Ignored&) = delete;
  Ignored& operator=(const Ignored&) = delete;
  ~Ignored() { ::sigaction(signal_, &before_, nullptr); }

 private:
  int signal_;
  struct sigaction before_ {};
};

/// Exit code of the command, as a shell gives it.
int run(const Arguments& command) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  posix_spawnattr_t attributes;
  sigset_t defaults;
  ::sigemptyset(&defaults);
  ::sigaddset(&defaults, SIGINT);
  ::sigaddset(&defaults, SIGQUIT);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setsigdefault(&attributes, &defaults);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  const Ignored interrupt(SIGINT);
  const Ignored quit(SIGQUIT);
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, arguments[0], nullptr, &attributes, arguments.data(), ::environ);
  ::posix_spawnattr_destroy(&attributes);
  require(error == 0, "cannot run {}: {}", command.front(), std::strerror(error));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) fail(Errc::io, "cannot wait for {}: {}", command.front(), std::strerror(errno));
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

int trace_record(const Arguments& arguments) {
  if (arguments.size() < 4 || arguments[0] != "--out" || arguments[2] != "--")
    throw UsageError("record takes a file and a command: gradwire trace record --out FILE -- COMMAND ARGUMENTS ...");
  if (arguments[1].empty()) throw UsageError("--out is empty");
  const std::string path = std::filesystem::absolute(arguments[1]).string();  // the command may change its folder
  const std::optional<Identity> before = identify(path);
  require(::setenv("GRADWIRE_TRACE", path.c_str(), 1) == 0, "cannot set GRADWIRE_TRACE: {}", std::strerror(errno));
  const int code = run({arguments.begin() + 3, arguments.end()});
  const std::optional<Identity> after = identify(path);
  if (!after || after == before) {
    fmt::print(stderr,
               "gradwire: no trace was written to {}{}: does the command train with a GradientHook, does rank 0 get "
               "GRADWIRE_TRACE, and has it got as far as the samples of a window (PlanningOptions)?\n",
               path, after ? ", which is an older file" : "");
    return code == 0 ? kExitFailed : code;
  }
  std::uint64_t records = 0;
  try {
    TraceReader reader(path, TraceReader::Torn::stop);
    while (reader.next()) ++records;
  } catch (const Error&) {
    const int failed = report_failure(std::current_exception());
    return code == 0 ? failed : code;
  }
  fmt::print(stderr, "gradwire: {}: {} records, {} bytes\n", path, records, std::get<1>(*after));
  if (records > 0) return code;
  fmt::print(stderr, "gradwire: the run has not got as far as the samples of a window (PlanningOptions)\n");
  return code == 0 ? kExitFailed : code;
}

}  // namespace gradwire::tools
