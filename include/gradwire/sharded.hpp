#pragma once
#include <span>
#include <vector>

#include "gradwire/allreduce.hpp"

namespace gradwire {

/// A rank's part of one item: elements [first, first + count).
struct Shard {
  std::size_t item = 0;
  std::size_t first = 0;
  std::size_t count = 0;
};

/// What `rank` owns of a bucket, in bucket order. The bucket, its items laid end to end, is cut into parts as equal as
/// cuts at the compressors' blocks allow; every element belongs to one rank. Pure: all ranks compute the same.
[[nodiscard]] GRADWIRE_API std::vector<Shard> shard_of(std::span<const BucketItem> items, int ranks, int rank);

/// Every rank puts in whole tensors and gets the sum of its own shard, in place; what is not of its shard keeps this
/// rank's input. The owner's sum is exact: there is one lossy step, and up to f32 rounding
///
///     sum over ranks of input  ==  the ranks' results, laid together  +  sum over ranks of residual
///
/// A residual covers all elements. In the rank's own shard it is zero, but for the rounding of 16-bit results.
class GRADWIRE_API PersistentReduceScatter : public PersistentOperation {
 public:
  /// Throws as PersistentAllreduce does; options.algorithm is "auto" or "reduce_scatter".
  PersistentReduceScatter(Communicator comm, std::vector<BucketItem> items, Slot slot,
                          const AllreduceOptions& options = {});
};

/// Every rank puts in its own shard, and all end with the same bits of the whole: each shard is encoded once, by its
/// owner, who takes the decoded values too. Of its residual a rank writes its own shard: what it put in minus what
/// came of it.
///
/// A reduce-scatter and an all-gather over the same f32 buffers are the allreduce `scatter_reduce`, bit for bit, its
/// residuals included. With 16-bit tensors give each its own residual: the first one's holds the sums' rounding.
class GRADWIRE_API PersistentAllGather : public PersistentOperation {
 public:
  /// Throws as PersistentAllreduce does; options.algorithm is "auto" or "all_gather".
  PersistentAllGather(Communicator comm, std::vector<BucketItem> items, Slot slot,
                      const AllreduceOptions& options = {});
};

/// One-shot forms, as allreduce_sum is one of PersistentAllreduce.
[[nodiscard]] GRADWIRE_API Work reduce_scatter_sum(const Communicator& comm, std::span<const Item> items, Slot slot,
                                                   StreamRef stream, const AllreduceOptions& options = {},
                                                   std::uint64_t step = 0);
[[nodiscard]] GRADWIRE_API Work all_gather(const Communicator& comm, std::span<const Item> items, Slot slot,
                                           StreamRef stream, const AllreduceOptions& options = {},
                                           std::uint64_t step = 0);

}  // namespace gradwire
