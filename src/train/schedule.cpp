#include "train/schedule.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "base/fail.hpp"
#include "compress/spec.hpp"

#include "gradwire/compressor.hpp"
#include "gradwire/feedback.hpp"

namespace gradwire {
namespace {

constexpr std::uint32_t kMostSteps = 1'000'000'000;
constexpr std::array<std::string_view, 5> kTerms{"warmup", "ramp", "every", "decay", "reset"};

std::uint32_t read_steps(const Spec& term) {
  OptionReader options(term, {"steps"});
  const std::uint32_t steps = options.number("steps", 0, 1, kMostSteps);
  options.finish();
  require(steps > 0, "schedule \"{}\": how many steps? {}(steps=N)", term.text, term.name);
  return steps;
}

/// The compressors of the ramp, each for that many steps.
void read_ramp(Spec term, Schedule& schedule) {
  std::vector<std::string> specs;
  while (!term.options.empty() && term.options.front().name.empty()) {
    specs.push_back(std::string(make_compressor(term.options.front().value).spec()));
    term.options.erase(term.options.begin());
  }
  const std::uint32_t steps = read_steps(term);
  require(!specs.empty(), "schedule \"{}\": a ramp names the compressors that come first, ramp(q8,q6,steps=100)",
          term.text);
  for (std::string& spec : specs) {
    const std::uint64_t first = schedule.stages.empty() ? 0 : schedule.stages.back().first + steps;
    schedule.stages.push_back({std::move(spec), first});
  }
  schedule.stages.push_back({{}, schedule.stages.back().first + steps});
}

/// The sparsity warm-up of Deep Gradient Compression: 75, 93.75, 98.4375 and 99.6 % for `steps` steps each (in the
/// paper an epoch), before the scheme's own density.
void read_dgc_warmup(const Spec& rule, const Spec& compressor, Schedule& schedule) {
  const auto found = std::find_if(rule.options.begin(), rule.options.end(),
                                  [](const SpecOption& option) { return option.name == "warmup"; });
  if (found == rule.options.end()) return;
  Spec only{rule.text, rule.name, {*found}, rule.kind};
  OptionReader options(only);
  const std::uint32_t steps = options.number("warmup", 0, 0, kMostSteps);
  if (steps == 0) return;
  require(schedule.stages.empty(), "rule \"{}\": its warmup is a ramp, and the scheme has another", rule.text);
  const bool has_first = !compressor.options.empty() &&
                         (compressor.options.front().name.empty() || compressor.options.front().name == "density");
  const Compressor made = make_compressor(compressor.text);
  const bool has_density = made.spec().substr(0, made.spec().find(',')).find("(density=") != std::string_view::npos;
  require(made.sparsifier() != nullptr && has_first && has_density,
          "rule \"{}\": a warmup ramps a density, and \"{}\" does not begin with one; \"topk(0.001)\" does", rule.text,
          compressor.text);
  const std::string_view density = compressor.options.front().value;
  const auto place = static_cast<std::size_t>(density.data() - compressor.text.data());
  std::uint64_t first = 0;
  for (const char* const stage : {"0.25", "0.0625", "0.015625", "0.004"}) {
    std::string text(compressor.text);
    text.replace(place, density.size(), stage);
    schedule.stages.push_back({std::string(make_compressor(text).spec()), first});
    first += steps;
  }
  schedule.stages.push_back({{}, first});
}

void read_dense_steps(std::string_view rule, Schedule& schedule) {
  const std::uint64_t steps = make_rule(rule, {})->dense_steps_left();
  if (steps == 0) return;
  require(schedule.dense_steps == 0, "rule \"{}\": its first {} steps are dense, and the scheme has another warmup",
          rule, steps);
  schedule.dense_steps = steps;
}

void read_term(const Spec& term, Schedule& schedule) {
  if (term.name == "warmup") schedule.dense_steps = read_steps(term);
  if (term.name == "every") schedule.dense_every = read_steps(term);
  if (term.name == "reset") schedule.reset_every = read_steps(term);
  if (term.name == "ramp") read_ramp(term, schedule);
  if (term.name == "decay") {
    OptionReader options(term, {"factor"});
    schedule.decay = static_cast<float>(options.real("factor", 1, 0, 1));
    options.finish();
  }
}

}  // namespace

const std::string& Schedule::compressor_at(std::uint64_t step) const noexcept {
  auto stage = stages.begin();
  while (stage + 1 != stages.end() && step >= (stage + 1)->first) ++stage;
  return stage->compressor;
}

Scheme parse_scheme(std::string_view text) {
  const std::vector<std::string_view> parts = split_stages(text, '+');
  Scheme scheme;
  scheme.compressor = make_compressor(parts.front()).spec();
  std::set<std::string_view> given;
  for (const std::string_view part : std::span(parts).subspan(1)) {
    const Spec spec = parse_spec(part, "scheme part");
    const bool is_term = std::find(kTerms.begin(), kTerms.end(), spec.name) != kTerms.end();
    if (is_term) {
      require(given.insert(spec.name).second, "scheme \"{}\": {} is given twice", text, spec.name);
      read_term(spec, scheme.schedule);
      continue;
    }
    require(scheme.rule.empty(), "scheme \"{}\" names two rules, {} and {}", text, scheme.rule, part);
    (void)make_rule(part, {});
    scheme.rule = part;
  }
  if (!scheme.rule.empty()) {
    read_dense_steps(scheme.rule, scheme.schedule);
    const Spec compressor = parse_spec(split_stages(parts.front()).front());
    read_dgc_warmup(parse_spec(scheme.rule, "rule"), {parts.front(), compressor.name, compressor.options},
                    scheme.schedule);
  }
  for (Schedule::Stage& stage : scheme.schedule.stages) stage.first += scheme.schedule.dense_steps;
  if (scheme.schedule.stages.empty()) scheme.schedule.stages.push_back({});
  scheme.schedule.stages.front().first = 0;
  scheme.schedule.stages.back().compressor = scheme.compressor;
  return scheme;
}

}  // namespace gradwire
