#pragma once
#include <cstddef>
#include <string>

#include "gradwire/types.hpp"

/// \file Device memory, streams and events, for code that knows nothing of CUDA. A build without CUDA has the same
/// functions: problem() says so, and what would need a device throws Errc::unsupported.
namespace gradwire::device {

/// Why nothing can be done on a device, in words; empty where something can.
[[nodiscard]] std::string problem();
/// How many devices this process sees; 0 where nothing can be done on any.
[[nodiscard]] int count() noexcept;
/// The calling thread's device, by number; 0 in a build without CUDA. A new thread's is 0 until it takes another.
[[nodiscard]] int current();
void use(int device);
/// The device whose memory it is.
[[nodiscard]] int of(const std::byte* data);
/// Makes a device the calling thread's for as long as it lives; -1: as it is.
class Scope {
 public:
  explicit Scope(int device) : previous_(device < 0 ? -1 : current()) {
    if (previous_ >= 0 && previous_ != device) use(device);
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
  ~Scope();

 private:
  int previous_;
};
/// The calling thread's device: "NVIDIA H100 80GB HBM3, 132 SMs, CUDA 13.0", or problem().
[[nodiscard]] std::string describe();

/// On the calling thread's device, aligned to 256 bytes. The host may wait for the device. Throws Errc::unsupported
/// where there is none, std::bad_alloc when memory runs out.
[[nodiscard]] std::byte* allocate(std::size_t bytes);
void release(std::byte* data) noexcept;

/// Host memory that devices reach without a copy of it.
class Pinned {
 public:
  Pinned() noexcept = default;
  explicit Pinned(std::size_t bytes);
  Pinned(Pinned&& other) noexcept;
  Pinned& operator=(Pinned&& other) noexcept;
  ~Pinned();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  /// Gives it up without freeing it: a device may still use it.
  void abandon() noexcept { data_ = nullptr; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Whether it is a default stream, which is another one in other threads or where another device is current.
[[nodiscard]] inline bool is_default(StreamRef stream) noexcept {
  return stream.native() == StreamRef::legacy_default().native() ||
         stream.native() == StreamRef::per_thread_default().native();
}

// What follows is enqueued on a stream of a device; the host does not wait, but for wait().

/// Between any two kinds of memory. Host memory has to be pinned, or the host waits.
void copy(void* to, const void* from, std::size_t bytes, StreamRef stream);
void zero(void* data, std::size_t bytes, StreamRef stream);
/// Until all that is on the stream is done.
void wait(StreamRef stream);
/// Between any two kinds of memory that nothing on a device still uses; the host waits until it is done.
void copy_now(void* to, const void* from, std::size_t bytes);

/// Memory of the calling thread's device that is there in the order of a stream of it, which must outlive it: nobody
/// waits. It comes from a pool of gradwire's own.
class Scratch {
 public:
  Scratch(std::size_t bytes, StreamRef stream);
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch();
  [[nodiscard]] std::byte* data() const noexcept { return data_; }

 private:
  std::byte* data_ = nullptr;
  StreamRef stream_;
};

/// A place in a stream.
class Event {
 public:
  Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event();

  void record(StreamRef stream);
  /// Whether the device has come so far; true before the first record().
  [[nodiscard]] bool done() const;
  /// The same, and false where the device fails: nobody knows what that still does.
  [[nodiscard]] bool is_surely_done() const noexcept;
  /// Work that is put on `stream` from now on waits for it.
  void before(StreamRef stream) const;

 private:
  void* event_ = nullptr;
};

/// Pinned memory that a device writes results to.
class Results {
 public:
  explicit Results(std::size_t bytes) : memory_(bytes) {}
  Results(const Results&) = delete;
  Results& operator=(const Results&) = delete;
  /// Does not wait: memory that is still written to is given up.
  ~Results();

  [[nodiscard]] std::byte* data() const noexcept { return memory_.data(); }
  /// Whether all that was put on streams is there.
  [[nodiscard]] bool done() const { return !is_lost_ && written_.done(); }
  [[nodiscard]] bool is_surely_done() const noexcept { return !is_lost_ && written_.is_surely_done(); }

  /// While it lives, what writes to the results is put on the stream: all of it, or what there was before an error.
  class Writing {
   public:
    Writing(Results& results, StreamRef stream) noexcept : results_(results), stream_(stream) {}
    Writing(const Writing&) = delete;
    Writing& operator=(const Writing&) = delete;
    ~Writing() { results_.record(stream_); }

   private:
    Results& results_;
    StreamRef stream_;
  };

 private:
  void record(StreamRef stream) noexcept;

  Pinned memory_;
  Event written_;
  bool is_lost_ = false;  // nobody knows when it is done
};

/// `most`: of what all ranks wait for. `least`: of what may wait for anything else.
enum class Priority { most, least };

/// A stream of its own, which waits for no other.
class Stream {
 public:
  explicit Stream(Priority priority = Priority::most);
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream();
  [[nodiscard]] StreamRef ref() const noexcept { return StreamRef(stream_); }

 private:
  void* stream_ = nullptr;
};

/// Names what this thread does meanwhile in profilers' timelines (NVTX), kernels that it launches too.
class Range {
 public:
  /// `name` may be null: then it names nothing.
  explicit Range(const char* name) noexcept;
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
  ~Range();

 private:
  bool is_named_;
};

}  // namespace gradwire::device
