#include "collectives/pipeline.hpp"

#include <fmt/format.h>

namespace gradwire {

Pipeline::Pipeline(Algorithm& algorithm)
    : algorithm_(algorithm),
      stages_(algorithm.stages()),
      segments_(algorithm.segments()),
      pending_(static_cast<std::size_t>((stages_ - 1) * kPipelineDepth + 1)) {}

void Pipeline::begin(const StreamRef* ordered) {
  ordered_ = ordered == nullptr ? std::nullopt : std::optional(*ordered);
  tick_ = 0;
  stage_ = 0;
}

Work& Pipeline::pending(int segment) noexcept { return pending_[static_cast<std::size_t>(segment) % pending_.size()]; }

/// Moves (tick_, stage_) to the next step that exists, staying where it is one; false past the end.
bool Pipeline::find_step() noexcept {
  const int ticks = segments_ + (stages_ - 1) * kPipelineDepth;
  for (; tick_ < ticks; ++tick_, stage_ = 0) {
    for (; stage_ < stages_; ++stage_) {
      const int segment = tick_ - stage_ * kPipelineDepth;
      if (segment >= 0 && segment < segments_) return true;
    }
  }
  return false;
}

bool Pipeline::advance() {
  while (find_step()) {
    const int segment = tick_ - stage_ * kPipelineDepth;
    if (stage_ > 0) {
      if (ordered_) {
        pending(segment).before(*ordered_);
      } else if (!pending(segment).done()) {
        return false;
      }
    }
    pending(segment) = algorithm_.run_stage(stage_, segment);
    if (ordered_) posted_.push_back(pending(segment));
    ++stage_;
  }
  while (!posted_.empty()) {
    if (!posted_.back().done()) return false;
    posted_.pop_back();
  }
  return true;
}

std::string Pipeline::describe() const {
  const int segment = tick_ - stage_ * kPipelineDepth;
  const std::size_t index = static_cast<std::size_t>(std::max(segment, 0)) % pending_.size();
  return fmt::format("stage {} of {}, segment {} of {}, waiting for {}", stage_, stages_, segment, segments_,
                     pending_[index].describe());
}

}  // namespace gradwire
