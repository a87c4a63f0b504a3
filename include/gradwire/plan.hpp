#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gradwire/compressor.hpp"
#include "gradwire/export.hpp"
#include "gradwire/types.hpp"

namespace gradwire {

/// One way to compress a layer.
struct Candidate {
  std::string spec;         ///< of a compressor; any text will do for policies that need not know what it does
  std::uint64_t bytes = 0;  ///< exact size on the wire
  double error = 0;         ///< ||x - C(x)||, the plain (not squared) l2 norm
  double us = 0;            ///< time in which the layer keeps codec and link busy; 0: not known
};

/// What there is to choose from for one parameter.
struct TableLayer {
  std::string name;
  std::uint64_t count = 0;    ///< elements
  std::size_t reference = 0;  ///< index of the candidate that the user's uniform setting gives
  std::vector<Candidate> candidates;

  // What only some policies need; left out where it is not known.
  std::vector<std::size_t> shape{};       ///< of the parameter
  double norm = 0;                        ///< ||x||, in this window of steps
  double previous_norm = 0;               ///< in the window before
  double ready_us = 0;                    ///< when backward has the gradient, from its beginning
  std::vector<double> singular_values{};  ///< of x as a matrix, largest first; only the first ones may be there
};

/// What a policy decides from: the same on all ranks, or their plans differ.
struct Table {
  std::vector<TableLayer> layers;
};

/// Throws Errc::invalid_argument naming layer and candidate: no layer, a layer or candidate without a name, a name or a
/// spec given twice, no elements, no candidate, a reference that is none of them, an error that is
/// neither 0 nor in 1e-120..1e120 (NaN, negative), bytes that sum to more than 2^53; of what may be left out: a norm
/// that could be no error, a time that is negative or above 1e15 (a candidate's also below 1e-6), a shape of another
/// number of elements, singular values that rise, or are more than the shape has.
GRADWIRE_API void check(const Table& table);

/// What a layer's candidates are measured on: what the wire would carry of a parameter in some step.
struct LayerSample {
  std::string name;
  ConstTensor values;                ///< f32 in host memory
  std::vector<std::size_t> shape{};  ///< for low rank; empty: no matrix
  RandomKey key{};                   ///< of compressors that draw
};

/// A layer of a table: what each of `specs` would send of the sample, in bytes of a frame, and lose. Densities of
/// `topk` come from one selection, ranks from one spectrum (the best approximation of each rank, and the bytes of its
/// factors; a low-rank spec that does not pay is measured as its fallback), bits of `quantize` from one pass, all
/// others from encoding. Throws Errc::invalid_argument for a sample or spec that is wrong, Errc::non_finite. Shape and
/// norm come along, and where ranks were measured as many singular values as the highest of them.
[[nodiscard]] GRADWIRE_API TableLayer measure_layer(const LayerSample& sample, std::span<const std::string> specs,
                                                    std::size_t reference);

/// What a hook chooses from when it is told nothing else: quantisers of 2 to 8 bits, densities of 0.1 to 10 % with
/// 4-bit values, ranks of 1 to 16.
[[nodiscard]] GRADWIRE_API std::vector<std::string> default_candidates();

struct PlanLayer {
  std::string name;
  std::string spec;
  std::uint64_t bytes = 0;
  double error = 0;
};

/// What a plan's `budget` limits.
enum class PlanLimit : std::uint8_t {
  none,           ///< nothing: the policy keeps no limit
  error,          ///< Plan::error
  squared_error,  ///< Plan::squared_error
  bytes,          ///< Plan::bytes
  time,           ///< Plan::exposed_ms
};
/// "none", "error", "squared_error", "bytes", "time".
[[nodiscard]] GRADWIRE_API std::string_view name(PlanLimit limit) noexcept;

/// One candidate for each layer, in the table's order. Sums are taken in that order.
struct Plan {
  std::string policy;  ///< its spec; empty for a plan made by hand
  std::vector<PlanLayer> layers;
  std::uint64_t bytes = 0;
  double error = 0;          ///< sum of the layers' errors
  double squared_error = 0;  ///< sum of their squares
  /// For how long after backward the last layer is still being sent (docs/planning.md has the model); 0: not known,
  /// because the table lacks times.
  double exposed_ms = 0;
  PlanLimit limit = PlanLimit::none;
  double budget = 0;  ///< what `limit` may be at most; 0 without one
  /// Proven: no plan within the budget has less squared error (limit bytes or time) or fewer bytes (limit on an error)
  /// than this, up to rounding of the sum. Absent where the policy proves nothing.
  std::optional<double> bound;
  double solver_ms = 0;  ///< wall time of the policy: the only thing that differs between two runs
};
/// By what share of `bound` the plan lies above it, in the measure that the bound is in (see there); at least 0: the
/// best plan within the budget is no further away. Nothing where there is no bound, or none above 0.
[[nodiscard]] GRADWIRE_API std::optional<double> gap(const Plan& plan) noexcept;

/// A pure function from a table to a plan: the same table gives the same plan, bit for bit. Immutable, cheap to copy,
/// safe to share between threads.
class GRADWIRE_API Policy {
 public:
  struct Impl;
  explicit Policy(std::shared_ptr<const Impl> impl) noexcept : impl_(std::move(impl)) {}

  [[nodiscard]] const std::string& spec() const noexcept;
  /// Throws what check() throws, Errc::invalid_argument where no plan keeps the budget (with the least that one could
  /// have) and where the policy needs layers, specs or statistics that the table lacks, Errc::unsupported where it is
  /// too large.
  [[nodiscard]] Plan plan(const Table& table) const;

 private:
  std::shared_ptr<const Impl> impl_;
};

/// A policy by its text spec: "lgreco(alpha=1)", "budget(ratio=8)", "fixed(q4,embed*=none)", ...; list_policies() has
/// all, with options. Throws Errc::invalid_argument naming what is wrong.
[[nodiscard]] GRADWIRE_API Policy make_policy(std::string_view spec);

struct PolicyInfo {
  std::string name;
  std::string example;  ///< a spec make_policy accepts
  std::string options;
  std::string summary;
  std::string source;
};
[[nodiscard]] GRADWIRE_API std::vector<PolicyInfo> list_policies();

/// JSON (docs/planning.md has the keys). Readers ignore keys that they do not know, throw Errc::invalid_argument naming
/// the place of what is missing or of the wrong type, and check what they read: a table as check() does, a plan's sums,
/// where given, against its layers, and that its budget, bound and times are not negative.
[[nodiscard]] GRADWIRE_API std::string to_json(const Table& table);
[[nodiscard]] GRADWIRE_API std::string to_json(const Plan& plan);
[[nodiscard]] GRADWIRE_API Table table_from_json(std::string_view text);
[[nodiscard]] GRADWIRE_API Plan plan_from_json(std::string_view text);

}  // namespace gradwire
