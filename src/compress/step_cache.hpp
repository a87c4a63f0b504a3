#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

namespace gradwire {

/// What a compressor learned of each piece of a tensor, and at which step: for those that learn anew every `refresh`
/// steps only. Threads may share it.
///
/// What is learned at step s serves the steps s + 1 to s + refresh - 1. Not s itself: a step that is repeated learns
/// again, and gives what it gave. Nor an earlier step, as after a run was set back.
///
/// Id orders pieces. Ranks as threads of one process share a compressor and draw from seeds of their own, so the seed
/// is part of it.
template <class Id, class Value>
class StepCache {
 public:
  struct Entry {
    std::uint64_t step;  ///< when it was learned
    Value value;
  };
  /// Pieces of a run's changing plans and seeds must not pile up.
  static constexpr std::size_t kMostPieces = std::size_t{1} << 18;

  /// What may serve `step`.
  [[nodiscard]] std::optional<Value> find(const Id& id, std::uint64_t step, std::uint32_t refresh) {
    const std::scoped_lock lock(mutex_);
    const auto found = pieces_.find(id);
    if (found == pieces_.end()) return {};
    const Entry& entry = found->second;
    if (step <= entry.step || step - entry.step >= refresh) return {};
    return entry.value;
  }

  /// Allocates when a piece is first seen.
  void store(const Id& id, std::uint64_t step, Value value) {
    const std::scoped_lock lock(mutex_);
    if (pieces_.size() >= kMostPieces) pieces_.clear();
    pieces_.insert_or_assign(id, Entry{step, std::move(value)});
  }

 private:
  std::mutex mutex_;
  std::map<Id, Entry> pieces_;
};

}  // namespace gradwire
