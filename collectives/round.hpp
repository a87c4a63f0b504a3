#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "collectives/pipeline.hpp"

namespace gradwire {

/// An all-reduce inside an algorithm, in the slot of the operation that it is part of, by exchanges alone. Messages
/// match per pair of ranks and slot, so rounds of several operations in flight need no common order; the backend's own
/// all-reduces, which match in the order of posting, would. An operation has one round under way at a time.
class ReductionRound final : public Completion {
 public:
  /// `kind` tells rounds of one operation apart. `outer` outlives the round.
  ReductionRound(Operation& outer, std::vector<BucketItem> items, std::uint64_t kind, std::size_t segment_bytes);

  [[nodiscard]] std::size_t workspace_bytes() const noexcept { return algorithm_->workspace_bytes(); }
  /// Memory of each item in the run to come.
  [[nodiscard]] ItemBuffers& buffers(std::size_t item) noexcept { return inner_.buffers[item]; }

  /// Posts the first exchanges. The outer operation's verdict travels instead of data.
  void begin(Bytes workspace);
  /// Once complete: gives the outer operation the stats and the verdict.
  void end();

  bool poll() override { return pipeline_->advance(); }
  /// Over transports that keep to the stream all of the round is there once it has begun; else not to be had.
  void before(StreamRef stream) override;
  [[nodiscard]] std::string describe() const override { return pipeline_->describe(); }

 private:
  [[nodiscard]] bool keeps_to_stream() const;

  Operation& outer_;
  Operation inner_;
  std::uint64_t kind_;
  std::unique_ptr<Algorithm> algorithm_;
  std::optional<Pipeline> pipeline_;
};

}  // namespace gradwire
