// What a step engine keeps from step to step, seen from outside.
#include <algorithm>
#include <cmath>

#include "compress/vector_ops.hpp"
#include "train/step_engine.hpp"

namespace gradwire {

std::size_t StepEngine::state_bytes() const noexcept {
  std::size_t total = 0;
  for (const Param& param : params_) total += param.rule->bytes();
  return total;
}

double StepEngine::residual_norm(std::size_t param) const {
  for (const NamedState& state : params_[param].rule->state()) {
    if (state.kind != StateKind::residual) continue;
    std::vector<float> values(state.values->count());
    state.values->read(values.data());
    return std::sqrt(ops::sum_squares(values.data(), values.size()));
  }
  return 0;
}

void StepEngine::rescale(float factor) {
  std::vector<float> scratch;
  for (Param& param : params_) {
    scratch.resize(std::max(scratch.size(), param.plan.count));
    for (const NamedState& state : param.rule->state()) {
      if (state.degree == 0) continue;
      state.values->scale(std::pow(factor, static_cast<float>(state.degree)), scratch.data());
    }
  }
}

std::size_t StepEngine::index_of(std::string_view name) const noexcept {
  const auto found = std::find_if(params_.begin(), params_.end(), [&](const Param& p) { return p.info.name == name; });
  return static_cast<std::size_t>(found - params_.begin());
}

std::vector<SavedMemory> StepEngine::memories(std::size_t param) const {
  std::vector<SavedMemory> all;
  for (std::size_t set = 0; set < sets_.size(); ++set) {
    std::string memory = sets_[set]->memory(param);
    if (!memory.empty()) all.push_back({sets_[set]->scheme(param).compressor, set, std::move(memory)});
  }
  return all;
}

void StepEngine::set_memories(std::size_t param, std::span<const SavedMemory> memories) {
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

void StepEngine::set_step(std::uint64_t step, std::uint64_t skipped_steps, std::uint64_t dense_fallbacks) {
  const std::lock_guard lock(mutex_);
  step_ = step;
  totals_ = {};
  skipped_steps_ = totals_.skipped_steps = skipped_steps;
  dense_fallbacks_ = totals_.dense_fallbacks = dense_fallbacks;
  choose_set();
  last_set_ = set_;
}

}  // namespace gradwire
