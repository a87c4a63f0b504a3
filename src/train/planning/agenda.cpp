#include "train/planning/agenda.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/env.hpp"
#include "base/fail.hpp"
#include "base/log.hpp"
#include "plan/table.hpp"

namespace gradwire {
namespace {

std::unique_ptr<TraceWriter> open_trace(const HookOptions& options, const Communicator& comm) {
  const std::string& path = options.planning.trace;
  if (path.empty() || comm.rank() != 0) return nullptr;
  const std::string meta = fmt::format(R"({{"rank":{},"ranks":{},"seed":{},"average":{}}})", comm.rank(), comm.size(),
                                       options.seed, options.average);
  try {
    return std::make_unique<TraceWriter>(path, meta);
  } catch (const Error& error) {
    // A program with several hooks, which runs as well without: the first one's is the trace.
    if (error.code() != Errc::io || path != environment().trace) throw;
    log::line(log::Level::warn, comm.rank(), "no trace of this hook: {}", error.what());
    return nullptr;
  }
}

}  // namespace

PlanAgenda::PlanAgenda(const Communicator& comm, std::vector<PlannedLayer> layers, const HookOptions& options,
                       std::uint64_t first)
    : ranks_(comm.size()),
      rank_(comm.rank()),
      layers_(std::move(layers)),
      options_(options.planning),
      sums_(layers_),
      exchange_(comm, measures(options_) ? sums_.floats() : 0, "the statistics of layers", Slot{kMaxSlot}, options),
      control_(comm, measures(options_) ? kVoteFloats + Guards::floats(layers_.size()) : 0, "the layers' plans",
               Slot{kMaxSlot - 1}, options),
      guards_(layers_.size(), options_, measures(options_) ? options.space : Space::host),
      frozen_(layers_.size()),
      forbidden_(layers_.size()),
      previous_norms_(layers_.size()) {
  for (const PlannedLayer& layer : layers_) {
    specs_.push_back(layer.specs[layer.reference]);
    figures_.push_back({layer.name, specs_.back(), 0, 0});
  }
  if (!measures(options_)) return;
  require(options_.share == 0 || (options_.share >= 0.001 && options_.share <= 1),
          "planning: share is 0, or in [0.001, 1], given {}", options_.share);
  require(options_.hysteresis >= 0 && options_.hysteresis < 1, "planning: hysteresis is in [0, 1), given {}",
          options_.hysteresis);
  for (const double limit : {options_.max_error, options_.max_layer_error, options_.max_residual_ratio})
    require(limit >= 0 && std::isfinite(limit), "planning: limits are finite and not negative, given {}", limit);
  require(ranks_ <= kMostVoters, "planning: at most {} ranks, given {}", kMostVoters, ranks_);
  windows_.emplace(options_, first);
  if (!options_.policy.empty()) policy_ = make_policy(options_.policy);
  if (layers_.empty()) {
    require(!policy_, "planning: every parameter is small or dense, so there is nothing to plan");
    log::line(log::Level::warn, rank_, "the trace stays empty: every parameter is small or dense");
    return;
  }
  planner_.emplace(layers_, options, rank_, open_trace(options, comm));
}

void PlanAgenda::begin_step(std::uint64_t step) {
  step_ = step;
  if (on()) guards_.begin_step(policy_ && windows_->watches(step));
}

void PlanAgenda::see_gradient(std::size_t layer, ConstTensor gradient, float scale, StreamRef stream) {
  guards_.see_gradient(layer, gradient, scale, stream);
}

void PlanAgenda::see_sent(std::size_t layer, ConstTensor sent, double ready_us, StreamRef stream) {
  guards_.see_sent(layer, sent, stream);
  if (on() && windows_->samples(step_)) planner_->offer(layer, sent, {step_, ready_us}, stream);
}

void PlanAgenda::see_delivered(std::size_t layer, ConstTensor delivered, ConstTensor lost, StreamRef stream) {
  guards_.see_delivered(layer, delivered, lost, stream);
}

void PlanAgenda::start(StreamRef stream) {
  if (!on()) return;
  if (windows_->exchanges(step_)) {
    planner_->take(exchange_.values());
    exchange_.start(step_, stream);
  }
  if (is_due() || guards_.has_seen()) {
    pack_control();
    control_.start(step_, stream);
  }
}

void PlanAgenda::pack_control() {
  Vote vote;
  if (is_due()) {
    solved_ = planner_->solved();
    if (solved_ && solved_->answer) vote.plan = fingerprint(*solved_->answer);
    vote.failed = solved_ && !solved_->answer;
  }
  write_vote(vote, votes());
  guards_.pack(seen());
}

bool PlanAgenda::advance() {
  const bool exchanged = exchange_.advance();
  return control_.advance() || exchanged;
}

std::string PlanAgenda::describe() const {
  const std::string first = exchange_.describe();
  const std::string second = control_.describe();
  return first + (first.empty() || second.empty() ? "" : "; ") + second;
}

std::optional<PlanAgenda::Specs> PlanAgenda::end_step(bool dropped, const WindowSums::Steps& took) {
  if (!on()) return {};
  planner_->add(took);
  adopting_.reset();
  next_ = specs_;
  next_plan_.reset();
  if (control_.take_result()) {
    if (is_due()) compare_plans();
    if (guards_.has_seen()) check_guards();
  }
  if (exchange_.take_result()) read_exchange();
  guards_.end_step(dropped);
  if (next_ == specs_) return {};
  return next_;
}

/// All ranks read the same sums, so all take the same branch.
void PlanAgenda::compare_plans() {
  asked_ = false;
  const std::optional<Solved> solved = std::exchange(solved_, std::nullopt);
  const Votes all = read_votes(votes(), ranks_);
  if (all.failed > 0) {
    return note(step_ + 1, PlanOutcome::failed,
                solved && !solved->failure.empty() ? solved->failure : "the policy failed on another rank");
  }
  if (all.plans < ranks_) {
    return note(step_ + 1, PlanOutcome::late,
                fmt::format("{} of {} ranks had a plan after {} steps", all.plans, ranks_, options_.lag));
  }
  if (!all.same) return note(step_ + 1, PlanOutcome::failed, "ranks found different plans");
  const PlanAnswer& answer = *solved->answer;
  report_.last_solve_ms = answer.plan.solver_ms;
  next_plan_ = answer.plan;
  for (std::size_t row = 0; row < rows_.size(); ++row) next_[rows_[row]] = answer.plan.layers[row].spec;
  if (next_ != specs_) {
    adopting_ = answer.detail.empty() ? fmt::format("{} bytes, error {:.3g}", answer.plan.bytes, answer.plan.error)
                                      : answer.detail;
    return;
  }
  note(step_ + 1, PlanOutcome::kept, answer.detail);
  adopt();
}

void PlanAgenda::check_guards() {
  for (const Guards::Finding& finding : guards_.check(seen(), ranks_)) {
    if (next_[finding.layer] == specs_[finding.layer]) guard(finding.layer, finding.why);  // else it changes anyway
  }
}

void PlanAgenda::guard(std::size_t layer, const std::string& why) {
  const std::string& now = specs_[layer];
  const TableLayer* const row = row_of(layer);
  next_[layer] = row == nullptr ? std::string(Schedule::kDense) : safer_spec(*row, now);
  if (next_[layer] == now) return;
  forbid(layer, now);
  if (std::exchange(asked_, false)) {
    note(step_ + 1, PlanOutcome::failed, "a guard moved a layer while the plan was being made");
  }
  note(step_ + 1, PlanOutcome::guarded, fmt::format("{} {}: {} -> {}", layers_[layer].name, why, now, next_[layer]));
}

/// What is ruled out already stays so: the spec with the least error stands for all with more.
void PlanAgenda::forbid(std::size_t layer, const std::string& spec) {
  const TableLayer* const row = row_of(layer);
  const auto error_of = [&](const std::string& of) {
    const std::optional<std::size_t> place = row == nullptr || of.empty() ? std::nullopt : find_candidate(*row, of);
    return place ? row->candidates[*place].error : std::numeric_limits<double>::infinity();
  };
  std::string& forbidden = forbidden_[layer];
  if (forbidden.empty() || error_of(spec) < error_of(forbidden)) forbidden = spec;
}

const TableLayer* PlanAgenda::row_of(std::size_t layer) const noexcept {
  const auto found = std::find(rows_.begin(), rows_.end(), layer);
  return found == rows_.end() ? nullptr : &table_.layers[static_cast<std::size_t>(found - rows_.begin())];
}

void PlanAgenda::read_exchange() {
  sums_.unpack(exchange_.values());
  std::string missing;
  std::vector<std::size_t> rows;
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    if (sums_.measured(l)) {
      rows.push_back(l);
    } else if (!frozen_[l]) {
      missing += (missing.empty() ? "" : ", ") + layers_[l].name;
    }
  }
  if (!missing.empty() || rows.empty() || sums_.out_of_range()) {
    std::string why = "not measured in time: " + missing;
    if (missing.empty()) why = sums_.out_of_range() ? "norms are beyond 1e-15 to 1e15" : "every layer is frozen";
    return note(step_ + 1, PlanOutcome::incomplete, std::move(why));
  }
  const double n = ranks_;
  Table table = sums_.table(previous_norms_, 2 * (n - 1) / n);
  for (std::size_t row = 0; row < rows.size(); ++row) previous_norms_[rows[row]] = table.layers[row].norm;
  rows_ = std::move(rows);
  table_ = std::move(table);
  PlanQuestion question{options_.hysteresis, options_.max_error, {}, {}};
  for (const std::size_t l : rows_) {
    question.current.push_back(next_[l]);
    question.forbidden.push_back(forbidden_[l]);
  }
  planner_->solve(step_, table_, policy_, std::move(question));
  asked_ = policy_.has_value();
}

void PlanAgenda::note(std::uint64_t step, PlanOutcome outcome, std::string detail) {
  log::line(outcome == PlanOutcome::adopted || outcome == PlanOutcome::kept ? log::Level::info : log::Level::warn,
            rank_, "plan from step {} {}{}{}", step, name(outcome), detail.empty() ? "" : ": ", detail);
  report_.events.push_back({step, outcome, std::move(detail)});
}

std::string_view name(PlanOutcome outcome) noexcept {
  switch (outcome) {
    case PlanOutcome::adopted: return "adopted";
    case PlanOutcome::kept: return "kept";
    case PlanOutcome::incomplete: return "incomplete";
    case PlanOutcome::late: return "late";
    case PlanOutcome::failed: return "failed";
    case PlanOutcome::guarded: return "guarded";
  }
  return "unknown";
}

}  // namespace gradwire
