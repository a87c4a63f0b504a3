#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "gradwire/hook.hpp"

namespace gradwire {

/// How one registered parameter travels.
struct ParamScheme {
  std::string compressor;  ///< canonical spec
  std::string rule;
  bool dense = false;  ///< in a bucket of small or uncompressed tensors
  std::size_t count = 0;
};

/// Parameters reduced together, by index of registration, in backward order.
struct BucketPlan {
  std::vector<std::size_t> params;
  bool dense = false;
};

/// Pure: all ranks that register alike plan alike. Throws Errc::invalid_argument naming the parameter.
[[nodiscard]] std::vector<ParamScheme> plan_schemes(std::span<const ParamInfo> params, const HookOptions& options);

/// Groups parameters in backward (reverse registration) order: compressed ones into buckets of bucket_bytes, dense ones
/// likewise. Buckets are in the order in which backward completes them.
[[nodiscard]] std::vector<BucketPlan> plan_buckets(std::span<const ParamScheme> schemes, std::size_t bucket_bytes);

/// "784x512".
[[nodiscard]] std::string shape_text(std::span<const std::size_t> shape);

}  // namespace gradwire
