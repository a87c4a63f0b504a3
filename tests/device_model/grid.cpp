// Threads of a block as fibers of one thread of the host, switched at barriers only.
#include <boost/context/fiber.hpp>
#include <boost/context/preallocated.hpp>

#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "device_model/kernel.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define DEVICE_MODEL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DEVICE_MODEL_ASAN 1
#endif
#endif
#ifdef DEVICE_MODEL_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace device_model {
namespace {

constexpr std::size_t kStackBytes = std::size_t{256} << 10;
constexpr unsigned kWarp = 32;

enum class State { fresh, ready, running, at_block_barrier, at_warp_barrier, done };

struct Thread {
  State state = State::done;
  unsigned mask = 0;
  std::size_t fiber = 0;  ///< once it has begun and waits
};

/// A stack on which threads run one after another, until one of them has to wait.
struct Fiber {
  std::unique_ptr<std::byte[]> stack{new std::byte[kStackBytes]};  // not zeroed
  boost::context::fiber inside;                                    ///< while it is left
  boost::context::fiber outside;                                   ///< while it runs
  void* fake_stack = nullptr;
  bool has_waited = false;
};

/// The stacks are the block's.
struct NoAllocator {
  void deallocate(boost::context::stack_context&) noexcept {}
};

struct Warp {
  std::uint64_t slots[kWarp];
};

Order order_by_environment() {
  const char* const name = std::getenv("GRADWIRE_DEVICE_MODEL_ORDER");
  if (name == nullptr || std::strcmp(name, "forward") == 0) return Order::forward;
  if (std::strcmp(name, "backward") == 0) return Order::backward;
  if (std::strcmp(name, "shuffled") == 0) return Order::shuffled;
  std::fprintf(stderr, "device model: GRADWIRE_DEVICE_MODEL_ORDER=%s: expected forward, backward or shuffled\n", name);
  std::abort();
}
Order g_order = order_by_environment();

/// One for each thread of the host that executes streams.
class Block {
 public:
  void run(const Grid& grid, const std::function<void()>& thread);

  void wait(State state, unsigned mask);
  [[nodiscard]] unsigned current() const noexcept { return current_; }
  [[nodiscard]] std::uint64_t& slot(unsigned lane, unsigned mask);
  int count = 0;

 private:
  void place(unsigned index);
  void run_ready_threads(std::size_t own);
  void enter(std::size_t fiber);
  void leave(void** fake_stack);
  [[nodiscard]] std::size_t free_fiber();
  [[nodiscard]] bool release();
  [[nodiscard]] bool release_warp(unsigned first);
  [[noreturn]] void die(const char* why) const;

  std::vector<Thread> threads_;
  std::vector<Fiber> fibers_;
  std::vector<std::size_t> free_;  // fibers on which nobody waits
  std::vector<Warp> warps_;
  std::vector<unsigned> order_;
  std::mt19937 random_{20};
#ifdef DEVICE_MODEL_ASAN
  const void* host_stack_ = nullptr;
  std::size_t host_stack_bytes_ = 0;
#endif
  const std::function<void()>* body_ = nullptr;
  unsigned size_ = 0;
  unsigned current_ = 0;
  std::size_t next_ = 0;     // place in order_
  std::size_t running_ = 0;  // fiber
};
thread_local Block t_block;

void Block::die(const char* why) const {
  std::fprintf(stderr, "device model: %s, in block %u %u %u of %u threads\n", why, blockIdx.x, blockIdx.y, blockIdx.z,
               size_);
  for (unsigned t = 0; t < size_; ++t) {
    const Thread& thread = threads_[t];
    if (thread.state == State::at_block_barrier) std::fprintf(stderr, "  thread %u waits for its block\n", t);
    if (thread.state == State::at_warp_barrier)
      std::fprintf(stderr, "  thread %u waits for lanes %08x of its warp\n", t, thread.mask);
  }
  std::abort();
}

void Block::place(unsigned index) {
  current_ = index;
  threadIdx = {index % blockDim.x, index / blockDim.x % blockDim.y, index / blockDim.x / blockDim.y};
}

std::size_t Block::free_fiber() {
  if (free_.empty()) {
    free_.push_back(fibers_.size());
    fibers_.emplace_back();
  }
  const std::size_t fiber = free_.back();
  free_.pop_back();
  return fiber;
}

/// From the host into a fiber that waits, or into a new one.
void Block::enter(std::size_t index) {
  if (!fibers_[index].inside) {
    std::byte* const stack = fibers_[index].stack.get();
    boost::context::stack_context context;
    context.size = kStackBytes;
    context.sp = stack + kStackBytes;
    fibers_[index].inside =
        boost::context::fiber(std::allocator_arg, boost::context::preallocated(context.sp, context.size, context),
                              NoAllocator{}, [this, index](boost::context::fiber&& outside) {
#ifdef DEVICE_MODEL_ASAN
                                __sanitizer_finish_switch_fiber(nullptr, &host_stack_, &host_stack_bytes_);
#endif
                                fibers_[index].outside = std::move(outside);
                                run_ready_threads(index);
#ifdef DEVICE_MODEL_ASAN
                                __sanitizer_start_switch_fiber(nullptr, host_stack_, host_stack_bytes_);
#endif
                                return std::move(fibers_[index].outside);
                              });
  }
  running_ = index;
#ifdef DEVICE_MODEL_ASAN
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, fibers_[index].stack.get(), kStackBytes);
#endif
  boost::context::fiber left = std::move(fibers_[index].inside).resume();
#ifdef DEVICE_MODEL_ASAN
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
  fibers_[running_].inside = std::move(left);
  if (!fibers_[running_].inside) free_.push_back(running_);
}

/// From a thread that waits to the host.
void Block::leave([[maybe_unused]] void** fake_stack) {
  const std::size_t own = running_;
#ifdef DEVICE_MODEL_ASAN
  __sanitizer_start_switch_fiber(fake_stack, host_stack_, host_stack_bytes_);
#endif
  boost::context::fiber outside = std::move(fibers_[own].outside).resume();
#ifdef DEVICE_MODEL_ASAN
  __sanitizer_finish_switch_fiber(fibers_[own].fake_stack, &host_stack_, &host_stack_bytes_);
#endif
  fibers_[own].outside = std::move(outside);
}

/// On a fiber: threads that have not begun, in order, as long as none of them has to wait, and, where this one had
/// to, none after it.
void Block::run_ready_threads(std::size_t own) {
  while (next_ < order_.size()) {
    const unsigned index = order_[next_];
    Thread& thread = threads_[index];
    if (thread.state != State::fresh) return;  // waits on a fiber of its own
    ++next_;
    place(index);
    thread.state = State::running;
    thread.fiber = own;
    (*body_)();
    thread.state = State::done;
    if (fibers_[own].has_waited) return;
  }
}

void Block::wait(State state, unsigned mask) {
  Thread& thread = threads_[current_];
  if (state == State::at_warp_barrier && (mask >> current_ % kWarp & 1) == 0) die("a lane is not in its own mask");
  thread.state = state;
  thread.mask = mask;
  Fiber& fiber = fibers_[running_];
  fiber.has_waited = true;
  leave(&fiber.fake_stack);
}

std::uint64_t& Block::slot(unsigned lane, unsigned mask) {
  if (lane >= kWarp || (mask >> lane & 1) == 0) die("a value of a lane that takes no part");
  return warps_[current_ / kWarp].slots[lane];
}

bool Block::release_warp(unsigned first) {
  bool released = false;
  for (unsigned t = first; t < size_ && t < first + kWarp; ++t) {
    if (threads_[t].state != State::at_warp_barrier) continue;
    const unsigned mask = threads_[t].mask;
    bool all = true;
    for (unsigned lane = 0; lane < kWarp; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      if (first + lane >= size_) die("a mask names lanes that the block does not have");
      const Thread& other = threads_[first + lane];
      if (other.state == State::done) die("a mask names a lane that has ended");
      all = all && other.state == State::at_warp_barrier && other.mask == mask;
    }
    if (!all) continue;
    for (unsigned lane = 0; lane < kWarp; ++lane) {
      if ((mask >> lane & 1) != 0) threads_[first + lane].state = State::ready;
    }
    released = true;
  }
  return released;
}

/// When no thread can go on: opens the barriers that are complete.
bool Block::release() {
  bool released = false;
  for (unsigned first = 0; first < size_; first += kWarp) released = release_warp(first) || released;
  if (released) return true;
  unsigned waiting = 0;
  unsigned done = 0;
  for (unsigned t = 0; t < size_; ++t) {
    waiting += threads_[t].state == State::at_block_barrier;
    done += threads_[t].state == State::done;
  }
  if (done == size_) return false;
  if (waiting + done != size_) die("a barrier that not all can reach");
  for (unsigned t = 0; t < size_; ++t) {
    if (threads_[t].state == State::at_block_barrier) threads_[t].state = State::ready;
  }
  return true;
}

void Block::run(const Grid& grid, const std::function<void()>& thread) {
  body_ = &thread;
  size_ = grid.threads[0] * grid.threads[1] * grid.threads[2];
  fibers_.reserve(1025);  // one a thread, and the one that ends: they stay where they are
  threads_.assign(size_, Thread{State::fresh});
  warps_.resize((size_ + kWarp - 1) / kWarp);
  order_.resize(size_);
  std::iota(order_.begin(), order_.end(), 0u);
  if (g_order == Order::backward) std::reverse(order_.begin(), order_.end());
  do {
    if (g_order == Order::shuffled) std::shuffle(order_.begin(), order_.end(), random_);
    next_ = 0;
    while (next_ < order_.size()) {
      const unsigned index = order_[next_];
      Thread& each = threads_[index];
      if (each.state == State::fresh) {
        const std::size_t fiber = free_fiber();
        fibers_[fiber].has_waited = false;
        enter(fiber);
        continue;
      }
      ++next_;
      if (each.state != State::ready) continue;
      each.state = State::running;
      place(index);
      enter(each.fiber);
    }
  } while (release());
}

}  // namespace

void set_order(Order order) { g_order = order; }
void block_barrier() { t_block.wait(State::at_block_barrier, 0); }
void warp_barrier(unsigned mask) { t_block.wait(State::at_warp_barrier, mask); }
std::uint64_t& warp_slot(unsigned lane, unsigned mask) { return t_block.slot(lane, mask); }
unsigned lane_of_this_thread() { return t_block.current() % kWarp; }
int& block_count() { return t_block.count; }

void run_grid(const Grid& grid, const std::function<void()>& thread) {
  gridDim = {grid.blocks[0], grid.blocks[1], grid.blocks[2]};
  blockDim = {grid.threads[0], grid.threads[1], grid.threads[2]};
  for (unsigned z = 0; z < gridDim.z; ++z) {
    for (unsigned y = 0; y < gridDim.y; ++y) {
      for (unsigned x = 0; x < gridDim.x; ++x) {
        blockIdx = {x, y, z};
        t_block.run(grid, thread);
      }
    }
  }
}

}  // namespace device_model
