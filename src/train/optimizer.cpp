#include "gradwire/optimizer.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "base/backoff.hpp"
#include "base/deadline.hpp"
#include "base/env.hpp"
#include "base/fail.hpp"
#include "compress/vector_ops.hpp"
#include "train/checkpoint.hpp"
#include "train/registration.hpp"
#include "train/step_engine.hpp"
#include "train/zero_one_state.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire {
namespace {

constexpr const char* kSteps = "steps";
constexpr const char* kOwesUpdates = "owes_updates";

HookOptions engine_options(const ZeroOneAdamOptions& options, std::string compressor, std::string rule) {
  HookOptions hook;
  hook.compressor = std::move(compressor);
  hook.rule = std::move(rule);
  hook.algorithm = options.algorithm;
  hook.bucket_bytes = options.bucket_bytes;
  hook.dense_below_elems = options.dense_below_elems;
  hook.seed = options.seed;
  hook.timeout = options.timeout;
  return hook;
}

void check_options(const ZeroOneAdamOptions& o) {
  const auto in_unit = [](float value) { return value >= 0 && value <= 1; };
  require(in_unit(o.beta1) && in_unit(o.beta2), "ZeroOneAdam: beta1 and beta2 are from 0 to 1, given {} and {}",
          o.beta1, o.beta2);
  require(std::isfinite(o.epsilon) && o.epsilon > 0, "ZeroOneAdam: epsilon is above 0, given {}", o.epsilon);
  require(std::isfinite(o.weight_decay) && o.weight_decay >= 0, "ZeroOneAdam: weight_decay is 0 or more, given {}",
          o.weight_decay);
  require(o.freeze > 0 && o.variance_updates > 0 && o.local_doubling > 0 && o.most_local_steps > 0,
          "ZeroOneAdam: numbers of steps are from 1; given freeze {}, variance_updates {}, local_doubling {}, "
          "most_local_steps {}",
          o.freeze, o.variance_updates, o.local_doubling, o.most_local_steps);
}

std::string text_of(const ZeroOneAdamOptions& o) {
  return fmt::format(
      "beta1 {}, beta2 {}, epsilon {}, weight_decay {}, freeze {}, variance_updates {}, local_doubling {}, "
      "most_local_steps {}",
      o.beta1, o.beta2, o.epsilon, o.weight_decay, o.freeze, o.variance_updates, o.local_doubling, o.most_local_steps);
}

}  // namespace

class ZeroOneAdam::Impl final : public Checkpointed {
 public:
  Impl(Communicator comm, const std::vector<ParamInfo>& params, const ZeroOneAdamOptions& options)
      : comm_(std::move(comm)),
        options_(options),
        claim_(comm_.claim("a ZeroOneAdam")),
        variance_interval_(options.variance_updates, Interval::kUnlimited),
        local_interval_(options.local_doubling, options.most_local_steps) {
    prepare_together(comm_, deadline(), "the registration", [&] { return prepare(params); });
    for (std::size_t i = 0; i < params.size(); ++i) {
      const std::size_t count = exact_->plan(i).count;
      moments_.push_back({count, std::vector<float>(count), std::vector<float>(count)});
    }
  }

  ZeroOneStep step(std::span<const Tensor> weights, std::span<const Tensor> gradients, float rate) {
    check_tensors(weights, "weights");
    check_tensors(gradients, "gradients");
    require(std::isfinite(rate) && rate >= 0, "ZeroOneAdam: the learning rate is 0 or more, given {}", rate);
    if (failed_) fail(Errc::aborted, "ZeroOneAdam: an earlier step failed");
    require(rate > 0 || steps_ < options_.freeze || owes_updates_,
            "ZeroOneAdam: the learning rate of the first local step is above 0, given {}", rate);
    ++steps_;
    ZeroOneStep made =
        steps_ <= options_.freeze ? common_step(weights, gradients, rate) : local_step(weights, gradients, rate);
    const auto n = static_cast<std::uint64_t>(comm_.size());
    for (const Moments& moments : moments_) made.dense_bytes += 2 * (n - 1) * moments.count * sizeof(float) / n;
    return made;
  }

  ZeroOneStep synchronise(std::span<const Tensor> weights) {
    check_tensors(weights, "weights");
    if (failed_) fail(Errc::aborted, "ZeroOneAdam: an earlier step failed");
    ZeroOneStep made{.kind = ZeroOneStep::Kind::synchronise};
    if (synchronised()) return made;
    const StepReport report = exchange(*compressed_, ways(), rate_sum_);
    made.wire_bytes = report.wire_bytes;
    made.undone = report.skipped;
    for (std::size_t i = 0; i < moments_.size(); ++i) {
      auto* const w = static_cast<float*>(weights[i].data);
      made.undone ? go_back(i, w) : meet(i, w);
    }
    rate_sum_ = 0;
    local_steps_ = 0;
    return made;
  }

  void save(const std::string& folder) {
    require_between_exchanges("save");
    save_in(folder, save());
  }

  void load(const std::string& folder) {
    require_between_exchanges("load");
    load_together(comm_, deadline(), *this, folder);
  }

  /// The residuals' engine, and with each of its parameters the moments, which are the same on all ranks.
  [[nodiscard]] SavedState save() override {
    SavedState state = EngineState(*compressed_, comm_, true).save();
    state.numbers = {{kSteps, steps_}, {kOwesUpdates, owes_updates_ ? 1 : 0}};
    add_moments(state, moments_);
    return state;
  }

  void check(const SavedState& state) override {
    EngineState(*compressed_, comm_, true).check(split_moments(state).engine);
    for (const char* const number : {kSteps, kOwesUpdates}) {
      if (!state.numbers.contains(number)) fail(Errc::bad_state, "the saved state does not tell its {}", number);
    }
    if (state.numbers.at(kOwesUpdates) != 0 && state.numbers.at(kSteps) < options_.freeze) {
      fail(Errc::bad_state, "the saved state has had local steps after step {}, and freeze is {}",
           state.numbers.at(kSteps), options_.freeze);
    }
  }

  void take_up(const SavedState& state) override {
    const SplitState parts = split_moments(state);
    for (const SavedMoments& saved : parts.moments) {
      Moments& mine = moments_[compressed_->index_of(saved.param)];
      mine.restore(saved);
      mine.base.clear();  // the weights that the next step is given
    }
    EngineState(*compressed_, comm_, true).take_up(parts.engine);
    steps_ = state.numbers.at(kSteps);
    owes_updates_ = state.numbers.at(kOwesUpdates) != 0;
    local_steps_ = 0;
    rate_sum_ = 0;
    rewind_intervals();
  }

  [[nodiscard]] bool synchronised() const noexcept { return local_steps_ == 0; }
  [[nodiscard]] std::uint64_t steps() const noexcept { return steps_; }
  [[nodiscard]] std::size_t state_bytes() const noexcept {
    std::size_t total = compressed_->state_bytes();
    for (const Moments& moments : moments_) {
      total += (moments.m.size() + moments.v.size() + moments.base.size()) * sizeof(float) + moments.way.size();
    }
    return total;
  }

 private:
  void require_between_exchanges(const char* what) const {
    if (failed_) fail(Errc::aborted, "ZeroOneAdam: an earlier step failed");
    require(synchronised(), "ZeroOneAdam: {} {} steps after an exchange: synchronise first", what, local_steps_);
  }

  [[nodiscard]] Deadline deadline() const {
    return deadline_after(options_.timeout.count() > 0 ? options_.timeout : environment().timeout);
  }

  /// Where they are after so many steps.
  void rewind_intervals() {
    variance_interval_ = Interval(options_.variance_updates, Interval::kUnlimited);
    local_interval_ = Interval(options_.local_doubling, options_.most_local_steps);
    for (std::uint64_t step = 1; step <= std::min(steps_, options_.freeze); ++step) {
      if (variance_interval_.hits(step)) variance_interval_.count();
    }
    for (std::uint64_t step = options_.freeze; step < steps_; ++step) local_interval_.count();
  }

  std::vector<Agreement> prepare(const std::vector<ParamInfo>& params) {
    check_options(options_);
    std::vector<ParamInfo> plain = params;
    for (ParamInfo& param : plain) {
      require(param.rule.empty(), "ZeroOneAdam: parameter '{}' has the rule {}, and takes none", param.name,
              param.rule);
      require(param.dtype == DType::f32, "ZeroOneAdam: parameter '{}' is {}, expected f32", param.name,
              name(param.dtype));
      if (!param.compressor.empty()) (void)make_compressor(param.compressor);  // no rules and schedules behind it
      param.compressor.clear();
    }
    const HookOptions compressed =
        engine_options(options_, std::string(make_compressor(options_.compressor).spec()), "ef");
    compressed_.emplace(comm_, params, compressed);
    HookOptions exact = engine_options(options_, "none", "none");
    exact.algorithm = "auto";
    exact_.emplace(comm_, plain, exact);
    std::vector<Agreement> entries = describe_registration(params, compressed, *compressed_);
    entries.push_back({"ZeroOneAdam's options", text_of(options_)});
    return entries;
  }

  void check_tensors(std::span<const Tensor> tensors, const char* what) const {
    require(tensors.size() == moments_.size(), "ZeroOneAdam: {} {}, expected one for each of {} parameters",
            tensors.size(), what, moments_.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const Tensor& tensor = tensors[i];
      const bool fits = tensor.data != nullptr && tensor.count == moments_[i].count && tensor.dtype == DType::f32 &&
                        tensor.space == Space::host;
      require(fits, "ZeroOneAdam: the {} of parameter '{}' are {}[{}], expected f32[{}] in host memory", what,
              exact_->info(i).name, name(tensor.dtype), tensor.count, moments_[i].count);
    }
  }

  /// Replaces the tensors by their means over ranks, which took this learning rate, or the sum of these.
  StepReport exchange(StepEngine& engine, std::span<const Tensor> tensors, double rates) {
    for (std::size_t i = 0; i < tensors.size(); ++i) engine.set_gradient(i, tensors[i], 0);
    Backoff backoff;
    try {
      const Agreement rate{"learning rate since the last exchange", fmt::format("{}", rates)};
      comm_.transport().announce({&rate, 1}, Slot{0}, deadline());
      while (!engine.step_done()) {
        bool moved = false;
        for (; engine.has_room(); moved = true) engine.launch({});
        moved = engine.advance() || moved;
        moved ? backoff.reset() : backoff.pause();
      }
      engine.end_step();
    } catch (...) {
      failed_ = true;
      comm_.transport().abort("a ZeroOneAdam failed");
      for (Moments& moments : moments_) moments.way.abandon();  // the backend may go on using it
      throw;
    }
    return engine.totals();
  }

  /// The residual of a parameter; null where it travels dense.
  [[nodiscard]] float* owed(std::size_t i) const {
    for (const NamedState& state : compressed_->state(i)) {
      if (state.kind == StateKind::residual) return state.values->current();
    }
    return nullptr;
  }

  ZeroOneStep common_step(std::span<const Tensor> weights, std::span<const Tensor> gradients, float rate) {
    const bool learns = variance_interval_.hits(steps_);
    if (learns) variance_interval_.count();
    const StepReport report = exchange(learns ? *exact_ : *compressed_, gradients, rate);
    const auto kind = learns ? ZeroOneStep::Kind::variance : ZeroOneStep::Kind::gradient;
    if (report.skipped) return {.kind = kind, .skipped = true, .wire_bytes = report.wire_bytes};
    for (std::size_t i = 0; i < moments_.size(); ++i) {
      const auto* const g = static_cast<const float*>(gradients[i].data);
      if (learns) learn(moments_[i].v, g);
      advance(i, g, rate, static_cast<float*>(weights[i].data));
      if (!learns) forget_unused(i);
    }
    return {.kind = kind, .wire_bytes = report.wire_bytes};
  }

  void learn(std::vector<float>& v, const float* g) const {
    const float b2 = options_.beta2;
    for (std::size_t k = 0; k < v.size(); ++k) v[k] = b2 * v[k] + (1 - b2) * (g[k] * g[k]);
  }

  /// m takes in g, w moves along it, and `way` (unless null) goes with it.
  void advance(std::size_t i, const float* g, float rate, float* w, float* way = nullptr) {
    Moments& moments = moments_[i];
    const float b1 = options_.beta1;
    for (std::size_t k = 0; k < moments.count; ++k) {
      float& m = moments.m[k];
      m = moments.v[k] == 0 ? 0.0F : b1 * m + (1 - b1) * g[k];
      w[k] -= rate * (m / (std::sqrt(moments.v[k]) + options_.epsilon) + options_.weight_decay * w[k]);
      if (way != nullptr) way[k] += rate * m;
    }
  }

  /// What compression made up of elements that never had a gradient.
  void forget_unused(std::size_t i) const {
    float* const e = owed(i);
    if (e == nullptr) return;
    for (std::size_t k = 0; k < moments_[i].count; ++k) {
      if (moments_[i].v[k] == 0) e[k] = 0;
    }
  }

  ZeroOneStep local_step(std::span<const Tensor> weights, std::span<const Tensor> gradients, float rate) {
    if (!owes_updates_) compressed_->rescale(rate);
    owes_updates_ = true;
    if (synchronised()) leave(weights);
    const bool finite =
        std::all_of(gradients.begin(), gradients.end(), [](const Tensor& g) { return ops::all_finite(g); });
    for (std::size_t i = 0; finite && i < moments_.size(); ++i) {
      advance(i, static_cast<const float*>(gradients[i].data), rate, static_cast<float*>(weights[i].data),
              reinterpret_cast<float*>(moments_[i].way.data()));
    }
    rate_sum_ += rate;
    ++local_steps_;
    const bool meets = local_interval_.hits(steps_);
    local_interval_.count();
    ZeroOneStep made = meets ? synchronise(weights) : ZeroOneStep{.kind = ZeroOneStep::Kind::local};
    made.skipped = !finite;
    return made;
  }

  /// Where ranks part.
  void leave(std::span<const Tensor> weights) {
    for (std::size_t i = 0; i < moments_.size(); ++i) {
      Moments& moments = moments_[i];
      const auto* const w = static_cast<const float*>(weights[i].data);
      if (moments.base.empty()) moments.base.assign(w, w + moments.count);
      if (moments.way.size() > 0) continue;
      moments.way = Buffer(moments.count * sizeof(float));
      moments.way.fill_zero();
    }
  }

  [[nodiscard]] std::vector<Tensor> ways() const {
    std::vector<Tensor> all;
    for (const Moments& moments : moments_) all.push_back(moments.way.tensor(moments.count));
    return all;
  }

  /// After the exchange of ways, from where ranks were last together.
  void meet(std::size_t i, float* w) {
    Moments& moments = moments_[i];
    auto* const s = reinterpret_cast<float*>(moments.way.data());
    const auto rates = static_cast<float>(rate_sum_);
    for (std::size_t k = 0; k < moments.count; ++k) {
      if (moments.v[k] == 0) s[k] = 0;
      float& base = moments.base[k];
      base -= s[k] / (std::sqrt(moments.v[k]) + options_.epsilon) + rates * options_.weight_decay * base;
      w[k] = base;
      if (rates > 0) moments.m[k] = s[k] / rates;
      s[k] = 0;
    }
    forget_unused(i);
  }

  /// After an exchange that overflowed: what made it do so must not come again.
  void go_back(std::size_t i, float* w) {
    Moments& moments = moments_[i];
    std::copy(moments.base.begin(), moments.base.end(), w);
    std::fill(moments.m.begin(), moments.m.end(), 0.0F);
    moments.way.fill_zero();
  }

  Communicator comm_;
  const ZeroOneAdamOptions options_;
  std::shared_ptr<void> claim_;
  Interval variance_interval_;
  Interval local_interval_;
  std::optional<StepEngine> compressed_;
  std::optional<StepEngine> exact_;
  std::vector<Moments> moments_;
  std::uint64_t steps_ = 0;
  std::uint64_t local_steps_ = 0;  // since the last exchange
  double rate_sum_ = 0;            // of them
  bool owes_updates_ = false;      // and no more gradients: local steps have begun
  bool failed_ = false;
};

ZeroOneAdam::ZeroOneAdam(Communicator comm, std::vector<ParamInfo> params, ZeroOneAdamOptions options)
    : impl_(std::make_unique<Impl>(std::move(comm), params, options)) {}
ZeroOneAdam::ZeroOneAdam(ZeroOneAdam&&) noexcept = default;
ZeroOneAdam& ZeroOneAdam::operator=(ZeroOneAdam&&) noexcept = default;
ZeroOneAdam::~ZeroOneAdam() = default;

ZeroOneStep ZeroOneAdam::step(std::span<const Tensor> weights, std::span<const Tensor> gradients, float learning_rate) {
  return impl_->step(weights, gradients, learning_rate);
}
ZeroOneStep ZeroOneAdam::synchronise(std::span<const Tensor> weights) { return impl_->synchronise(weights); }
void ZeroOneAdam::save(const std::string& folder) const { impl_->save(folder); }
void ZeroOneAdam::load(const std::string& folder) { impl_->load(folder); }
bool ZeroOneAdam::synchronised() const noexcept { return impl_->synchronised(); }
std::uint64_t ZeroOneAdam::steps() const noexcept { return impl_->steps(); }
std::size_t ZeroOneAdam::state_bytes() const noexcept { return impl_->state_bytes(); }

}  // namespace gradwire
