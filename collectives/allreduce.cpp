#include "gradwire/allreduce.hpp"

#include <xxhash.h>

#include <algorithm>
#include <compare>

#include "base/env.hpp"
#include "base/fail.hpp"
#include "base/log.hpp"
#include "collectives/message.hpp"
#include "collectives/pipeline.hpp"

#include "gradwire/buffer.hpp"

namespace gradwire {
namespace {

using Clock = std::chrono::steady_clock;

/// What all ranks must have in common, in words; entry 0 is the number of the run.
std::vector<Agreement> describe_operation(const Operation& op, std::string_view algorithm, std::size_t segment_bytes) {
  std::vector<Agreement> entries;
  entries.push_back({"operation number", ""});
  entries.push_back({"algorithm", std::string(algorithm)});
  entries.push_back({"segment bytes", std::to_string(segment_bytes)});
  entries.push_back({"seed", std::to_string(op.seed)});
  for (const BucketItem& item : op.items) {
    std::string text = fmt::format("id {} {}[{}] {}", static_cast<std::uint32_t>(item.param), name(item.dtype),
                                   item.count, item.compressor.spec());
    if (item.compressor.low_rank() != nullptr) {
      const MatrixView view = matrix_view(item.shape);
      text += fmt::format(" as {}x{}", view.rows, view.cols);
    }
    entries.push_back({item.name, std::move(text)});
  }
  return entries;
}

/// What messages call an item: "parameter 'fc1.weight'". Made once, so that checks in steady state allocate nothing.
std::string label(const BucketItem& item) {
  if (item.name.empty()) return fmt::format("parameter {}", static_cast<std::uint32_t>(item.param));
  return fmt::format("parameter '{}'", item.name);
}

std::uint64_t fingerprint(std::span<const Agreement> entries, int ranks) {
  std::string text = fmt::format("gradwire message 1, {} ranks", ranks);
  for (const Agreement& entry : entries) text += '\n' + entry.key + '\t' + entry.value;
  return XXH3_64bits(text.data(), text.size());
}

void check_buffers(const Operation& op, std::span<const ItemBuffers> buffers) {
  require(buffers.size() == op.items.size(), "allreduce of {} items was given {} buffers", op.items.size(),
          buffers.size());
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const BucketItem& item = op.items[i];
    const auto& [tensor, residual] = buffers[i];
    require(tensor.count == item.count && tensor.dtype == item.dtype, "{}: registered as {}[{}], given {}[{}]",
            item.name, name(item.dtype), item.count, name(tensor.dtype), tensor.count);
    require(tensor.data != nullptr || tensor.count == 0, "{}: its tensor has no memory", item.name);
    if (!op.comm.transport().reaches(tensor.space)) {
      fail(Errc::unsupported, "{}: transport '{}' does not reach {} memory", item.name, op.comm.transport().info().name,
           name(tensor.space));
    }
    if (residual.data == nullptr) continue;
    require(residual.count == item.count && residual.dtype == DType::f32,
            "{}: its residual must be f32[{}], given {}[{}]", item.name, item.count, name(residual.dtype),
            residual.count);
    require(residual.data != tensor.data || item.count == 0, "{}: its residual is its tensor's memory", item.name);
  }
}

[[noreturn]] void throw_verdict(const Operation& op, const Verdict& verdict) {
  std::string who = fmt::format("parameter {}", static_cast<std::uint32_t>(verdict.param));
  for (const BucketItem& item : op.items) {
    if (item.param == verdict.param) who = item.name;
  }
  if (verdict.code == Errc::non_finite && verdict.rank == kNobody) {
    fail(Errc::non_finite, "the sum over ranks of finite gradients overflows, first in {} or one sent with it", who);
  }
  if (verdict.code == Errc::non_finite) {
    fail(Errc::non_finite, "NaN, Inf or a magnitude beyond 2^126 in {} on rank {}, or in the sum that it owns", who,
         verdict.rank);
  }
  if (verdict.code == Errc::invalid_argument) {
    fail(Errc::invalid_argument, "the gradient of {} was missing on rank {}", who, verdict.rank);
  }
  fail(verdict.code, "rank {} refused {}", verdict.rank, who);
}

}  // namespace

class PersistentAllreduce::Impl final : public Completion {
 public:
  Impl(Communicator comm, std::vector<BucketItem> items, Slot slot, const AllreduceOptions& options)
      : op_{.comm = std::move(comm), .items = std::move(items), .slot = slot, .seed = options.seed},
        timeout_(options.timeout.count() > 0 ? options.timeout : environment().timeout) {
    require(static_cast<std::uint32_t>(slot) <= kMaxSlot, "slot {} is above {}", static_cast<std::uint32_t>(slot),
            kMaxSlot);
    const std::size_t segment_bytes = options.segment_bytes > 0 ? options.segment_bytes : environment().segment_bytes;
    for (BucketItem& item : op_.items) {
      item.name = label(item);
      require(is_float(item.dtype), "{}: registered as {}, expected f32, f16 or bf16", item.name,
              gradwire::name(item.dtype));
      std::size_t shaped = 1;
      for (const std::size_t extent : item.shape) shaped *= extent;
      require(item.shape.empty() || shaped == item.count, "{}: its shape has {} elements, not {}", item.name, shaped,
              item.count);
      elems_ += item.count;
    }
    name_ = select_algorithm(options.algorithm, op_.items, op_.size());
    agreement_ = describe_operation(op_, name_, segment_bytes);
    op_.fingerprint = fingerprint(agreement_, op_.size());
    op_.buffers.reserve(op_.items.size());
    algorithm_ = make_algorithm(name_, op_, segment_bytes);
    pipeline_.emplace(*algorithm_);
  }

  [[nodiscard]] std::string_view name() const noexcept { return name_; }
  [[nodiscard]] std::size_t workspace_bytes() const noexcept { return algorithm_->workspace_bytes(); }
  [[nodiscard]] const OperationStats& stats() const noexcept { return last_stats_; }
  [[nodiscard]] bool in_step() const noexcept { return state_ != State::failed; }

  void start(std::span<const ItemBuffers> buffers, Bytes workspace, std::uint64_t step, StreamRef stream,
             const std::optional<Verdict>& refusal = std::nullopt) {
    require(state_ != State::running, "allreduce in slot {} was started again before it was done",
            static_cast<std::uint32_t>(op_.slot));
    if (state_ == State::failed) std::rethrow_exception(failure_);
    require(workspace.size >= workspace_bytes(), "allreduce needs {} bytes of workspace, given {}", workspace_bytes(),
            workspace.size);
    check_buffers(op_, buffers);
    op_.buffers.assign(buffers.begin(), buffers.end());
    op_.step = step;
    op_.stream = stream;
    op_.stats = {};
    op_.verdict.reset();
    op_.number = op_.comm.next_operation(op_.slot);
    failure_ = nullptr;
    algorithm_->set_workspace(workspace);
    pipeline_->begin();
    started_ = Clock::now();
    op_.deadline = started_ + timeout_;
    agreement_.front().value = std::to_string(op_.number);
    op_.comm.transport().announce(agreement_, op_.slot, started_ + timeout_);
    // Nobody else hears of a bucket without elements, so nothing can be refused there.
    if (refusal && elems_ > 0) op_.refuse(*refusal);
    state_ = State::running;
    first_step();
  }

  /// For the one-shot form: memory that lives as long as the operation.
  void own_workspace(Buffer workspace) { workspace_ = std::move(workspace); }

  ~Impl() override {
    if (state_ == State::failed || state_ == State::running) workspace_.abandon();  // the backend may still write to it
  }

  bool poll() override {
    if (failure_) std::rethrow_exception(failure_);
    if (state_ != State::running) return true;
    try {
      if (!pipeline_->advance() || !verdicts_agree()) {
        if (Clock::now() - started_ >= timeout_)
          fail(Errc::timeout, "{} ms passed in {}", timeout_.count(), describe());
        return false;
      }
    } catch (const std::exception& error) {
      give_up(error);
      throw;
    }
    state_ = State::done;
    op_.stats.total_us = std::chrono::duration<double, std::micro>(Clock::now() - started_).count();
    last_stats_ = op_.stats;
    if (op_.verdict) deliver_verdict();
    return true;
  }

  [[nodiscard]] std::string describe() const override {
    return fmt::format("{} of {} items in slot {} on rank {}, {}", name_, op_.items.size(),
                       static_cast<std::uint32_t>(op_.slot), op_.rank(), pipeline_->describe());
  }

 private:
  enum class State { idle, running, done, failed };

  /// What a rank found, as ranks exchange it; the one that sorts first counts.
  struct Testimony {
    std::uint32_t rank = 0;
    std::uint32_t param = 0;
    std::uint32_t code = 0;
    auto operator<=>(const Testimony&) const = default;
  };

  /// Posts the first exchanges here and not when first polled: backends match some of them by the order of starts.
  void first_step() noexcept {
    try {
      (void)pipeline_->advance();
    } catch (const std::exception& error) {
      give_up(error);
    }
  }

  /// Several ranks may have found something, each its own. All of them have a verdict by now, so all exchange theirs
  /// and take the lowest rank's. True once they have, or where there is none.
  bool verdicts_agree() {
    if (!op_.verdict) return true;
    if (!testifying_) testifying_ = testify();
    if (!testifying_->done()) return false;
    testifying_.reset();
    const Testimony first = *std::min_element(testimonies_.begin(), testimonies_.end());
    op_.verdict = Verdict{static_cast<Errc>(first.code), static_cast<int>(first.rank), ParamId{first.param}};
    return true;
  }

  Work testify() {
    testimonies_.assign(static_cast<std::size_t>(op_.size()), {});
    Testimony& mine = testimonies_[static_cast<std::size_t>(op_.rank())];
    mine = {static_cast<std::uint32_t>(op_.verdict->rank), static_cast<std::uint32_t>(op_.verdict->param),
            static_cast<std::uint32_t>(op_.verdict->code)};
    std::vector<Send> sends;
    std::vector<Recv> recvs;
    for (int peer = 0; peer < op_.size(); ++peer) {
      if (peer == op_.rank()) continue;
      auto* theirs = reinterpret_cast<std::byte*>(&testimonies_[static_cast<std::size_t>(peer)]);
      sends.push_back({{reinterpret_cast<const std::byte*>(&mine), sizeof mine}, peer});
      recvs.push_back({{theirs, sizeof mine}, peer});
    }
    return op_.exchange(sends, recvs);
  }

  /// Out of step with the others: nothing sent here can be matched any more, so all of them must hear of it.
  void give_up(const std::exception& error) noexcept {
    failure_ = std::current_exception();
    state_ = State::failed;
    const auto* const known = dynamic_cast<const Error*>(&error);
    if (known != nullptr && known->code() == Errc::aborted) return;  // another rank's failure, which it has reported
    log::line(log::Level::error, op_.rank(), "allreduce failed: {}", error.what());
    op_.comm.transport().abort(error.what());
  }

  void deliver_verdict() {
    try {
      throw_verdict(op_, *op_.verdict);
    } catch (...) {
      failure_ = std::current_exception();
      throw;
    }
  }

  Operation op_;
  std::chrono::milliseconds timeout_;
  std::string_view name_;
  std::vector<Agreement> agreement_;
  std::unique_ptr<Algorithm> algorithm_;
  std::optional<Pipeline> pipeline_;
  Buffer workspace_;
  Clock::time_point started_;
  State state_ = State::idle;
  std::size_t elems_ = 0;
  std::vector<Testimony> testimonies_;  // by rank
  std::optional<Work> testifying_;
  std::exception_ptr failure_;
  OperationStats last_stats_;
};

PersistentAllreduce::PersistentAllreduce(Communicator comm, std::vector<BucketItem> items, Slot slot,
                                         const AllreduceOptions& options)
    : impl_(std::make_shared<Impl>(std::move(comm), std::move(items), slot, options)) {}
PersistentAllreduce::PersistentAllreduce(PersistentAllreduce&&) noexcept = default;
PersistentAllreduce& PersistentAllreduce::operator=(PersistentAllreduce&&) noexcept = default;
PersistentAllreduce::~PersistentAllreduce() = default;

std::string_view PersistentAllreduce::algorithm() const noexcept { return impl_->name(); }
std::size_t PersistentAllreduce::workspace_bytes() const noexcept { return impl_->workspace_bytes(); }
bool PersistentAllreduce::in_step() const noexcept { return impl_->in_step(); }
const OperationStats& PersistentAllreduce::stats() const noexcept { return impl_->stats(); }

Work PersistentAllreduce::start(std::span<const ItemBuffers> buffers, Bytes workspace, std::uint64_t step,
                                StreamRef stream, const std::optional<Verdict>& refusal) {
  impl_->start(buffers, workspace, step, stream, refusal);
  return Work(impl_);
}

Work allreduce_sum(const Communicator& comm, std::span<const Item> items, Slot slot, StreamRef stream,
                   const AllreduceOptions& options, std::uint64_t step) {
  std::vector<BucketItem> bucket;
  std::vector<ItemBuffers> buffers;
  for (const Item& item : items) {
    bucket.push_back({item.param, item.tensor.count, item.tensor.dtype, item.compressor, {}, item.shape});
    buffers.push_back({item.tensor, item.residual});
  }
  auto operation = std::make_shared<PersistentAllreduce::Impl>(comm, std::move(bucket), slot, options);
  Buffer workspace(operation->workspace_bytes());
  operation->start(buffers, workspace.bytes(), step, stream);
  operation->own_workspace(std::move(workspace));
  return Work(std::move(operation));
}

}  // namespace gradwire
