// What an item keeps from run to run, put together and taken apart (docs/state-format.md, section 2).
#include <cstring>

#include "base/fail.hpp"
#include "collectives/run.hpp"

namespace gradwire {
namespace {

/// Takes a memory apart into what Run::memory() put together.
class MemoryReader {
 public:
  MemoryReader(const BucketItem& item, std::string_view memory)
      : item_(item), memory_(memory), is_empty_(memory.empty()) {}

  /// The next part; of no memory every part is empty.
  [[nodiscard]] std::string_view take() {
    if (is_empty_) return {};
    std::uint64_t size = 0;
    if (memory_.size() >= sizeof size) std::memcpy(&size, memory_.data(), sizeof size);
    if (memory_.size() < sizeof size || memory_.size() - sizeof size < size) {
      fail(Errc::bad_state, "{}: its memory of earlier steps is cut short", item_.name);
    }
    const std::string_view part = memory_.substr(sizeof size, size);
    memory_.remove_prefix(sizeof size + size);
    return part;
  }
  void finish() const {
    if (!memory_.empty()) fail(Errc::bad_state, "{}: {} bytes too many of memory", item_.name, memory_.size());
  }

 private:
  const BucketItem& item_;
  std::string_view memory_;
  bool is_empty_;
};

}  // namespace

/// Each part behind its size (u64): the algorithm's, then those of the compressor. Nothing where all are empty.
std::string Run::memory(std::size_t item) const {
  std::string text;
  bool empty = true;
  const auto add = [&](const std::string& part) {
    const std::uint64_t size = part.size();
    text.append(reinterpret_cast<const char*>(&size), sizeof size);
    text += part;
    empty = empty && part.empty();
  };
  add(algorithm_->memory(item));
  for (const StepMemory* const memory : op_.items[item].compressor.step_memories()) add(memory->save());
  return empty ? std::string() : text;
}

void Run::set_memory(std::size_t item, std::string_view memory) {
  const BucketItem& own = op_.items[item];
  MemoryReader reader(own, memory);
  algorithm_->set_memory(item, reader.take(), own.compressor);
  for (StepMemory* const part : own.compressor.step_memories()) part->restore(reader.take());
  reader.finish();
}

void Run::adopt_memory(std::size_t item, std::string_view memory, const Compressor& from) {
  const BucketItem& own = op_.items[item];
  if (memory.empty() || from.spec() == own.compressor.spec()) return set_memory(item, memory);
  MemoryReader reader(own, memory);
  const std::string_view kept = reader.take();
  for (std::size_t part = 0; part < from.step_memories().size(); ++part) (void)reader.take();
  reader.finish();
  if (own.compressor.low_rank() == nullptr || from.low_rank() == nullptr) return set_memory(item, {});
  algorithm_->set_memory(item, kept, from);
}

}  // namespace gradwire
