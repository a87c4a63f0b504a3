#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "base/fail.hpp"

#include "gradwire/compressor.hpp"

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
  requires std::is_trivially_copyable_v<Value>
class StepCache : public StepMemory {
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

  /// What was learned, whichever steps it serves.
  [[nodiscard]] std::optional<Entry> learned(const Id& id) const {
    const std::scoped_lock lock(mutex_);
    const auto found = pieces_.find(id);
    return found == pieces_.end() ? std::nullopt : std::optional<Entry>(found->second);
  }

  /// Allocates when a piece is first seen.
  void store(const Id& id, std::uint64_t step, Value value) {
    const std::scoped_lock lock(mutex_);
    if (pieces_.size() >= kMostPieces) pieces_.clear();
    pieces_.insert_or_assign(id, Entry{step, std::move(value)});
  }

  /// Entry after entry: the parts of the id and the step as u64, the value's bytes.
  [[nodiscard]] std::string save() const override {
    const std::scoped_lock lock(mutex_);
    std::string saved;
    const auto put = [&saved](const auto& part) { saved.append(reinterpret_cast<const char*>(&part), sizeof part); };
    for (const auto& [id, entry] : pieces_) {
      std::apply([&](const auto&... parts) { (put(static_cast<std::uint64_t>(parts)), ...); }, id);
      put(entry.step);
      put(entry.value);
    }
    return saved;
  }

  void restore(std::string_view saved) override {
    constexpr std::size_t kEntryBytes = (std::tuple_size_v<Id> + 1) * sizeof(std::uint64_t) + sizeof(Value);
    if (saved.size() % kEntryBytes != 0) {
      fail(Errc::bad_state, "{} bytes are no whole number of entries of {}", saved.size(), kEntryBytes);
    }
    const auto take = [&saved](auto& part) {
      std::memcpy(&part, saved.data(), sizeof part);
      saved.remove_prefix(sizeof part);
    };
    const auto take_part = [&take](auto& part) {
      std::uint64_t word = 0;
      take(word);
      part = static_cast<std::remove_reference_t<decltype(part)>>(word);
    };
    std::map<Id, Entry> pieces;
    while (!saved.empty()) {
      Id id;
      Entry entry;
      std::apply([&](auto&... parts) { (take_part(parts), ...); }, id);
      take(entry.step);
      take(entry.value);
      pieces.insert_or_assign(id, entry);
    }
    const std::scoped_lock lock(mutex_);
    pieces_ = std::move(pieces);
  }

 private:
  mutable std::mutex mutex_;
  std::map<Id, Entry> pieces_;
};

}  // namespace gradwire
