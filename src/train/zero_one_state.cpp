#include "train/zero_one_state.hpp"

#include <cstring>

#include "base/fail.hpp"

namespace gradwire {
namespace {

constexpr const char* kOwner = "ZeroOneAdam";
constexpr const char* kMomentum = "momentum";
constexpr const char* kVariance = "variance";

SavedVector save(const char* name, const std::vector<float>& values) {
  return {name, StateKind::replicated, "f32",
          std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float))};
}

}  // namespace

void Moments::restore(const SavedMoments& saved) {
  const std::size_t bytes = count * sizeof(float);
  if (saved.m.size() != bytes || saved.v.size() != bytes) {
    fail(Errc::bad_state, "saved state of '{}': {} and {} bytes of momentum and variance, expected {}", saved.param,
         saved.m.size(), saved.v.size(), bytes);
  }
  std::memcpy(m.data(), saved.m.data(), bytes);
  std::memcpy(v.data(), saved.v.data(), bytes);
}

void add_moments(SavedState& state, std::span<const Moments> moments) {
  state.owner = kOwner;
  for (std::size_t i = 0; i < moments.size(); ++i) {
    state.params[i].vectors.push_back(save(kMomentum, moments[i].m));
    state.params[i].vectors.push_back(save(kVariance, moments[i].v));
  }
}

SplitState split_moments(const SavedState& state) {
  if (state.owner != kOwner) fail(Errc::bad_state, "the saved state is a {}'s, not a {}'s", state.owner, kOwner);
  SplitState parts{state, {}};
  parts.engine.owner = SavedState::kHook;
  for (SavedParam& param : parts.engine.params) {
    std::vector<SavedVector>& vectors = param.vectors;
    const std::size_t n = vectors.size();
    if (n < 2 || vectors[n - 2].name != kMomentum || vectors[n - 1].name != kVariance) {
      fail(Errc::bad_state, "saved state of '{}': it has no momentum and variance", param.name);
    }
    parts.moments.push_back({param.name, std::move(vectors[n - 2].bytes), std::move(vectors[n - 1].bytes)});
    vectors.resize(n - 2);
  }
  return parts;
}

}  // namespace gradwire
