#include "train/checkpoint.hpp"

#include <algorithm>
#include <optional>

#include "base/fail.hpp"
#include "train/registration.hpp"

namespace gradwire {
namespace {

/// Runs what takes up stored bytes of a parameter: where they are none of its own, the error names it.
template <class Action>
void naming(const SavedParam& param, Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    fail(Errc::bad_state, "saved state of '{}': {}", param.name, error.what());
  }
}

/// Values of a saved vector, as f32.
std::vector<float> values_of(const SavedVector& vector, std::size_t count) {
  StateVector values(count, vector.storage, Space::host);
  values.restore(vector.bytes);
  std::vector<float> out(count);
  values.read(out.data());
  return out;
}

std::size_t count_of(const SavedParam& param) {
  std::size_t count = 1;
  for (const std::size_t extent : param.shape) count *= extent;
  return count;
}

/// The parts of a sum, shared out again: each of `ranks` gets the same part.
void share_out(SavedVector& vector, std::size_t count, std::span<const SavedState> all, std::size_t param,
               std::size_t place, int ranks) {
  std::vector<double> total(count);
  for (const SavedState& state : all) {
    const std::vector<float> part = values_of(state.params[param].vectors[place], count);
    for (std::size_t i = 0; i < count; ++i) total[i] += part[i];
  }
  std::vector<float> mine(count);
  for (std::size_t i = 0; i < count; ++i) mine[i] = static_cast<float>(total[i] / ranks);
  StateVector values(count, vector.storage, Space::host);
  values.assign({mine.data(), mine.size()});
  vector.bytes = values.stored();
}

/// The file of one rank, which has to be what its name says.
SavedState read_rank(const std::filesystem::path& folder, int rank, int ranks) {
  const std::filesystem::path path = folder / state_file_name(rank, ranks);
  SavedState state = read_state(path);
  if (state.rank == rank && state.ranks == ranks) return state;
  fail(Errc::bad_state, "{}: holds the state of rank {} of {}", path.string(), state.rank, state.ranks);
}

bool same_layout(const SavedParam& a, const SavedParam& b) {
  const auto same = [](const SavedVector& x, const SavedVector& y) {
    return x.name == y.name && x.kind == y.kind && x.storage == y.storage && x.bytes.size() == y.bytes.size();
  };
  return a.name == b.name && a.shape == b.shape &&
         std::equal(a.vectors.begin(), a.vectors.end(), b.vectors.begin(), b.vectors.end(), same);
}

void require_alike(const SavedState& first, const SavedState& other, const std::filesystem::path& folder) {
  if (first.step != other.step) {
    fail(Errc::bad_state, "{}: rank 0 was saved after step {}, rank {} after step {}", folder.string(), first.step,
         other.rank, other.step);
  }
  const bool alike =
      first.owner == other.owner && first.numbers == other.numbers && first.plan == other.plan &&
      std::equal(first.params.begin(), first.params.end(), other.params.begin(), other.params.end(), same_layout);
  if (!alike || first.average != other.average) {
    fail(Errc::bad_state, "{}: the states of ranks 0 and {} are of different models", folder.string(), other.rank);
  }
}

std::string describe(const SavedParam& saved, const ParamInfo& info, const std::string& rule,
                     const std::vector<NamedState>& live) {
  if (saved.shape != info.shape) {
    return fmt::format("'{}' was [{}] and is [{}]", info.name, shape_text(saved.shape), shape_text(info.shape));
  }
  if (saved.dtype != info.dtype)
    return fmt::format("'{}' was {} and is {}", info.name, name(saved.dtype), name(info.dtype));
  const auto same = [](const SavedVector& a, const NamedState& b) {
    return a.name == b.name && a.kind == b.kind && a.storage == b.values->storage() &&
           a.bytes.size() == b.values->stored_bytes();
  };
  if (std::equal(saved.vectors.begin(), saved.vectors.end(), live.begin(), live.end(), same)) return {};
  return fmt::format("'{}' was under the rule {}, whose state is of another kind or storage than that of {}", info.name,
                     saved.rule, rule);
}

}  // namespace

SavedState EngineState::save() {
  const StepReport& totals = engine_.totals();
  SavedState saved;
  saved.rank = rank_;
  saved.ranks = ranks_;
  saved.step = engine_.step();
  saved.skipped_steps = totals.skipped_steps;
  saved.dense_fallbacks = totals.dense_fallbacks;
  saved.average = average_;
  saved.plan = engine_.agenda().saved();
  for (std::size_t i = 0; i < engine_.param_count(); ++i) {
    const ParamInfo& info = engine_.info(i);
    require(engine_.index_of(info.name) == i, "two parameters are called '{}', and state is saved and loaded by name",
            info.name);
    SavedParam param{info.name, info.shape, info.dtype, engine_.plan(i).rule, {}, engine_.memories(i)};
    for (const NamedState& state : engine_.state(i)) {
      param.vectors.push_back({state.name, state.kind, std::string(state.values->storage()), state.values->stored()});
    }
    saved.params.push_back(std::move(param));
  }
  return saved;
}

SavedState gather_state(const std::filesystem::path& folder, int rank, int ranks) {
  const int saved = saved_ranks(folder);
  if (saved == ranks) return read_rank(folder, rank, ranks);
  std::vector<SavedState> all;
  for (int i = 0; i < saved; ++i) {
    all.push_back(read_rank(folder, i, saved));
    require_alike(all.front(), all.back(), folder);
  }
  SavedState mine = all.front();
  for (std::size_t p = 0; p < mine.params.size(); ++p) {
    SavedParam& param = mine.params[p];
    for (std::size_t v = 0; v < param.vectors.size(); ++v) {
      if (param.vectors[v].kind == StateKind::replicated) continue;
      naming(param, [&] { share_out(param.vectors[v], count_of(param), all, p, v, ranks); });
    }
  }
  return mine;
}

void EngineState::check(const SavedState& state) {
  std::string differences;
  const auto add = [&differences](const std::string& text) {
    if (!text.empty()) differences += (differences.empty() ? "" : "; ") + text;
  };
  if (state.average != average_) add(average_ ? "it is of sums, not means" : "it is of means, not sums");
  if (state.owner != SavedState::kHook) add("it is a " + state.owner + "'s");
  std::vector<bool> found(engine_.param_count());
  for (const SavedParam& saved : state.params) {
    const std::size_t i = engine_.index_of(saved.name);
    if (i == engine_.param_count()) {
      add(fmt::format("'{}' was saved and is not registered", saved.name));
      continue;
    }
    found[i] = true;
    add(describe(saved, engine_.info(i), engine_.plan(i).rule, engine_.state(i)));
  }
  try {
    engine_.check_saved_plan(state.plan);
  } catch (const Error& error) {
    add(error.what());
  }
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (!found[i]) add(fmt::format("'{}' is new", engine_.info(i).name));
  }
  if (!differences.empty()) fail(Errc::bad_state, "the saved state is of another model: {}", differences);
}

void EngineState::take_up(const SavedState& state) {
  engine_.set_saved_plan(state.plan);
  for (const SavedParam& saved : state.params) {
    const std::size_t i = engine_.index_of(saved.name);
    const std::vector<NamedState> live = engine_.state(i);
    naming(saved, [&] {
      for (std::size_t v = 0; v < live.size(); ++v) live[v].values->restore(saved.vectors[v].bytes);
      engine_.set_memories(i, saved.memories);
    });
  }
  engine_.set_step(state.step, state.skipped_steps, state.dense_fallbacks);
}

void save_in(const std::filesystem::path& folder, const SavedState& state) {
  write_state(folder / state_file_name(state.rank, state.ranks), state);
}

void load_together(const Communicator& comm, Deadline deadline, Checkpointed& target,
                   const std::filesystem::path& folder) {
  std::optional<SavedState> before;
  try {
    prepare_together(comm, deadline, "the saved state", [&]() -> std::vector<Agreement> {
      before = target.save();
      const SavedState state = gather_state(folder, comm.rank(), comm.size());
      target.check(state);
      target.take_up(state);
      std::vector<Agreement> entries{{"ranks that saved it", std::to_string(state.ranks)},
                                     {"its step", std::to_string(state.step)}};
      for (const auto& [name, number] : state.numbers) entries.push_back({"its " + name, std::to_string(number)});
      return entries;
    });
  } catch (...) {
    if (before) target.take_up(*before);  // this rank or another could not
    throw;
  }
}

}  // namespace gradwire
