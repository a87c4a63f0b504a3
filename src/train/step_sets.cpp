#include "train/step_sets.hpp"

#include <algorithm>
#include <set>

#include "gradwire/compressor.hpp"

namespace gradwire {

StepSets::StepSets(const Communicator& comm, std::span<const StepParam> params, std::size_t reasons,
                   const HookOptions& options)
    : params_(params.size()) {
  std::set<std::uint64_t> firsts{0};
  for (const StepParam& param : params) {
    firsts.insert(param.plan.schedule.dense_steps);
    for (const Schedule::Stage& stage : param.plan.schedule.stages) firsts.insert(stage.first);
  }
  for (const std::uint64_t first : firsts) {
    Phase phase{first, {}};
    for (unsigned mask = 0; mask < 1U << reasons; ++mask) phase.sets.push_back(add(comm, params, first, mask, options));
    phases_.push_back(std::move(phase));
  }
  for (const std::unique_ptr<BucketSet>& made : sets_) {
    for (std::size_t i = 0; i < made->buckets().size(); ++i) {
      std::size_t& bytes = arena_bytes_[i % made->in_flight_limit()];
      bytes = std::max(bytes, made->buckets()[i].arena_bytes);
    }
  }
}

std::size_t StepSets::add(const Communicator& comm, std::span<const StepParam> params, std::uint64_t step,
                          unsigned mask, const HookOptions& options) {
  std::vector<ParamInfo> infos;
  std::vector<BucketParam> made;
  std::string key;
  for (const StepParam& param : params) {
    const Schedule& schedule = param.plan.schedule;
    const bool dense = schedule.warms_up(step) || (mask & param.dense_in) != 0 ||
                       (param.sent_dense && schedule.compressor_at(step) == Schedule::kDense);
    BucketParam row{param.plan.scheme(param.info, step, dense), param.staged, param.scratch};
    if (param.frozen) row.scheme.count = 0;
    key += row.scheme.dense() ? "dense\n" : row.scheme.compressor + '\n';
    infos.push_back(param.info);
    made.push_back(std::move(row));
  }
  const auto found = std::find(keys_.begin(), keys_.end(), key);
  if (found != keys_.end()) return static_cast<std::size_t>(found - keys_.begin());
  keys_.push_back(std::move(key));
  sets_.push_back(std::make_unique<BucketSet>(comm, infos, made, options));
  return sets_.size() - 1;
}

std::size_t StepSets::of(std::uint64_t step, unsigned mask) const noexcept {
  auto phase = phases_.begin();
  while (phase + 1 != phases_.end() && step >= (phase + 1)->first) ++phase;
  return phase->sets[mask];
}

std::vector<SavedMemory> StepSets::memories(std::size_t param) const {
  std::vector<SavedMemory> all;
  for (std::size_t set = 0; set < sets_.size(); ++set) {
    std::string memory = sets_[set]->memory(param);
    if (!memory.empty()) all.push_back({sets_[set]->scheme(param).compressor, set, std::move(memory)});
  }
  return all;
}

void StepSets::set_memories(std::size_t param, std::span<const SavedMemory> memories) {
  const auto compressor_of = [&](std::size_t set) -> const std::string& {
    return sets_[set]->scheme(param).compressor;
  };
  const bool same_sets = std::all_of(memories.begin(), memories.end(), [&](const SavedMemory& saved) {
    return saved.set < sets_.size() && saved.compressor == compressor_of(saved.set);
  });
  for (std::size_t set = 0; set < sets_.size(); ++set) {
    std::string_view memory;  // of this set; under another schedule, of the same compressor in whatever set
    for (const SavedMemory& saved : memories) {
      if (same_sets ? saved.set == set : saved.compressor == compressor_of(set)) memory = saved.bytes;
    }
    sets_[set]->set_memory(param, memory);
  }
}

void StepSets::adopt_memories(const StepSets& old, std::size_t current) {
  for (std::size_t param = 0; param < params_; ++param) {
    const std::vector<SavedMemory> kept = old.memories(param);
    for (const std::unique_ptr<BucketSet>& set : sets_) {
      const std::string& compressor = set->scheme(param).compressor;
      const SavedMemory* source = nullptr;
      for (const SavedMemory& memory : kept) {
        if (memory.compressor == compressor || (source == nullptr && memory.set == current)) source = &memory;
      }
      if (source != nullptr) set->adopt_memory(param, source->bytes, source->compressor);
    }
  }
}

}  // namespace gradwire
