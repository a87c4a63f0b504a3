#include "gradwire/sharded.hpp"

#include <limits>

#include "base/fail.hpp"
#include "collectives/run.hpp"

namespace gradwire {

std::vector<Shard> shard_of(std::span<const BucketItem> items, int ranks, int rank) {
  require(ranks >= 1 && rank >= 0 && rank < ranks, "shard_of: there is no rank {} among {}", rank, ranks);
  const Layout layout(items, ranks, std::numeric_limits<std::size_t>::max());  // one segment a chunk
  std::vector<Shard> shards;
  for (const Piece& piece : layout.pieces(rank, 0)) shards.push_back({piece.item, piece.first, piece.count});
  return shards;
}

PersistentReduceScatter::PersistentReduceScatter(Communicator comm, std::vector<BucketItem> items, Slot slot,
                                                 const AllreduceOptions& options)
    : PersistentOperation(std::make_shared<Run>(
          Operation{.comm = std::move(comm), .items = std::move(items), .slot = slot, .entry = Entry::reduce_scatter},
          options)) {}

PersistentAllGather::PersistentAllGather(Communicator comm, std::vector<BucketItem> items, Slot slot,
                                         const AllreduceOptions& options)
    : PersistentOperation(std::make_shared<Run>(
          Operation{.comm = std::move(comm), .items = std::move(items), .slot = slot, .entry = Entry::all_gather},
          options)) {}

Work reduce_scatter_sum(const Communicator& comm, std::span<const Item> items, Slot slot, StreamRef stream,
                        const AllreduceOptions& options, std::uint64_t step) {
  return run_once({.comm = comm, .slot = slot, .entry = Entry::reduce_scatter}, items, stream, options, step);
}

Work all_gather(const Communicator& comm, std::span<const Item> items, Slot slot, StreamRef stream,
                const AllreduceOptions& options, std::uint64_t step) {
  return run_once({.comm = comm, .slot = slot, .entry = Entry::all_gather}, items, stream, options, step);
}

}  // namespace gradwire
