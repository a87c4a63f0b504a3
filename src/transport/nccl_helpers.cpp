#include "transport/nccl_helpers.hpp"

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <utility>

#include "base/env.hpp"
#include "base/log.hpp"

namespace gradwire::nccl_helpers {
namespace {

constexpr std::chrono::seconds kExitPatience{10};

struct Helpers {
  std::mutex mutex;
  std::condition_variable ended;
  int alive = 0;
};
Helpers& helpers() {
  static auto* const instance = new Helpers;  // a thread that hangs outlives every static destructor
  return *instance;
}

void await_at_exit() {
  Helpers& all = helpers();
  std::unique_lock lock(all.mutex);
  if (all.ended.wait_for(lock, kExitPatience, [&all] { return all.alive == 0; })) return;
  log::line(log::Level::error, -1, "{} threads are still inside NCCL: a device or another rank hangs", all.alive);
}

}  // namespace

void start(std::function<void()> work) {
  (void)environment();  // what the threads use is made before, and so destroyed after, the wait at exit
  (void)log::enabled(log::Level::error);
  static const int registered = std::atexit(await_at_exit);
  (void)registered;
  Helpers& all = helpers();
  const std::lock_guard lock(all.mutex);
  std::thread([work = std::move(work)]() mutable {
    work();
    work = nullptr;  // what it holds goes before the wait at exit can end
    Helpers& own = helpers();
    const std::lock_guard own_lock(own.mutex);
    --own.alive;
    own.ended.notify_all();
  }).detach();
  ++all.alive;
}

int alive() {
  const std::lock_guard lock(helpers().mutex);
  return helpers().alive;
}

}  // namespace gradwire::nccl_helpers
