#include "compress/sparse/guess.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.hpp"
#include "compress/sparse/index_coding.hpp"

namespace gradwire::sparse {
namespace {

constexpr std::size_t kLeastSample = 4096;
constexpr std::size_t kMostSample = std::size_t{1} << 17;
constexpr std::size_t kWantedInSample = 64;  // of the k: their number in the sample then strays by an eighth
constexpr std::size_t kRoomForStrays = 4096;

std::size_t sample_size(std::size_t count, std::size_t k) {
  const std::size_t wanted = std::max({kLeastSample, count / 256, kWantedInSample * (count / k)});
  return std::min({wanted, kMostSample, count});
}

/// Least magnitude of what was written.
void find_threshold(const Entries& out, std::size_t n, std::uint32_t* threshold) {
  if (threshold == nullptr) return;
  *threshold = kMagnitudeMask;
  for (std::size_t i = 0; i < n; ++i) *threshold = std::min(*threshold, magnitude(out.value[i]));
}

}  // namespace

SamplePlan SamplePlan::of(std::size_t count, std::size_t k) noexcept {
  const std::size_t size = sample_size(count, k);
  return {size, static_cast<double>(k) * static_cast<double>(size) / static_cast<double>(count)};
}

std::size_t SamplePlan::rank(double share) const noexcept {
  return std::max<std::size_t>(static_cast<std::size_t>(share * expected), 1);
}

Sample::Sample(const Choice& choice, std::size_t k)
    : count_(choice.x.count), plan_(SamplePlan::of(count_, k)), memory_(scratch(Use::survivors, plan_.size)) {
  const RandomStream::Keys keys = place_keys(choice.key);
  Strata strata(0, plan_.size, count_);
  for (std::size_t j = 0; j < plan_.size; ++j)
    memory_.index[j] = magnitude(load_f32(choice.x.data, choice.x.dtype, strata.next(keys).place));
}

std::size_t Sample::generous_rank() const noexcept {
  const double strays = 4 * std::sqrt(plan_.expected) + 8;
  return std::min(static_cast<std::size_t>(plan_.expected + strays), plan_.size);
}

std::size_t Sample::generous_count() const noexcept {
  const double share = static_cast<double>(generous_rank()) / static_cast<double>(plan_.size);
  return static_cast<std::size_t>(share * static_cast<double>(count_));
}

std::uint32_t Sample::at(std::size_t rank) const {
  std::memcpy(memory_.keys, memory_.index, 4 * plan_.size);
  return std::max(cut_keys(memory_.keys, plan_.size, rank).threshold, 1u);
}

bool Survivors::gather(Scanner& scanner, std::uint32_t threshold) {
  count_ = 0;
  return scanner.scan(threshold, [&](const std::uint32_t* index, const float* value, std::size_t n) {
    if (n > room_ - count_) return false;
    std::memcpy(memory_.index + count_, index, 4 * n);
    std::memcpy(memory_.value + count_, value, 4 * n);
    count_ += n;
    return true;
  });
}

std::size_t Survivors::take_largest(std::size_t k, const Entries& out, std::uint32_t* threshold) {
  std::size_t taken = 0;
  if (count_ <= k) {
    taken = count_;
    std::copy_n(memory_.index, taken, out.index);
    std::copy_n(memory_.value, taken, out.value);
  } else {
    for (std::size_t i = 0; i < count_; ++i) memory_.keys[i] = magnitude(memory_.value[i]);
    Cut cut = cut_keys(memory_.keys, count_, k);
    for (std::size_t i = 0; i < count_; ++i) {
      if (!cut.takes(memory_.value[i])) continue;
      out.index[taken] = memory_.index[i];
      out.value[taken++] = memory_.value[i];
    }
  }
  find_threshold(out, taken, threshold);
  return taken;
}

std::size_t select_largest(const Choice& choice, Scanner& scanner, std::size_t k, const Entries& out,
                           std::uint32_t* threshold) {
  const std::size_t count = choice.x.count;
  if (worth_guessing(count, k)) {
    const Sample sample(choice, k);
    if (sample.generous_count() < count / 4) {
      const std::uint32_t guess = sample.generous();
      Survivors survivors(2 * sample.generous_count() + kRoomForStrays);
      // Fewer than k is well where zeros alone are left out.
      if (survivors.gather(scanner, guess) && (survivors.count() >= k || guess == 1))
        return survivors.take_largest(k, out, threshold);
    }
  }
  const std::size_t taken = scanner.take(scanner.cut(k), out);
  find_threshold(out, taken, threshold);
  return taken;
}

}  // namespace gradwire::sparse
