#pragma once
#include <optional>
#include <string>
#include <vector>

#include "collectives/algorithm.hpp"

namespace gradwire {

/// Runs an algorithm's stages over all segments in a fixed order: at tick t stage 0 of segment t, stage 1 of segment
/// t - d, stage 2 of segment t - 2d ... with d = kPipelineDepth. So d segments are on the wire in each stage while the
/// next ones are encoded and the last ones decoded, and every rank posts its exchanges in the same order, which is what
/// message matching (and a device stream) need.
class Pipeline {
 public:
  explicit Pipeline(Algorithm& algorithm);

  /// `ordered`: steps follow one another on this stream, so that all of them run in the first advance(); null: each
  /// when its predecessor is complete. On a stream it may begin again before it is done.
  void begin(const StreamRef* ordered = nullptr);
  /// Runs every step that can run; true when none is left, and what they posted is complete.
  bool advance();
  /// What the next step waits for.
  [[nodiscard]] std::string describe() const;

 private:
  [[nodiscard]] bool find_step() noexcept;
  [[nodiscard]] Work& pending(int segment) noexcept;

  Algorithm& algorithm_;
  int stages_;
  int segments_;
  std::optional<StreamRef> ordered_;
  std::vector<Work> posted_;   // of all steps, in stream order
  std::vector<Work> pending_;  // of the segments in flight, by segment modulo their number
  int tick_ = 0;
  int stage_ = 0;
};

}  // namespace gradwire
