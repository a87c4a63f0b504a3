#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gradwire/compressor.hpp"
#include "gradwire/error.hpp"
#include "gradwire/export.hpp"
#include "gradwire/transport.hpp"
#include "gradwire/types.hpp"

namespace gradwire {

struct AllreduceOptions {
  std::string algorithm = "auto";        ///< "auto" or a name from collectives/README.md
  std::string inner = "none";            ///< `hierarchical`: the compressor of what stays inside a node
  std::size_t segment_bytes = 0;         ///< f32 bytes of one segment; 0 means GRADWIRE_SEGMENT_BYTES
  std::uint64_t seed = 0;                ///< the same on all ranks; each rank draws its own numbers from it
  std::chrono::milliseconds timeout{0};  ///< from start() to completion; 0 means GRADWIRE_TIMEOUT_MS
  Space space = Space::host;             ///< of tensors, residuals and workspace; start() then takes a stream of it
  bool pass_non_finite = false;          ///< `dense` only: NaN and Inf are summed like any value, and are no verdict
};

/// One parameter of a bucket, as far as it is the same in every step.
struct BucketItem {
  ParamId param{};  ///< unique in the bucket
  std::size_t count = 0;
  DType dtype = DType::f32;
  Compressor compressor = make_compressor("none");
  std::string name = {};                ///< for messages; empty means "parameter <id>"
  std::vector<std::size_t> shape = {};  ///< for low rank; empty means {count}
};

/// Memory of one parameter in one step.
struct ItemBuffers {
  Tensor tensor;    ///< in: what this rank puts in; out: the sum over ranks, bitwise equal on all of them
  Tensor residual;  ///< out, f32: what this rank still owes; null data where it is not wanted. Never aliases tensor
};

/// Where an operation's time and bytes went, on this rank.
struct OperationStats {
  std::uint64_t wire_bytes = 0;  ///< bytes sent, envelopes included; for the backend's all-reduces 2(n-1)/n of theirs
  std::uint64_t inter_node_bytes = 0;  ///< those of them that left the node; not known (0) of the backend's all-reduces
  double encode_us = 0;
  double decode_us = 0;  ///< decoding and summing
  double total_us = 0;   ///< from start to completion; what encode and decode leave of it was spent waiting
};

/// Why an operation that kept in step on every rank still has no result: agreed by all of them.
struct Verdict {
  Errc code = Errc::ok;  ///< non_finite, or invalid_argument for a gradient that never came
  int rank = 0;
  ParamId param{};
};

/// One parameter of a one-shot operation.
struct Item {
  Tensor tensor;
  Tensor residual;
  Compressor compressor = make_compressor("none");
  ParamId param{};                      ///< unique among the items of a call
  std::vector<std::size_t> shape = {};  ///< as in BucketItem
};

class Run;

/// A collective that runs many times over tensors of the same shapes: everything is sized and scheduled once, and a
/// start after the first allocates nothing. What the buffers hold before and after is the derived classes' to say.
class GRADWIRE_API PersistentOperation {
 public:
  PersistentOperation(PersistentOperation&&) noexcept;
  PersistentOperation& operator=(PersistentOperation&&) noexcept;
  ~PersistentOperation();  ///< never blocks; one that is still running goes on using its buffers and workspace

  /// The algorithm in use, never "auto".
  [[nodiscard]] std::string_view algorithm() const noexcept;
  /// Scratch that start() needs; the same on every rank. Under `lowrank` the operation itself holds the bases that it
  /// keeps from run to run.
  [[nodiscard]] std::size_t workspace_bytes() const noexcept;

  /// Collective; operations on one communicator are started in the same order on every rank. `buffers` are in the order
  /// of the items; the workspace is aligned to 16 bytes (a Buffer is). They belong to the operation until the Work is
  /// done. The operation advances only inside Work::done() and Work::wait(); `integer_sum` also waits here until all
  /// ranks have started it (not on a device over a transport in stream order), so ranks that use it run the same
  /// sequence of starts and waits. `step`, the same on all ranks, keys the random numbers. A `refusal` makes this rank
  /// take part without data (its tensors may lack memory): every rank's Work then fails with that verdict, in step, and
  /// the communicator stays usable. The same happens when an input holds NaN or Inf. Residuals are then unspecified.
  ///
  /// The first start waits for the other ranks, at most until the operation's deadline, and compares what they are
  /// about to run: it throws Errc::rank_mismatch on every rank, naming the rank that differs, the item and both values,
  /// and the communicator stays usable; Errc::timeout aborts it. Throws Errc::invalid_argument for wrong counts or
  /// dtypes, memory or a stream of another space than AllreduceOptions::space, a workspace that is too small or not
  /// aligned, or a running operation.
  ///
  /// It stays on the device that was current when it was made; given a default stream, which may be the starting
  /// thread's own, it runs behind what is on it, on a stream of its own.
  /// On a device nothing else of it waits on the host, and messages carry no envelopes: that all ranks ran the same
  /// they tell each other on the host at the end, beside verdicts. NaN and Inf become a verdict there too; of whose
  /// they were it says nothing. The Work is done when the device is.
  ///
  /// After Errc::timeout, Errc::aborted or any other failure of the Work that is no verdict (in_step() is false) the
  /// backend may go on using the workspace and the tensors: they must stay allocated (Buffer::abandon).
  [[nodiscard]] Work start(std::span<const ItemBuffers> buffers, Bytes workspace, std::uint64_t step, StreamRef stream,
                           const std::optional<Verdict>& refusal = std::nullopt);

  /// False once a failure has put the ranks out of step: the communicator is aborted, nothing can be started again.
  [[nodiscard]] bool in_step() const noexcept;
  /// Of the last completed run.
  [[nodiscard]] const OperationStats& stats() const noexcept;

 protected:
  explicit PersistentOperation(std::shared_ptr<Run> run) noexcept;
  [[nodiscard]] Run& run() const noexcept { return *run_; }

 private:
  std::shared_ptr<Run> run_;
};

/// Every rank puts in tensors and gets their sum. Up to f32 rounding, whatever the algorithm and the compressors:
///
///     sum over ranks of input  ==  result  +  sum over ranks of residual
///
/// With 16-bit tensors the rounding of the result to 16 bits is part of the owner's residual, except under `dense`,
/// where the backend rounds.
class GRADWIRE_API PersistentAllreduce : public PersistentOperation {
 public:
  /// Throws Errc::invalid_argument (unknown algorithm, two items with one id) or Errc::unsupported (an algorithm that
  /// `items` rule out).
  PersistentAllreduce(Communicator comm, std::vector<BucketItem> items, Slot slot,
                      const AllreduceOptions& options = {});

  /// What algorithm and compressor keep of an item from run to run, for saving between runs: under `lowrank` its bases
  /// (the warm start, the same on all ranks), and Compressor::step_memories().
  [[nodiscard]] std::string memory(std::size_t item) const;
  /// Between runs: takes up what memory() gave, in another process too; with nothing, the item starts afresh. All items
  /// of an operation take up what they had after one run. Throws Errc::bad_state for what is no memory of an item of
  /// this shape and compressor.
  void set_memory(std::size_t item, std::string_view memory);
  /// Between runs: takes up what fits of a memory() that an operation with the compressor `from` gave of the same
  /// parameter; all ranks give the same.
  /// - Of the same compressor: all of it, as set_memory().
  /// - Between low-rank schemes: the right basis, and the left one where both schemes are of one kind with as many
  ///   rounds. The leading columns stay: up to rounding and lossy factors, what a run of the lower rank comes to. New
  ///   ones are those of the cold start, the same on all ranks. (`projection` renews its bases in the next run then.)
  /// - Of any other pair: nothing, the item starts afresh. Learned levels and thresholds mean little to another
  ///   compressor.
  ///
  /// Items of one operation may come from several; what they have to have in common (whose turn it is with rounds=1,
  /// when a basis is due) then begins where all of them can. Throws Errc::bad_state, and changes nothing, for what is
  /// no memory of `from` for this shape; of what is not taken up only the division into parts is looked at.
  void adopt_memory(std::size_t item, std::string_view memory, const Compressor& from);
};

/// One-shot form of PersistentAllreduce that brings its own workspace. Every call is a first start: it waits for the
/// others, which costs two round trips. Drive the Work to completion; one that is dropped before abandons its
/// workspace, which the backend may still write to.
[[nodiscard]] GRADWIRE_API Work allreduce_sum(const Communicator& comm, std::span<const Item> items, Slot slot,
                                              StreamRef stream, const AllreduceOptions& options = {},
                                              std::uint64_t step = 0);

/// One row of `gradwire info --algorithms`.
struct AlgorithmInfo {
  std::string name;
  std::string bytes_per_rank;
  std::string lossy_steps;
  std::string suits;
};
[[nodiscard]] GRADWIRE_API std::vector<AlgorithmInfo> list_algorithms();

}  // namespace gradwire
