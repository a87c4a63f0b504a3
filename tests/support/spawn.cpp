#include "support/spawn.hpp"

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "support/watchdog.hpp"

namespace gradwire::test {
namespace {

struct Rank {
  explicit Rank(Communicator c) : comm(std::move(c)) {}
  Communicator comm;
  std::atomic<bool> finished{false};
  ::testing::TestPartResultArray assertions;
};

class Group {
 public:
  explicit Group(std::vector<Communicator> communicators) {
    for (Communicator& comm : communicators) ranks_.push_back(std::make_unique<Rank>(std::move(comm)));
  }

  void run(const std::function<void(Communicator&)>& fn) {
    const Watched watched([this] { return unfinished(); });
    std::vector<std::jthread> threads;
    for (const auto& rank : ranks_) threads.emplace_back([this, &rank, &fn] { run_rank(*rank, fn); });
    for (std::jthread& thread : threads) thread.join();
    for (const auto& rank : ranks_) report(*rank);
    if (first_error_) std::rethrow_exception(first_error_);
  }

 private:
  void run_rank(Rank& rank, const std::function<void(Communicator&)>& fn) {
    using Reporter = ::testing::ScopedFakeTestPartResultReporter;
    const Reporter reporter(Reporter::INTERCEPT_ONLY_CURRENT_THREAD, &rank.assertions);
    try {
      fn(rank.comm);
      if (failed_fatally(rank)) {
        remember(nullptr);
        rank.comm.transport().abort("an assertion of the test failed");
      }
    } catch (const std::exception& error) {
      remember(std::current_exception());
      rank.comm.transport().abort(error.what());
    } catch (...) {
      remember(std::current_exception());
      rank.comm.transport().abort("an exception of unknown type");
    }
    rank.finished = true;
  }

  static bool failed_fatally(const Rank& rank) {
    for (int i = 0; i < rank.assertions.size(); ++i) {
      if (rank.assertions.GetTestPartResult(i).fatally_failed()) return true;
    }
    return false;
  }

  static void report(const Rank& rank) {
    for (int i = 0; i < rank.assertions.size(); ++i) {
      const ::testing::TestPartResult& part = rank.assertions.GetTestPartResult(i);
      const std::string message = "rank " + std::to_string(rank.comm.rank()) + ": " + part.message();
      const char* const file = part.file_name() == nullptr ? "unknown file" : part.file_name();
      GTEST_MESSAGE_AT_(file, part.line_number(), message.c_str(), part.type());
    }
  }

  /// Only the first failure counts: what follows on other ranks are echoes of the abort. Null stands for an assertion.
  void remember(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(failed_, true)) first_error_ = std::move(error);
  }

  std::string unfinished() const {
    std::string text = "ranks that have not returned:";
    for (const auto& rank : ranks_) {
      if (!rank->finished) text += " " + std::to_string(rank->comm.rank());
    }
    return text + " of " + std::to_string(ranks_.size());
  }

  std::vector<std::unique_ptr<Rank>> ranks_;
  std::mutex mutex_;
  bool failed_ = false;
  std::exception_ptr first_error_;
};

}  // namespace

void spawn(std::vector<Communicator> communicators, const std::function<void(Communicator&)>& fn) {
  Group(std::move(communicators)).run(fn);
}

void spawn(int ranks, const std::function<void(Communicator&)>& fn) { spawn(make_local(ranks), fn); }

}  // namespace gradwire::test
