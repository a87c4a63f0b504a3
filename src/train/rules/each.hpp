#pragma once
#include <cassert>
#include <cstddef>
#include <cstdint>

#include "train/rules/formulas.hpp"

#include "gradwire/types.hpp"

namespace gradwire::rules {

/// f32 of one count.
template <std::size_t N>
struct Inputs {
  const float* at[N];
};

/// In the order of a stream of the device. Throws Errc::unsupported in a build without CUDA.
template <class Formula, std::size_t N>
void each_on_device(const Formula& formula, const Inputs<N>& in, float* out, std::size_t count, StreamRef stream);
/// Sets `found`, of the device, to 1 where x holds anything but zeros, and leaves it else.
void find_nonzero_on_device(const float* x, std::size_t count, std::uint32_t* found, StreamRef stream);

/// out[i] = formula(in[i]...), all f32 in memory of one space; `out` may be one of the inputs.
template <class Formula, class... In>
void each(Tensor out, const Formula& formula, StreamRef stream, const In&... in) {
  assert(((in.count == out.count && in.space == out.space) && ...));
  const auto to = static_cast<float*>(out.data);
  if (out.space == Space::device) {
    const Inputs<sizeof...(In)> from{{static_cast<const float*>(in.data)...}};
    return each_on_device(formula, from, to, out.count, stream);
  }
  const auto loop = [&](const auto*... from) {
    for (std::size_t i = 0; i < out.count; ++i) to[i] = formula(from[i]...);
  };
  loop(static_cast<const float*>(in.data)...);
}

/// Sets `found`, where x is, to 1 where x (f32) holds anything but zeros, and leaves it else.
inline void find_nonzero(ConstTensor x, std::uint32_t* found, StreamRef stream) {
  const auto* const values = static_cast<const float*>(x.data);
  if (x.space == Space::device) return find_nonzero_on_device(values, x.count, found, stream);
  for (std::size_t i = 0; i < x.count && *found == 0; ++i) *found = values[i] == 0 ? 0 : 1;
}

}  // namespace gradwire::rules
