#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "train/schedule.hpp"

#include "gradwire/hook.hpp"

namespace gradwire {

/// What the algorithms tell apart: a bucket holds parameters of one family.
enum class Family : std::uint8_t {
  dense,     ///< small or uncompressed tensors: the backend's own all-reduce
  frames,    ///< what can be re-encoded: quantisers and casts
  sparse,    ///< Compressor::sparsifier()
  integer,   ///< Compressor::integer_coder()
  low_rank,  ///< Compressor::low_rank()
};

/// How one registered parameter travels in one step.
struct ParamScheme {
  std::string compressor;  ///< canonical spec; of the fallback where low rank does not pay
  std::string rule;
  Family family = Family::frames;
  std::string shared = {};  ///< low rank: what the parameters of a bucket must have in common
  std::size_t count = 0;

  [[nodiscard]] bool dense() const noexcept { return family == Family::dense; }
};

/// How one registered parameter travels in all steps.
struct ParamPlan {
  std::size_t count = 0;
  std::string rule;
  bool always_dense = false;
  Schedule schedule;

  /// `dense`: whether the step is sent dense, as the schedule has it.
  [[nodiscard]] ParamScheme scheme(const ParamInfo& param, std::uint64_t step, bool dense) const;
  /// All of it in words, for ranks to compare.
  [[nodiscard]] std::string text() const;
};

/// Parameters reduced together, by index of registration, in backward order.
struct BucketPlan {
  std::vector<std::size_t> params;
  Family family = Family::frames;
};

/// Pure: all ranks that register alike plan alike. Throws Errc::invalid_argument naming the parameter.
[[nodiscard]] std::vector<ParamPlan> plan_params(std::span<const ParamInfo> params, const HookOptions& options);

/// Groups parameters in backward (reverse registration) order, those of each family (and of what low rank must share)
/// into buckets of bucket_bytes. Buckets are in the order in which backward completes them. Schemes without elements
/// (frozen parameters) are in none.
[[nodiscard]] std::vector<BucketPlan> plan_buckets(std::span<const ParamScheme> schemes, std::size_t bucket_bytes);

/// The algorithm of a family's buckets. HookOptions::algorithm is for those whose compressors make frames; dense
/// buckets have their own, and low rank takes "hierarchical" and "auto", else its own. With "lowrank" as the option,
/// what is not low rank goes by "auto"; with "dense", low rank is refused like any other compressor.
[[nodiscard]] std::string algorithm_for(Family family, const std::string& option);

/// "784x512".
[[nodiscard]] std::string shape_text(std::span<const std::size_t> shape);

}  // namespace gradwire
