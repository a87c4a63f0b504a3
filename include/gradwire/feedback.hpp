#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gradwire/buffer.hpp"
#include "gradwire/compressor.hpp"
#include "gradwire/export.hpp"
#include "gradwire/types.hpp"

namespace gradwire {

/// One vector of a rule's state: the values in force, and those that a step prepares. They change places at commit(),
/// so that a step which fails leaves no trace. Starts as zeros.
class GRADWIRE_API StateVector {
 public:
  /// In device memory, what changes the values is put on a stream. `storage`: "f32", or the spec of a compressor with
  /// frames of a fixed size ("f16", "bf16", "q8") in which the values are kept; what that loses is lost. Throws
  /// Errc::invalid_argument for any other, Errc::unsupported in device memory for those that do not go there.
  StateVector(std::size_t count, std::string_view storage, Space space);

  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] Space space() const noexcept { return current_.bytes().space; }
  [[nodiscard]] bool is_f32() const noexcept { return !codec_; }
  /// "f32", or the canonical spec of the compressor in whose frame the values are kept.
  [[nodiscard]] std::string_view storage() const noexcept { return codec_ ? codec_->spec() : "f32"; }
  /// Values in force and prepared, as f32; null where they are stored otherwise.
  [[nodiscard]] float* current() const noexcept { return is_f32() ? floats(current_) : nullptr; }
  [[nodiscard]] float* pending() const noexcept { return is_f32() ? floats(pending_) : nullptr; }

  /// Values in force and prepared, where they are f32.
  [[nodiscard]] Tensor current_tensor() const noexcept { return current_.tensor(count_); }
  [[nodiscard]] Tensor pending_tensor() const noexcept { return pending_.tensor(count_); }

  /// y (f32, in the same space) = the values in force, or y += them.
  void read(Tensor y, Write write, StreamRef stream = StreamRef::host()) const;
  /// y[count()] (host) = the values in force; of device memory, the host waits.
  void read(float* y) const;
  /// Prepares these values: f32, in the same space, and pending_tensor() if need be.
  void prepare(ConstTensor values, StreamRef stream = StreamRef::host());
  void commit() noexcept { std::swap(current_, pending_); }
  /// Replaces the values in force, between steps; as prepare() has it.
  void assign(ConstTensor values, StreamRef stream = StreamRef::host());
  /// Replaces the values in force by what stored() gave; the host waits. Throws Errc::bad_state, and changes nothing,
  /// for bytes that are no values of this count and storage.
  void restore(std::string_view stored);
  /// Multiplies the values in force, between steps. `scratch`: f32, in the same space, of count() elements or more;
  /// not used where values are f32.
  void scale(float factor, Tensor scratch, StreamRef stream = StreamRef::host());

  /// The values in force, as they are stored; of device memory, the host waits for the copy.
  [[nodiscard]] std::string stored() const;
  [[nodiscard]] std::size_t stored_bytes() const noexcept { return current_.size(); }
  [[nodiscard]] std::size_t bytes() const noexcept { return current_.size() + pending_.size(); }

 private:
  [[nodiscard]] static float* floats(const Buffer& buffer) noexcept { return reinterpret_cast<float*>(buffer.data()); }
  [[nodiscard]] std::string zeros() const;
  void write(ConstTensor values, const Buffer& buffer, StreamRef stream) const;

  std::size_t count_;
  std::unique_ptr<const Compressor> codec_;  // null: f32
  Buffer current_;
  Buffer pending_;
};

/// What a vector of state means, and with that what becomes of it when the number of ranks changes.
enum class StateKind : std::uint8_t {
  residual,    ///< what this rank owes: the sum over ranks is what the model has yet to get
  share,       ///< this rank's part of a sum over ranks: an estimate of its gradient, or its momentum
  replicated,  ///< the same on all ranks
};

/// A piece of a rule's state, for saving, loading and rescaling. Residuals and shares have the parameter's count.
struct NamedState {
  std::string name;
  StateKind kind = StateKind::residual;
  StateVector* values = nullptr;
  /// Gradients that are s times as large make it s^degree times as large: 1 for gradients and momenta, 2 for their
  /// squares, 0 for a number of steps.
  int degree = 1;
};

/// What a rule has to know of its parameter.
struct RuleContext {
  std::size_t count = 0;
  int ranks = 1;
  /// The parameter always travels without loss: no feedback, only what else the rule does to a gradient (momentum).
  bool dense = false;
  Space space = Space::host;
};

/// Error feedback for one parameter (docs/feedback.md has the rules). One step is
///
///     compensate(g)  ->  collective over `input`, its residual into residual()  ->  absorb(result)  ->  commit()
///
/// State changes in commit() alone: a step that fails before it leaves no trace.
class GRADWIRE_API FeedbackRule {
 public:
  FeedbackRule() = default;
  FeedbackRule(const FeedbackRule&) = delete;
  FeedbackRule& operator=(const FeedbackRule&) = delete;
  virtual ~FeedbackRule();

  /// Writes what goes on the wire into `input` (f32, of the parameter's count), from `scale` times the gradient (any
  /// float dtype). `input` may be the gradient's own memory when that is f32.
  virtual void compensate(ConstTensor gradient, float scale, Tensor input, StreamRef stream) = 0;
  /// Whether residual() and absorb() need scratch: f32, of the parameter's count, kept between the two calls.
  [[nodiscard]] virtual bool needs_scratch() const noexcept { return false; }
  /// Where the collective writes this step's residual (f32); null data where the rule needs none.
  [[nodiscard]] virtual Tensor residual(Tensor scratch) noexcept = 0;
  /// Turns `result` (f32, in place) into the update, once the residual is written.
  virtual void absorb(Tensor result, Tensor scratch, StreamRef stream) = 0;
  /// The whole step succeeded on every rank: what compensate and absorb prepared becomes the state.
  virtual void commit() noexcept = 0;
  /// How many of the next steps have to be sent without loss; the same on all ranks. A new rule's number is part of
  /// its schedule; where steps were skipped, or the parameter was frozen, the dense steps go on until it is 0.
  [[nodiscard]] virtual std::uint64_t dense_steps_left() const noexcept { return 0; }
  /// What survives a step. How each follows the gradients' scale, NamedState::degree says.
  [[nodiscard]] virtual std::vector<NamedState> state() = 0;
  /// Bytes held, what is prepared but not yet committed included.
  [[nodiscard]] virtual std::size_t bytes() const noexcept = 0;
};

/// A rule by its text spec: "none", "ef", "ef(storage=bf16)", "ef21", "ef21_sgdm(0.1)", "econtrol(0.01)", "dgc(0.9)",
/// "diana(0.1)", "onebit_adam(1000)", ...; list_rules() has all, with options. Throws Errc::invalid_argument naming
/// what is wrong, Errc::unsupported for what device memory cannot have (dgc's `clip`, storage of codecs that are for
/// hosts only).
[[nodiscard]] GRADWIRE_API std::unique_ptr<FeedbackRule> make_rule(std::string_view spec, const RuleContext& context);

/// One row of `gradwire info --rules`.
struct RuleInfo {
  std::string name;
  std::string example;  ///< a spec make_rule accepts
  std::string options;
  std::string summary;  ///< as equations: g the gradient over n, r the residual, c = x - r
  std::string source;
};
[[nodiscard]] GRADWIRE_API std::vector<RuleInfo> list_rules();

}  // namespace gradwire
