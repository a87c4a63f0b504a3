#include "compress/sparse/topk.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "compress/sparse/guess.hpp"

namespace gradwire::sparse {
namespace {

/// The m largest of d squares are at least m/d of their sum.
double share(double m, std::size_t count) { return count == 0 ? 1 : m / static_cast<double>(count); }

/// Of the k wanted, how many the guess of SampledTopK lets pass on average.
constexpr double kSharePassed = 0.9;

}  // namespace

std::string ExactTopK::spec() const { return fmt::format("topk({},select=exact)", density_.spec()); }

double ExactTopK::kept(std::size_t count) const { return share(static_cast<double>(density_.of(count)), count); }

std::size_t ExactTopK::select(const Choice& choice, const Entries& out) const {
  const std::size_t k = density_.of(choice.x.count);
  if (k == 0) return 0;
  Scanner scanner(choice);
  return select_largest(choice, scanner, k, out);
}

std::optional<device::SparseRule> ExactTopK::device_rule(std::size_t count, const RandomKey&) const {
  return device::SparseRule{device::SparseRule::Kind::largest, density_.of(count)};
}

std::string SampledTopK::spec() const { return fmt::format("topk({},select=sampled)", density_.spec()); }

double SampledTopK::kept(std::size_t count) const {
  return share(0.8 * static_cast<double>(density_.of(count)), count);
}

std::size_t SampledTopK::select(const Choice& choice, const Entries& out) const {
  const std::size_t k = density_.of(choice.x.count);
  if (k == 0) return 0;
  Scanner scanner(choice);
  if (!worth_guessing(choice.x.count, k)) return select_largest(choice, scanner, k, out);
  const Sample sample(choice, k);
  if (!sample.plan().is_trusted()) return select_largest(choice, scanner, k, out);
  const std::uint32_t guess = sample.share_of_k(kSharePassed);
  Survivors survivors(2 * k);
  if (survivors.gather(scanner, guess) && (5 * survivors.count() >= 4 * k || guess == 1))
    return survivors.take_largest(k, out);
  return select_largest(choice, scanner, k, out);
}

std::optional<device::SparseRule> SampledTopK::device_rule(std::size_t count, const RandomKey& key) const {
  const std::size_t k = density_.of(count);
  device::SparseRule rule{device::SparseRule::Kind::largest, k, place_keys(key)};
  if (k == 0 || !worth_guessing(count, k)) return rule;
  const SamplePlan plan = SamplePlan::of(count, k);
  if (!plan.is_trusted()) return rule;
  rule.guesses = true;
  rule.guess.sample = plan.size;
  rule.guess.rank = plan.rank(kSharePassed);
  return rule;
}

std::string Threshold::spec() const {
  std::string text = fmt::format("threshold(t={})", threshold_);
  std::erase(text, '+');  // of 1e+20: no character of a spec
  return text;
}

std::size_t Threshold::select(const Choice& choice, const Entries& out) const {
  std::size_t taken = 0;
  Scanner(choice).scan(std::max(magnitude(threshold_), 1u),
                       [&](const std::uint32_t* index, const float* value, std::size_t n) {
                         std::copy_n(index, n, out.index + taken);
                         std::copy_n(value, n, out.value + taken);
                         taken += n;
                         return true;
                       });
  return taken;
}

}  // namespace gradwire::sparse
