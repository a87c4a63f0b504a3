#pragma once
#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

#include "collectives/layout.hpp"
#include "collectives/operation.hpp"

namespace gradwire {

/// Segments between two stages in the schedule: how many messages of each stage are in flight.
inline constexpr int kPipelineDepth = 3;

/// One algorithm over one bucket. Every segment passes through stages 0 .. stages()-1; a stage encodes or decodes, then
/// posts at most one exchange, which must be complete before the segment's next stage. Stages of different segments
/// overlap, in a schedule that is the same on every rank (collectives/pipeline.hpp).
class Algorithm {
 public:
  explicit Algorithm(Operation& op) : op_(op) {}
  Algorithm(const Algorithm&) = delete;
  Algorithm& operator=(const Algorithm&) = delete;
  virtual ~Algorithm() = default;

  [[nodiscard]] virtual int stages() const noexcept = 0;
  [[nodiscard]] virtual int segments() const noexcept = 0;
  /// The same on every rank.
  [[nodiscard]] virtual std::size_t workspace_bytes() const noexcept = 0;
  /// Runs one stage without blocking (but for the first of `integer_sum` where ranges are not in stream order) and
  /// returns what the segment's next stage must wait for; the last stage of a segment returns a complete Work.
  [[nodiscard]] virtual Work run_stage(int stage, int segment) = 0;

  /// Whether a verdict of any rank reaches all of them with the messages; else they exchange verdicts after each run.
  [[nodiscard]] virtual bool spreads_verdicts() const noexcept { return true; }

  /// The run is over on all ranks, and whether it succeeded is the same on all of them. (On a device not before now.)
  virtual void settle(bool /*succeeded*/) {}

  /// What it keeps of an item from run to run (PersistentAllreduce::memory).
  [[nodiscard]] virtual std::string memory(std::size_t) const { return {}; }
  /// `from`: the compressor that it is of, the item's own or another one of low rank.
  virtual void set_memory(std::size_t item, std::string_view memory, const Compressor& from);

  void set_workspace(Bytes workspace) noexcept { workspace_ = workspace; }

 protected:
  /// Segments share lanes of workspace: a lane is free again when its segment has passed the last stage.
  [[nodiscard]] int lanes() const noexcept { return std::min(segments(), (stages() - 1) * kPipelineDepth + 1); }
  [[nodiscard]] Bytes lane(int segment, std::size_t lane_bytes) const noexcept {
    return workspace_.slice(static_cast<std::size_t>(segment % lanes()) * lane_bytes, lane_bytes);
  }

  Operation& op_;  // NOLINT: the interface's one piece of shared state
  Bytes workspace_;
};

// What each is and costs: collectives/README.md.
[[nodiscard]] std::unique_ptr<Algorithm> make_dense(Operation& op);
[[nodiscard]] std::unique_ptr<Algorithm> make_scatter_reduce(Operation& op, std::size_t segment_bytes);
[[nodiscard]] std::unique_ptr<Algorithm> make_reduce_scatter(Operation& op, std::size_t segment_bytes);
[[nodiscard]] std::unique_ptr<Algorithm> make_all_gather(Operation& op, std::size_t segment_bytes);
[[nodiscard]] std::unique_ptr<Algorithm> make_ring(Operation& op, std::size_t segment_bytes);
[[nodiscard]] std::unique_ptr<Algorithm> make_gather_sum(Operation& op, std::size_t segment_bytes);
[[nodiscard]] std::unique_ptr<Algorithm> make_hierarchical(Operation& op, std::size_t segment_bytes);
[[nodiscard]] std::unique_ptr<Algorithm> make_hierarchical_gather(Operation& op, std::size_t segment_bytes);
[[nodiscard]] std::unique_ptr<Algorithm> make_sparse_scatter(Operation& op);
[[nodiscard]] std::unique_ptr<Algorithm> make_integer_sum(Operation& op);
[[nodiscard]] std::unique_ptr<Algorithm> make_lowrank(Operation& op, std::size_t segment_bytes);

/// What decides on an algorithm: all of it is the same on every rank.
struct Choice {
  Entry entry = Entry::allreduce;
  std::string_view algorithm = "auto";
  std::string_view inner = "none";
  std::span<const BucketItem> items{};
  std::span<const int> nodes{};  ///< of each rank
  Space space = Space::host;
};

/// Several nodes, each of several ranks: what "auto" takes `hierarchical` for.
[[nodiscard]] bool has_levels(std::span<const int> nodes);
/// The algorithm that is meant, "auto" resolved. Throws Errc::invalid_argument for an unknown name and
/// Errc::unsupported, saying why, for one that the items rule out. Pure: all ranks select alike.
[[nodiscard]] std::string_view select_algorithm(const Choice& choice);
[[nodiscard]] std::unique_ptr<Algorithm> make_algorithm(std::string_view name, Operation& op,
                                                        std::size_t segment_bytes);

}  // namespace gradwire
