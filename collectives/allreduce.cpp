#include "gradwire/allreduce.hpp"

#include "collectives/run.hpp"

namespace gradwire {

PersistentOperation::PersistentOperation(std::shared_ptr<Run> run) noexcept : run_(std::move(run)) {}
PersistentOperation::PersistentOperation(PersistentOperation&&) noexcept = default;
PersistentOperation& PersistentOperation::operator=(PersistentOperation&&) noexcept = default;
PersistentOperation::~PersistentOperation() = default;

std::string_view PersistentOperation::algorithm() const noexcept { return run_->algorithm(); }
std::size_t PersistentOperation::workspace_bytes() const noexcept { return run_->workspace_bytes(); }
bool PersistentOperation::in_step() const noexcept { return run_->in_step(); }
const OperationStats& PersistentOperation::stats() const noexcept { return run_->stats(); }

Work PersistentOperation::start(std::span<const ItemBuffers> buffers, Bytes workspace, std::uint64_t step,
                                StreamRef stream, const std::optional<Verdict>& refusal) {
  run_->start(buffers, workspace, step, stream, refusal);
  return Work(run_);
}

PersistentAllreduce::PersistentAllreduce(Communicator comm, std::vector<BucketItem> items, Slot slot,
                                         const AllreduceOptions& options)
    : PersistentOperation(std::make_shared<Run>(
          Operation{.comm = std::move(comm), .items = std::move(items), .slot = slot, .entry = Entry::allreduce},
          options)) {}

std::string PersistentAllreduce::memory(std::size_t item) const { return run().memory(item); }
void PersistentAllreduce::set_memory(std::size_t item, std::string_view memory) { run().set_memory(item, memory); }
void PersistentAllreduce::adopt_memory(std::size_t item, std::string_view memory, const Compressor& from) {
  run().adopt_memory(item, memory, from);
}

Work allreduce_sum(const Communicator& comm, std::span<const Item> items, Slot slot, StreamRef stream,
                   const AllreduceOptions& options, std::uint64_t step) {
  return run_once({.comm = comm, .slot = slot, .entry = Entry::allreduce}, items, stream, options, step);
}

}  // namespace gradwire
