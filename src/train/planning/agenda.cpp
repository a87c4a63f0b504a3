#include "train/planning/agenda.hpp"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/fail.hpp"
#include "base/log.hpp"
#include "compress/vector_ops.hpp"

namespace gradwire {
namespace {

// What ranks add up to compare plans: who has one, who failed, and the digits of its fingerprint. A digit d is at most
// 15, so sums of d and of d*d over up to 74 000 ranks are exact in f32.
constexpr std::size_t kDigits = 16;
constexpr std::size_t kHave = 0;
constexpr std::size_t kFailed = 1;
constexpr std::size_t kDigitsAt = 2;
constexpr std::size_t kSquaresAt = kDigitsAt + kDigits;
constexpr std::size_t kLayersAt = kSquaresAt + kDigits;
// Then for each layer: ranks that count it, and squares of what Watched has.
constexpr std::size_t kPerLayer = 6;
constexpr int kMaxRanks = 1 << 16;

std::uint64_t fingerprint(const PlanAnswer& answer) {
  std::string text = answer.kept ? "kept" : "new";
  for (const PlanLayer& layer : answer.plan.layers)
    text += fmt::format("\n{}\t{}\t{}", layer.name, layer.spec, layer.bytes);
  return XXH3_64bits(text.data(), text.size());
}

/// Sum of squares of scale * x, for any float dtype.
double sum_squares(const ConstTensor& x, float scale) {
  constexpr std::size_t kBlock = 1024;
  std::array<float, kBlock> block;
  double sum = 0;
  for (std::size_t first = 0; first < x.count; first += kBlock) {
    const ConstTensor part = x.slice(first, std::min(kBlock, x.count - first));
    ops::scale_add(part, scale, nullptr, block.data());
    sum += ops::sum_squares(block.data(), part.count);
  }
  return sum;
}

std::unique_ptr<TraceWriter> open_trace(const HookOptions& options, const Communicator& comm) {
  if (options.planning.trace.empty() || comm.rank() != 0) return nullptr;
  return std::make_unique<TraceWriter>(options.planning.trace,
                                       fmt::format(R"({{"rank":{},"ranks":{},"seed":{},"average":{}}})", comm.rank(),
                                                   comm.size(), options.seed, options.average));
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
      control_(comm, measures(options_) ? kLayersAt + kPerLayer * layers_.size() : 0, "the layers' plans",
               Slot{kMaxSlot - 1}, options),
      watched_(layers_.size()),
      last_watched_(layers_.size()),
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
  require(ranks_ <= kMaxRanks, "planning: at most {} ranks, given {}", kMaxRanks, ranks_);
  windows_.emplace(options_, first);
  if (!options_.policy.empty()) policy_ = make_policy(options_.policy);
  if (layers_.empty()) {
    require(!policy_, "planning: every parameter is small or dense, so there is nothing to plan");
    log::line(log::Level::warn, rank_, "the trace stays empty: every parameter is small or dense");
    return;
  }
  planner_.emplace(layers_, options_.share, options.seed, rank_, open_trace(options, comm));
}

void PlanAgenda::begin_step(std::uint64_t step) {
  step_ = step;
  if (!on()) return;
  watching_ = policy_ && windows_->watches(step);
  if (watching_) std::fill(watched_.begin(), watched_.end(), Watched{});
}

void PlanAgenda::see_gradient(std::size_t layer, ConstTensor gradient, float scale) {
  if (watching_) watched_[layer].gradient = sum_squares(gradient, scale);
}

void PlanAgenda::see_sent(std::size_t layer, ConstTensor sent, double ready_us) {
  if (watching_) {
    watched_[layer].sent = sum_squares(sent, 1);
  }
  if (on() && windows_->samples(step_)) planner_->offer(layer, sent, step_, ready_us);
}

void PlanAgenda::see_delivered(std::size_t layer, ConstTensor delivered, ConstTensor lost) {
  if (!watching_ || lost.data == nullptr) return;
  watched_[layer].delivered = sum_squares(delivered, 1);
  watched_[layer].lost = sum_squares(lost, 1);
  watched_[layer].counts = true;
}

void PlanAgenda::start(StreamRef stream) {
  if (!on()) return;
  if (windows_->exchanges(step_)) {
    planner_->take(exchange_.values());
    exchange_.start(step_, stream);
  }
  if (is_due() || has_watched_) {
    pack_control();
    control_.start(step_, stream);
  }
}

void PlanAgenda::pack_control() {
  const std::span<float> out = control_.values();
  std::fill(out.begin(), out.end(), 0.0F);
  if (is_due()) {
    solved_ = planner_->solved();
    if (solved_ && solved_->answer) {
      out[kHave] = 1;
      std::uint64_t digits = fingerprint(*solved_->answer);
      for (std::size_t d = 0; d < kDigits; ++d, digits >>= 4U) {
        const auto digit = static_cast<float>(digits & 15U);
        out[kDigitsAt + d] = digit;
        out[kSquaresAt + d] = digit * digit;
      }
    }
    if (solved_ && !solved_->answer) out[kFailed] = 1;
  }
  if (!has_watched_) return;
  const auto sane = [](double squares) { return std::isfinite(squares) && squares < 1e30; };
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const Watched& seen = last_watched_[l];
    const std::array values{seen.gradient, seen.sent, seen.delivered, seen.lost, seen.owed};
    if (!seen.counts || !std::all_of(values.begin(), values.end(), sane)) continue;
    float* row = &out[kLayersAt + kPerLayer * l];
    *row++ = 1;
    for (const double value : values) *row++ = static_cast<float>(value);
  }
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

std::optional<PlanAgenda::Specs> PlanAgenda::end_step(std::span<const double> owed, bool dropped,
                                                      const WindowSums::Steps& took) {
  if (!on()) return {};
  planner_->add(took);
  adopting_.reset();
  next_ = specs_;
  next_plan_.reset();
  if (control_.take_result()) {
    if (is_due()) compare_plans(control_.values());
    if (has_watched_) check_guards(control_.values());
  }
  if (exchange_.take_result()) read_exchange();
  has_watched_ = std::exchange(watching_, false) && !dropped;
  for (std::size_t l = 0; has_watched_ && l < layers_.size(); ++l) watched_[l].owed = owed[l] * owed[l];
  if (has_watched_) watched_.swap(last_watched_);  // the next step may be watched, too
  if (next_ == specs_) return {};
  return next_;
}

/// Whoever decides has the same sums.
void PlanAgenda::compare_plans(std::span<const float> sums) {
  asked_ = false;
  const std::optional<Solved> solved = std::exchange(solved_, std::nullopt);
  const auto n = static_cast<float>(ranks_);
  if (sums[kFailed] > 0) {
    return note(step_ + 1, PlanOutcome::failed,
                solved && !solved->failure.empty() ? solved->failure : "the policy failed on another rank");
  }
  if (sums[kHave] < n) {
    return note(step_ + 1, PlanOutcome::late,
                fmt::format("{} of {} ranks had a plan after {} steps", sums[kHave], ranks_, options_.lag));
  }
  for (std::size_t d = 0; d < kDigits; ++d) {
    const double sum = sums[kDigitsAt + d];
    if (static_cast<double>(n) * sums[kSquaresAt + d] == sum * sum) continue;
    return note(step_ + 1, PlanOutcome::failed, "ranks found different plans");
  }
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

void PlanAgenda::check_guards(std::span<const float> sums) {
  const auto n = static_cast<float>(ranks_);
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const float* const row = &sums[kLayersAt + kPerLayer * l];
    if (row[0] < n || next_[l] != specs_[l]) continue;  // not watched on all ranks, or about to change anyway
    const double gradient = row[1];
    const double sent = row[2];
    // Owners lose a share of the sum, senders one of what they send. No sum is larger than n times all that is sent,
    // but for what a compressor that diverges makes of it.
    const double delivered = std::min(static_cast<double>(row[3] / n), static_cast<double>(n) * sent);
    const auto root_ratio = [](double part, double whole) { return whole > 0 ? std::sqrt(part / whole) : 0; };
    const double lost = root_ratio(row[4], sent + delivered);
    const double owed = root_ratio(row[5], gradient);
    if (options_.max_layer_error > 0 && lost > options_.max_layer_error) {
      guard(l, fmt::format("loses {:.3g} of what is sent, over {:.3g}", lost, options_.max_layer_error));
    } else if (options_.max_residual_ratio > 0 && owed > options_.max_residual_ratio) {
      guard(l, fmt::format("owes {:.3g} times its gradient, over {:.3g}", owed, options_.max_residual_ratio));
    }
  }
}

void PlanAgenda::guard(std::size_t layer, const std::string& why) {
  const std::string& now = specs_[layer];
  const TableLayer* const row = row_of(layer);
  next_[layer] = row == nullptr ? std::string(Schedule::kDense) : safer_spec(*row, now);
  if (next_[layer] == now) return;
  forbidden_[layer] = now;
  if (std::exchange(asked_, false)) {
    note(step_ + 1, PlanOutcome::failed, "a guard moved a layer while the plan was being made");
  }
  note(step_ + 1, PlanOutcome::guarded, fmt::format("{} {}: {} -> {}", layers_[layer].name, why, now, next_[layer]));
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
