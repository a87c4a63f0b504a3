#include "support/watchdog.hpp"

#include <dirent.h>
#include <execinfo.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

namespace gradwire::test {
namespace {

using Clock = std::chrono::steady_clock;

struct Registry {
  std::mutex mutex;
  std::map<const Watched*, std::function<std::string()>> activities;
};
Registry& registry() {
  static auto* const instance = new Registry;  // outlives every static destructor that might still hold a Watched
  return *instance;
}

void print_stack(int) {
  std::array<void*, 48> frames{};
  const int depth = backtrace(frames.data(), static_cast<int>(frames.size()));
  backtrace_symbols_fd(frames.data(), depth, STDERR_FILENO);
}

/// Each thread prints its own stack, one after the other, from a signal handler.
void print_all_stacks() {
  struct sigaction action {};
  action.sa_handler = print_stack;
  sigaction(SIGUSR2, &action, nullptr);
  DIR* const tasks = opendir("/proc/self/task");
  if (tasks == nullptr) return;
  const auto self = syscall(SYS_gettid);
  while (const dirent* const entry = readdir(tasks)) {
    const long thread = std::strtol(entry->d_name, nullptr, 10);
    if (thread <= 0 || thread == self) continue;
    std::fprintf(stderr, "stack of thread %ld:\n", thread);
    syscall(SYS_tgkill, getpid(), thread, SIGUSR2);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  closedir(tasks);
}

class Watchdog final : public ::testing::EmptyTestEventListener {
 public:
  Watchdog(std::string who, std::chrono::seconds limit)
      : who_(std::move(who)), limit_(limit), thread_([this](const std::stop_token& stop) { run(stop); }) {}

 private:
  void OnTestStart(const ::testing::TestInfo& info) override {
    const std::lock_guard lock(mutex_);
    test_ = std::string(info.test_suite_name()) + "." + info.name();
    expires_ = Clock::now() + limit_;
    changed_.notify_all();
  }
  void OnTestEnd(const ::testing::TestInfo&) override {
    const std::lock_guard lock(mutex_);
    expires_.reset();
  }

  void run(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      if (!expires_) {
        changed_.wait(lock, stop, [this] { return expires_.has_value(); });
      } else if (Clock::now() >= *expires_) {
        give_up();
      } else {
        const Clock::time_point expires = *expires_;  // the wait keeps a reference while the lock is released
        changed_.wait_until(lock, stop, expires, [] { return false; });
      }
    }
  }

  [[noreturn]] void give_up() {
    const char* const space = who_.empty() ? "" : " ";
    std::fprintf(stderr, "\n%s%swatchdog: %s has run for more than %lld s and is given up\n", who_.c_str(), space,
                 test_.c_str(), static_cast<long long>(limit_.count()));
    Registry& shared = registry();
    std::unique_lock lock(shared.mutex, std::try_to_lock);
    // Not std::timed_mutex: ThreadSanitizer of g++ 12 does not see it locked by a deadline.
    for (int i = 0; i < 20 && !lock.owns_lock(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      (void)lock.try_lock();
    }
    if (lock.owns_lock()) {
      for (const auto& [owner, describe] : shared.activities) {
        std::fprintf(stderr, "%s%swatchdog: %s\n", who_.c_str(), space, describe().c_str());
      }
    }
    print_all_stacks();
    std::abort();
  }

  std::string who_;
  std::chrono::seconds limit_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::string test_;
  std::optional<Clock::time_point> expires_;
  std::jthread thread_;
};

std::chrono::seconds default_limit() {
  const char* const text = std::getenv("GRADWIRE_TEST_LIMIT_S");
  const long seconds = text == nullptr ? 0 : std::strtol(text, nullptr, 10);
  return std::chrono::seconds(seconds > 0 ? seconds : 120);
}

}  // namespace

void install_watchdog(const std::string& who, std::chrono::seconds limit) {
  std::array<void*, 4> frames{};
  (void)backtrace(frames.data(), static_cast<int>(frames.size()));  // loads libgcc now, not inside a signal handler
  const auto chosen = limit.count() > 0 ? limit : default_limit();
  ::testing::UnitTest::GetInstance()->listeners().Append(new Watchdog(who, chosen));
}

Watched::Watched(std::function<std::string()> describe) {
  const std::lock_guard lock(registry().mutex);
  registry().activities.emplace(this, std::move(describe));
}
Watched::~Watched() {
  const std::lock_guard lock(registry().mutex);
  registry().activities.erase(this);
}

}  // namespace gradwire::test
