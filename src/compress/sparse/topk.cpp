#include "compress/sparse/topk.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "compress/sparse/guess.hpp"

namespace gradwire::sparse {
namespace {

/// The m largest of d squares are at least m/d of their sum.
double share(double m, std::size_t count) { return count == 0 ? 1 : m / static_cast<double>(count); }

}  // namespace

std::string ExactTopK::spec() const { return fmt::format("topk({},select=exact)", density_.spec()); }

double ExactTopK::kept(std::size_t count) const { return share(static_cast<double>(density_.of(count)), count); }

std::size_t ExactTopK::select(const Choice& choice, const Entries& out) const {
  const std::size_t k = density_.of(choice.x.count);
  if (k == 0) return 0;
  Scanner scanner(choice);
  return select_largest(choice, scanner, k, out);
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
  constexpr double kTrusted = 32;  // in the sample; of fewer, their number strays too far for a guess from both sides
  if (sample.expected() < kTrusted) return select_largest(choice, scanner, k, out);
  const std::uint32_t guess = sample.share_of_k(0.9);
  Survivors survivors(2 * k);
  if (survivors.gather(scanner, guess) && (5 * survivors.count() >= 4 * k || guess == 1))
    return survivors.take_largest(k, out);
  return select_largest(choice, scanner, k, out);
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
