#include "collectives/run.hpp"

#include <xxhash.h>

#include <algorithm>
#include <cstddef>
#include <map>

#include "base/deadline.hpp"
#include "base/env.hpp"
#include "base/fail.hpp"
#include "base/log.hpp"
#include "collectives/message.hpp"

namespace gradwire {
namespace {

/// Messages hold headers of 16 bytes, and numbers of up to 8.
constexpr std::size_t kWorkspaceAlign = 16;

/// What all ranks must have in common, in words; entry 0 is the number of the run.
std::vector<Agreement> describe_agreement(const Operation& op, std::string_view algorithm, std::size_t segment_bytes) {
  std::vector<Agreement> entries;
  entries.push_back({"operation number", ""});
  entries.push_back({"algorithm", std::string(algorithm)});
  entries.push_back({"segment bytes", std::to_string(segment_bytes)});
  entries.push_back({"seed", std::to_string(op.seed)});
  if (op.on_device()) entries.push_back({"memory", "device"});
  if (op.pass_non_finite) entries.push_back({"NaN and Inf", "passed on"});
  if (algorithm == "hierarchical") {
    entries.push_back({"inner compressor", std::string(op.inner->spec())});
    entries.push_back({"nodes of the ranks", fmt::format("{}", fmt::join(op.nodes, " "))});
  }
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

/// All state and all random numbers are keyed by id, and verdicts name it.
void require_unique_ids(const Operation& op) {
  std::map<ParamId, const BucketItem*> known;
  for (const BucketItem& item : op.items) {
    const auto [other, is_new] = known.emplace(item.param, &item);
    require(is_new, "{} of {} items: number {} ({}) and number {} ({}) have the same id {}", name(op.entry),
            op.items.size(), other->second - op.items.data(), other->second->name, &item - op.items.data(), item.name,
            static_cast<std::uint32_t>(item.param));
  }
}

/// Whether two tensors share memory.
bool overlap(const Tensor& a, const Tensor& b) {
  const auto* const first_a = static_cast<const std::byte*>(a.data);
  const auto* const first_b = static_cast<const std::byte*>(b.data);
  return std::less<>()(first_a, first_b + b.bytes()) && std::less<>()(first_b, first_a + a.bytes());
}

void check_residual(const Operation& op, const BucketItem& item, const ItemBuffers& buffers) {
  const auto& [tensor, residual] = buffers;
  require(residual.count == item.count && residual.dtype == DType::f32,
          "{}: its residual must be f32[{}], given {}[{}]", item.name, item.count, name(residual.dtype),
          residual.count);
  require(!overlap(tensor, residual), "{}: its residual shares memory with its tensor", item.name);
  if (!op.comm.transport().reaches(residual.space)) {
    fail(Errc::unsupported, "{}: its residual is in {} memory, which transport '{}' does not reach", item.name,
         name(residual.space), op.comm.transport().info().name);
  }
}

void check_buffers(const Operation& op, std::span<const ItemBuffers> buffers, bool refused) {
  require(buffers.size() == op.items.size(), "{} of {} items was given {} buffers", name(op.entry), op.items.size(),
          buffers.size());
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const BucketItem& item = op.items[i];
    const auto& [tensor, residual] = buffers[i];
    require(tensor.count == item.count && tensor.dtype == item.dtype, "{}: registered as {}[{}], given {}[{}]",
            item.name, name(item.dtype), item.count, name(tensor.dtype), tensor.count);
    require(tensor.data != nullptr || tensor.count == 0 || refused, "{}: its tensor has no memory", item.name);
    if (!op.comm.transport().reaches(tensor.space)) {
      fail(Errc::unsupported, "{}: transport '{}' does not reach {} memory", item.name, op.comm.transport().info().name,
           name(tensor.space));
    }
    if (residual.data != nullptr) check_residual(op, item, buffers[i]);
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
  if (verdict.code == Errc::non_finite && verdict.rank == kSomebody) {
    fail(Errc::non_finite,
         "NaN, Inf or magnitudes too large for its compressor in {} on some rank, or an overflow of the sum over ranks",
         who);
  }
  if (verdict.code == Errc::non_finite) {
    fail(Errc::non_finite,
         "NaN, Inf or magnitudes too large for its compressor in {} on rank {}, or in the sum that it owns", who,
         verdict.rank);
  }
  if (verdict.code == Errc::invalid_argument) {
    fail(Errc::invalid_argument, "the gradient of {} was missing on rank {}", who, verdict.rank);
  }
  fail(verdict.code, "rank {} refused {}", verdict.rank, who);
}

/// The node of every rank: a transport may name none, and then there is one.
std::vector<int> nodes_of(const Communicator& comm) {
  std::vector<int> nodes = comm.transport().info().nodes;
  if (nodes.empty()) nodes.assign(static_cast<std::size_t>(comm.size()), 0);
  require(nodes.size() == static_cast<std::size_t>(comm.size()), "transport '{}' names the nodes of {} ranks out of {}",
          comm.transport().info().name, nodes.size(), comm.size());
  return nodes;
}

}  // namespace

Run::Run(Operation operation, const AllreduceOptions& options)
    : op_(std::move(operation)), timeout_(options.timeout.count() > 0 ? options.timeout : environment().timeout) {
  const auto slot = static_cast<std::uint32_t>(op_.slot);
  require(slot <= kMaxSlot, "slot {} is above {}", slot, kMaxSlot);
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
  require_unique_ids(op_);
  op_.seed = options.seed;
  op_.nodes = nodes_of(op_.comm);
  name_ = select_algorithm({op_.entry, options.algorithm, options.inner, op_.items, op_.nodes, options.space});
  op_.space = options.space;
  if (op_.on_device()) device_ = std::make_unique<DeviceRun>(op_.items.size());
  op_.pass_non_finite = options.pass_non_finite;
  require(!op_.pass_non_finite || name_ == "dense", "pass_non_finite is for algorithm 'dense', not '{}'", name_);
  if (name_ == "hierarchical") op_.inner = make_compressor(options.inner);
  agreement_ = describe_agreement(op_, name_, segment_bytes);
  op_.fingerprint = fingerprint(agreement_, op_.size());
  compares_steps_ = name_ == "integer_sum" || std::any_of(op_.items.begin(), op_.items.end(), [](const BucketItem& i) {
                      return i.compressor.low_rank() != nullptr;
                    });
  if (compares_steps_) agreement_.push_back({"step", ""});
  op_.buffers.reserve(op_.items.size());
  verdict_memory_ = Buffer(static_cast<std::size_t>(op_.size()) * sizeof(VerdictMessage));
  sends_.reserve(static_cast<std::size_t>(op_.size()));
  recvs_.reserve(static_cast<std::size_t>(op_.size()));
  algorithm_ = make_algorithm(name_, op_, segment_bytes);
  pipeline_.emplace(*algorithm_);
}

Run::~Run() {
  if (state_ != State::failed && state_ != State::running) return;
  if (device_) device_->abandon();
  workspace_.abandon();  // the backend may still write to it
  verdict_memory_.abandon();
}

void Run::start(std::span<const ItemBuffers> buffers, Bytes workspace, std::uint64_t step, StreamRef stream,
                const std::optional<Verdict>& refusal) {
  require(state_ != State::running, "{} in slot {} was started again before it was done", gradwire::name(op_.entry),
          static_cast<std::uint32_t>(op_.slot));
  if (state_ == State::failed) std::rethrow_exception(failure_);
  require(workspace.size >= workspace_bytes() && (workspace.data != nullptr || workspace_bytes() == 0),
          "{} needs {} bytes of workspace, given {}", gradwire::name(op_.entry), workspace_bytes(),
          workspace.data == nullptr ? 0 : workspace.size);
  require(reinterpret_cast<std::uintptr_t>(workspace.data) % kWorkspaceAlign == 0,
          "{} needs a workspace aligned to {} bytes, given one at {}", gradwire::name(op_.entry), kWorkspaceAlign,
          static_cast<const void*>(workspace.data));
  check_buffers(op_, buffers, refusal.has_value());
  require_space(op_, buffers, workspace, stream);
  const device::Scope scope(device_ ? device_->device() : -1);
  started_ = Clock::now();
  op_.deadline = deadline_after(timeout_);
  agree_first(step);
  const std::lock_guard lock(mutex_);
  op_.buffers.assign(buffers.begin(), buffers.end());
  op_.step = step;
  op_.stream = device_ ? device_->stream_behind(stream) : stream;
  op_.stats = {};
  op_.verdict.reset();
  failure_ = nullptr;
  if (device_) device_->begin(op_, workspace);
  algorithm_->set_workspace(workspace);
  const bool ordered = device_ && op_.comm.transport().info().stream_ordered;
  pipeline_->begin(ordered ? &op_.stream : nullptr);
  // Nobody else hears of a bucket without elements, so nothing can be refused there.
  if (refusal && elems_ > 0) op_.refuse(*refusal);
  state_ = State::running;
  first_step();
}

/// The first run waits for the others here, so that a difference has words on every rank before the first message.
/// `checked` does the same before each run.
void Run::agree_first(std::uint64_t step) {
  op_.number = op_.comm.next_operation(op_.slot);
  agreement_.front().value = std::to_string(op_.number);
  if (compares_steps_) agreement_.back().value = std::to_string(step);
  if (!agreed_) {
    try {
      op_.comm.agree(agreement_, op_.deadline, op_.slot);
    } catch (const Error& error) {
      if (error.code() != Errc::timeout) throw;
      fail(Errc::timeout, "{} ms passed in the first start of {}: {}", timeout_.count(), describe_operation(),
           error.what());
    }
    agreed_ = true;
  }
  op_.comm.transport().announce(agreement_, op_.slot, op_.deadline);
}

bool Run::poll() {
  const std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
  if (state_ != State::running) return true;
  const device::Scope scope(device_ ? device_->device() : -1);
  try {
    if (!pipeline_->advance() || (device_ && !device_->done(op_)) || !verdicts_agree()) {
      if (Clock::now() >= op_.deadline) fail(Errc::timeout, "{} ms passed in {}", timeout_.count(), describe_step());
      return false;
    }
  } catch (...) {
    give_up();
    throw;
  }
  state_ = State::done;
  algorithm_->settle(!op_.verdict);
  op_.stats.total_us = std::chrono::duration<double, std::micro>(Clock::now() - started_).count();
  last_stats_ = op_.stats;
  if (op_.verdict) deliver_verdict();
  return true;
}

std::string Run::describe_operation() const {
  return fmt::format("{} of {} items in slot {} on rank {}", name_, op_.items.size(),
                     static_cast<std::uint32_t>(op_.slot), op_.rank());
}

std::string Run::describe_step() const { return describe_operation() + ", " + pipeline_->describe(); }

std::string Run::describe() const {
  const std::lock_guard lock(mutex_);
  return describe_step();
}

std::span<Run::VerdictMessage> Run::verdict_messages() const noexcept {
  return {reinterpret_cast<VerdictMessage*>(verdict_memory_.data()), static_cast<std::size_t>(op_.size())};
}

std::size_t Run::verdict_bytes() const noexcept {
  return device_ ? sizeof(VerdictMessage) : offsetof(VerdictMessage, number);
}

/// Posts the first exchanges here and not when first polled: backends match some of them by the order of starts.
void Run::first_step() noexcept {
  try {
    (void)pipeline_->advance();
  } catch (...) {
    give_up();
  }
}

/// Several ranks may have found something, each its own; or, where messages do not take a verdict to every rank, only
/// some know of any. So all exchange what they have and take the lowest rank's. True once they have, or where no rank
/// can have any.
bool Run::verdicts_agree() {
  if (!op_.verdict && algorithm_->spreads_verdicts() && !op_.on_device()) return true;
  if (!exchanging_verdicts_) exchanging_verdicts_ = exchange_verdicts();
  if (!exchanging_verdicts_->done()) return false;
  exchanging_verdicts_.reset();
  if (device_) check_in_step();
  const VerdictMessage* first = nullptr;
  for (const VerdictMessage& each : verdict_messages()) {
    if (each.code != 0 && (first == nullptr || each < *first)) first = &each;
  }
  if (first == nullptr) return true;
  op_.verdict = Verdict{static_cast<Errc>(first->code), static_cast<int>(first->rank), ParamId{first->param}};
  return true;
}

void Run::check_in_step() const {
  for (std::size_t rank = 0; rank < verdict_messages().size(); ++rank) {
    const VerdictMessage& theirs = verdict_messages()[rank];
    if (theirs.number != op_.number || theirs.fingerprint != op_.fingerprint) {
      fail(Errc::rank_mismatch,
           "rank {} runs a different operation in slot {}: number {} with fingerprint {:016x}, here {} with {:016x}; "
           "GRADWIRE_CHECK=1 tells what differs",
           rank, static_cast<std::uint32_t>(op_.slot), theirs.number, theirs.fingerprint, op_.number, op_.fingerprint);
    }
    if (compares_steps_ && theirs.step != op_.step) {
      fail(Errc::rank_mismatch, "rank {} is at step {} in slot {}, this rank at step {}", rank, theirs.step,
           static_cast<std::uint32_t>(op_.slot), op_.step);
    }
  }
}

Work Run::exchange_verdicts() {
  VerdictMessage& mine = verdict_messages()[static_cast<std::size_t>(op_.rank())];
  mine = {.number = op_.number, .fingerprint = op_.fingerprint, .step = op_.step};
  if (op_.verdict) {
    mine.rank = static_cast<std::uint32_t>(op_.verdict->rank);
    mine.param = static_cast<std::uint32_t>(op_.verdict->param);
    mine.code = static_cast<std::uint32_t>(op_.verdict->code);
  }
  sends_.clear();
  recvs_.clear();
  for (int peer = 0; peer < op_.size(); ++peer) {
    if (peer == op_.rank()) continue;
    auto* const theirs = reinterpret_cast<std::byte*>(&verdict_messages()[static_cast<std::size_t>(peer)]);
    sends_.push_back({{reinterpret_cast<const std::byte*>(&mine), verdict_bytes()}, peer});
    recvs_.push_back({{theirs, verdict_bytes()}, peer});
  }
  return op_.exchange(sends_, recvs_);
}

/// Out of step with the others: nothing sent here can be matched any more, so all of them must hear of the exception
/// that is being handled.
void Run::give_up() noexcept {
  failure_ = std::current_exception();
  state_ = State::failed;
  std::string why = "an exception of unknown type, thrown by a compressor";
  try {
    throw;
  } catch (const Error& error) {
    if (error.code() == Errc::aborted) return;  // another rank's failure, which it has reported
    why = error.what();
  } catch (const std::exception& error) {
    why = error.what();
  } catch (...) {  // has no words of its own
  }
  log::line(log::Level::error, op_.rank(), "{} failed: {}", gradwire::name(op_.entry), why);
  op_.comm.transport().abort(why);
}

void Run::deliver_verdict() {
  try {
    throw_verdict(op_, *op_.verdict);
  } catch (...) {
    failure_ = std::current_exception();
    throw;
  }
}

Work run_once(Operation operation, std::span<const Item> items, StreamRef stream, const AllreduceOptions& options,
              std::uint64_t step) {
  std::vector<ItemBuffers> buffers;
  for (const Item& item : items) {
    operation.items.push_back({item.param, item.tensor.count, item.tensor.dtype, item.compressor, {}, item.shape});
    buffers.push_back({item.tensor, item.residual});
  }
  auto run = std::make_shared<Run>(std::move(operation), options);
  Buffer workspace(run->workspace_bytes(), options.space);
  run->start(buffers, workspace.bytes(), step, stream);
  run->own_workspace(std::move(workspace));
  return Work(std::move(run));
}

}  // namespace gradwire
