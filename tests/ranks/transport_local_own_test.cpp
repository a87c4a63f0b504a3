// What needs ranks that share memory to be shown.
#include <atomic>
#include <thread>

#include "ranks/worlds.hpp"
#include "support/forwarding.hpp"
#include "support/spawn.hpp"

namespace gradwire::test {
namespace {

struct Meeting {
  std::atomic<bool> given_up{false};
  std::atomic<bool> come{false};
};

void await(const std::atomic<bool>& flag) {
  while (!flag && std::chrono::steady_clock::now() < patience()) std::this_thread::yield();
}

/// Gives up an agreement so slowly that the late rank's messages come first.
class SlowToAbort final : public Forwarding {
 public:
  SlowToAbort(Communicator inner, Meeting& meeting) : Forwarding(std::move(inner)), meeting_(meeting) {}
  void abort(std::string_view why) noexcept override {
    meeting_.given_up = true;
    await(meeting_.come);
    Forwarding::abort(why);
  }

 private:
  Meeting& meeting_;
};

class Late final : public Forwarding {
 public:
  Late(Communicator inner, Meeting& meeting) : Forwarding(std::move(inner)), meeting_(meeting) {}
  [[nodiscard]] Work exchange(std::span<const Send> sends, std::span<const Recv> recvs, Slot slot,
                              StreamRef stream) override {
    Work work = Forwarding::exchange(sends, recvs, slot, stream);
    meeting_.come = true;
    return work;
  }

 private:
  Meeting& meeting_;
};

/// What the late rank sends lands in memory that the other has given up, but that nobody else owns yet. The address
/// sanitizer sees it if not.
TEST(Agreement, MayTimeOutJustAsTheLastRankComes) {
  Meeting meeting;
  const std::vector<Communicator> inner = make_local(2);
  std::vector<Communicator> communicators;
  communicators.emplace_back(std::make_shared<SlowToAbort>(inner[0], meeting));
  communicators.emplace_back(std::make_shared<Late>(inner[1], meeting));
  spawn(std::move(communicators), [&](Communicator& comm) {
    const std::vector<Agreement> entries{{"operation", "7"}};
    if (comm.rank() == 1) await(meeting.given_up);
    const auto deadline = comm.rank() == 0 ? std::chrono::steady_clock::now() : patience();
    const Outcome outcome = outcome_of([&] { comm.agree(entries, deadline); });
    EXPECT_EQ(outcome.code, comm.rank() == 0 ? Errc::timeout : Errc::aborted) << outcome.message;
  });
}

}  // namespace
}  // namespace gradwire::test
