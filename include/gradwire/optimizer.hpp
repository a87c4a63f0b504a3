#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gradwire/export.hpp"
#include "gradwire/hook.hpp"
#include "gradwire/transport.hpp"
#include "gradwire/types.hpp"

namespace gradwire {

struct ZeroOneAdamOptions {
  /// Of what travels outside the dense steps: gradients, and later momenta. Its loss is fed back by the rule "ef".
  std::string compressor = "sign";
  std::string algorithm = "auto";  ///< as HookOptions::algorithm
  float beta1 = 0.9F;
  float beta2 = 0.999F;
  float epsilon = 1e-8F;
  float weight_decay = 0;                 ///< decoupled, as in AdamW: w loses learning rate x weight_decay x w a step
  std::uint64_t freeze = 100'000;         ///< steps until the variance stays as it is and steps become local; from 1
  std::uint64_t variance_updates = 16;    ///< of the variance, after which the interval between two of them doubles
  std::uint64_t local_doubling = 32'678;  ///< local steps after which the interval between two exchanges doubles
  std::uint64_t most_local_steps = 16;    ///< the longest interval between two exchanges
  std::size_t bucket_bytes = 4u << 20;    ///< this and what follows as in HookOptions
  std::size_t dense_below_elems = 1024;
  std::uint64_t seed = 0;
  std::chrono::milliseconds timeout{0};
};

/// What a step of ZeroOneAdam did.
struct ZeroOneStep {
  enum class Kind : std::uint8_t {
    variance,     ///< gradients went dense; the variance learned from their mean
    gradient,     ///< gradients went compressed
    local,        ///< nothing was sent: from here to the next exchange ranks have different weights
    synchronise,  ///< a local step, and then the exchange of all local steps since the last one
  };
  Kind kind = Kind::variance;
  bool skipped = false;           ///< NaN or Inf in the gradients: they moved no weight (local steps: this rank's own)
  bool undone = false;            ///< the exchange overflowed: all ranks are back at the last one, with momentum 0
  std::uint64_t dense_bytes = 0;  ///< what an optimal dense allreduce of the gradients would have sent
  std::uint64_t wire_bytes = 0;   ///< what was sent
};

/// 0/1 Adam (Lu et al. 2022, arXiv 2202.06009; DeepSpeed's runtime/fp16/onebit/zoadam.py): Adam, without bias
/// correction, that sends little and not in every step. It is the optimiser, not a hook: its steps are blocking, and
/// the gradients that it takes are this rank's.
///
/// Until step `freeze`, m = b1 m + (1 - b1) g and w -= rate m / (sqrt(v) + eps) on all ranks alike, where g is the mean
/// of the gradients: dense every k steps, and there v = b2 v + (1 - b2) g^2; in between compressed, with error
/// feedback. k is 1 and doubles after each `variance_updates` updates. An element that has never had a gradient (v = 0)
/// moves by weight decay alone, as a code of one bit cannot say 0.
///
/// After it, v stays, and each rank goes its own way with its own gradients. Every k steps the ranks exchange,
/// compressed and with error feedback, the sum of rate m since the last exchange: its mean s replaces their ways, w =
/// (w of the last exchange) - s / (sqrt(v) + eps), and m = s / (sum of the rates). k is 1 and doubles after each
/// `local_doubling` steps, up to `most_local_steps`. What is owed of the gradients before is taken over, times the
/// first local rate (the source drops it).
///
/// After each exchange weights are equal on all ranks, bit for bit; from their first step on they belong to the
/// optimiser, which puts back what others change between two exchanges.
class GRADWIRE_API ZeroOneAdam {
 public:
  /// Collective: all ranks compare what they registered. f32 parameters, with compressors of their own if they like,
  /// but no rules. Throws what GradientHook's constructor throws; the communicator is its own until it is destroyed.
  ZeroOneAdam(Communicator comm, std::vector<ParamInfo> params, ZeroOneAdamOptions options = {});
  ZeroOneAdam(ZeroOneAdam&&) noexcept;
  ZeroOneAdam& operator=(ZeroOneAdam&&) noexcept;
  ~ZeroOneAdam();

  /// Collective, and blocks until the exchange, if the step has one, is done. `weights` and `gradients` are in the
  /// order of the parameters, f32 in host memory; the weights the same on all ranks at first, and `learning_rate` (0 or
  /// more, and above 0 in the first local step) in every step: over a `checked` communicator ranks compare it.
  /// Gradients are scratch afterwards. Throws Errc::invalid_argument for tensors that do not fit, before anything is
  /// sent. After any other failure the communicator is spent, every later call throws Errc::aborted, and the gradients
  /// must stay allocated.
  ZeroOneStep step(std::span<const Tensor> weights, std::span<const Tensor> gradients, float learning_rate);
  /// Collective: an exchange ahead of its time, to evaluate or store the model; does nothing where weights are equal.
  ZeroOneStep synchronise(std::span<const Tensor> weights);
  /// Writes all that this rank keeps between steps, as GradientHook::save does. Weights are the caller's to save.
  /// Throws Errc::invalid_argument between two exchanges (synchronise() first), Errc::io.
  void save(const std::string& folder) const;
  /// Collective: goes on from there, as GradientHook::load, also with another number of ranks: bit for bit with the
  /// same options, ranks and weights. Throws Errc::invalid_argument between two exchanges, Errc::bad_state for a state
  /// that has had local steps where `freeze` is still to come, and what GradientHook::load throws; this optimiser is
  /// then as it was.
  void load(const std::string& folder);
  /// Whether weights are equal on all ranks.
  [[nodiscard]] bool synchronised() const noexcept;
  [[nodiscard]] std::uint64_t steps() const noexcept;
  /// Memory held between steps: 16 bytes an element, 8 where it always travels dense, and 8 more in local steps.
  [[nodiscard]] std::size_t state_bytes() const noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gradwire
