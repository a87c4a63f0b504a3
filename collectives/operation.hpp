#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "gradwire/allreduce.hpp"

namespace gradwire {

/// Verdict::rank where finite inputs have an infinite sum.
inline constexpr int kNobody = -1;
/// And where a device found NaN or Inf in a result: whose input it was is not known.
inline constexpr int kSomebody = -2;

/// What ranks asked for. Each has its algorithms (collectives/select.cpp).
enum class Entry : std::uint8_t { allreduce, reduce_scatter, all_gather };

[[nodiscard]] constexpr std::string_view name(Entry entry) noexcept {
  switch (entry) {
    case Entry::reduce_scatter: return "reduce_scatter";
    case Entry::all_gather: return "all_gather";
    default: return "allreduce";
  }
}

/// Of device_message.cpp, kept so that runs allocate nothing.
struct DeviceScratch {
  std::vector<std::size_t> places{};   ///< where frames begin, and the last one ends
  std::vector<std::size_t> members{};  ///< pieces that are coded together
  std::vector<EncodeJob> encodes{};
  std::vector<DecodeJob> decodes{};
  std::vector<SumJob> sums{};
};

/// What an algorithm works on: the bucket, and the run that is under way.
struct Operation {
  Communicator comm;
  std::vector<BucketItem> items{};  ///< named as messages name them: "parameter 'fc1.weight'"
  Slot slot{};
  Entry entry = Entry::allreduce;
  std::uint64_t seed = 0;
  std::vector<int> nodes{};           ///< of each rank
  std::optional<Compressor> inner{};  ///< of what stays inside a node; set where ranks are summed by nodes
  bool pass_non_finite = false;       ///< AllreduceOptions
  std::uint64_t fingerprint = 0;      ///< of everything ranks must have in common; in every envelope

  std::vector<ItemBuffers> buffers{};  ///< by item
  std::uint64_t step = 0;
  Deadline deadline{};
  std::uint32_t number = 0;  ///< of the run in its slot
  StreamRef stream = StreamRef::host();
  Space space = Space::host;  ///< of tensors, residuals and workspace
  /// On a device: by item, in pinned memory; what is 1 when the stream has come to the end has results with NaN or Inf.
  std::uint32_t* non_finite = nullptr;
  std::vector<std::size_t> flags{};  ///< of an operation inside of another: by item, which of those is its
  std::optional<Verdict> verdict{};  ///< once set, messages carry it instead of frames
  OperationStats stats{};
  DeviceScratch scratch{};

  [[nodiscard]] int rank() const noexcept { return comm.rank(); }
  [[nodiscard]] int size() const noexcept { return comm.size(); }

  [[nodiscard]] bool on_device() const noexcept { return space == Space::device; }
  [[nodiscard]] std::uint32_t* flag(std::size_t item) const noexcept {
    return non_finite + (flags.empty() ? item : flags[item]);
  }
  /// The first verdict stays; at the end ranks agree on one of theirs.
  void refuse(const Verdict& found) {
    if (!verdict) verdict = found;
  }
  /// Posts an exchange and counts what it sends.
  [[nodiscard]] Work exchange(std::span<const Send> sends, std::span<const Recv> recvs) {
    const int home = nodes[static_cast<std::size_t>(rank())];
    for (const Send& send : sends) {
      stats.wire_bytes += send.bytes.size;
      if (nodes[static_cast<std::size_t>(send.to)] != home) stats.inter_node_bytes += send.bytes.size;
    }
    return comm.transport().exchange(sends, recvs, slot, stream);
  }
};

/// Adds its lifetime to one of the stats.
class Stopwatch {
 public:
  explicit Stopwatch(double& total_us) : total_us_(total_us), start_(std::chrono::steady_clock::now()) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    total_us_ += std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  double& total_us_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace gradwire
