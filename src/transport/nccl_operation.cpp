#include "transport/nccl_operation.hpp"

#include <algorithm>
#include <utility>

#include "base/backoff.hpp"
#include "base/cuda.hpp"
#include "base/deadline.hpp"
#include "base/env.hpp"
#include "base/fail.hpp"
#include "transport/nccl_endpoint.hpp"
#include "transport/nccl_session.hpp"

namespace gradwire {
namespace {

/// The type of a sum; u16 is summed in pairs as u32.
ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::f32: return ncclFloat32;
    case DType::f16: return ncclFloat16;
    case DType::bf16: return ncclBfloat16;
    case DType::u8: return ncclUint8;
    case DType::u16:
    case DType::u32: return ncclUint32;
  }
  fail(Errc::internal, "no NCCL type for dtype {}", static_cast<int>(dtype));
}

/// A pair of u16 that stands where a u32 may stand.
bool in_whole_pairs(const Tensor& tensor) noexcept {
  return tensor.count % 2 == 0 && reinterpret_cast<std::uintptr_t>(tensor.data) % sizeof(std::uint32_t) == 0;
}

template <class T>
Bytes bytes_of(T& value) noexcept {
  return {reinterpret_cast<std::byte*>(&value), sizeof value};
}

/// Pieces of pinned memory start at multiples of this.
constexpr std::size_t kPinnedAlignment = 128;

}  // namespace

/// The memory of an operation that was given up half-way may still be read and written to.
NcclOperation::~NcclOperation() {
  if (stage_ != Stage::ended && staged_) pinned_.abandon();
}
void NcclOperation::abandon_pinned() noexcept {
  pinned_.abandon();
  pinned_ = device::Pinned();
}

void NcclOperation::begin(std::shared_ptr<NcclEndpoint> endpoint, Kind kind, Slot slot, StreamRef stream) {
  if (stage_ == Stage::failed && staged_) abandon_pinned();
  endpoint_ = std::move(endpoint);
  kind_ = kind;
  slot_ = slot;
  stage_ = Stage::queued;
  staged_ = posted_ = in_scratch_ = envelopes_open_ = false;
  failure_.reset();
  sends_.clear();
  recvs_.clear();
  tensor_ = {};
  sent_envelopes_.clear();
  expected_envelopes_.clear();
  host_work_ = staged_work_ = envelope_work_ = Work();
  has_ready_ = !stream.is_host();
  if (has_ready_) ready_.record(stream);
}

void NcclOperation::add(std::vector<Message>& messages, std::byte* data, std::size_t size, int peer) {
  const int nccl_rank = endpoint_->nccl_rank(peer);
  if (nccl_rank < 0) staged_ = true;
  if (size > 0 || nccl_rank < 0) messages.push_back({data, size, peer, nccl_rank});
}

void NcclOperation::set_exchange(std::span<const Send> sends, std::span<const Recv> recvs) {
  host_sends_.clear();
  host_recvs_.clear();
  for (const Send& send : sends) {
    if (send.bytes.space == Space::host) {
      host_sends_.push_back(send);
    } else {  // NCCL and the copies only read it
      add(sends_, const_cast<std::byte*>(send.bytes.data), send.bytes.size, send.to);
      sent_envelopes_.push_back({0, static_cast<std::uint32_t>(slot_), send.bytes.size, 0});
    }
  }
  for (const Recv& recv : recvs) {
    if (recv.bytes.space == Space::host) {
      host_recvs_.push_back(recv);
    } else {
      add(recvs_, recv.bytes.data, recv.bytes.size, recv.from);
      expected_envelopes_.push_back({0, static_cast<std::uint32_t>(slot_), recv.bytes.size, 0});
    }
  }
  if (!host_sends_.empty() || !host_recvs_.empty()) {
    host_work_ = endpoint_->host().transport().exchange(host_sends_, host_recvs_, slot_, StreamRef::host());
  }
  if (!endpoint_->verify()) return;
  found_envelopes_.resize(expected_envelopes_.size());
  host_sends_.clear();
  host_recvs_.clear();
  for (const Send& send : sends) {
    if (send.bytes.space == Space::host) continue;
    host_sends_.push_back({bytes_of(sent_envelopes_[host_sends_.size()]), send.to});
  }
  for (const Recv& recv : recvs) {
    if (recv.bytes.space == Space::host) continue;
    host_recvs_.push_back({bytes_of(found_envelopes_[host_recvs_.size()]), recv.from});
  }
  post_envelopes();
}

void NcclOperation::set_all_reduce(Tensor inout) {
  tensor_ = inout;
  staged_ = !endpoint_->whole();
  if (!endpoint_->verify() || staged_ || inout.count == 0 || endpoint_->alone()) return;
  // Once round the ring: each rank compares with the one before it.
  const int rank = endpoint_->host().rank();
  const int size = endpoint_->host().size();
  const NcclEnvelope own{1, static_cast<std::uint32_t>(slot_), inout.bytes(), static_cast<std::uint32_t>(inout.dtype)};
  sent_envelopes_.assign(1, own);
  expected_envelopes_.assign(1, own);
  found_envelopes_.resize(1);
  host_sends_.assign(1, {bytes_of(sent_envelopes_[0]), (rank + 1) % size});
  host_recvs_.assign(1, {bytes_of(found_envelopes_[0]), (rank + size - 1) % size});
  post_envelopes();
}

void NcclOperation::post_envelopes() {
  envelope_work_ = endpoint_->host().transport().exchange(host_sends_, host_recvs_, kOrderSlot, StreamRef::host());
  envelopes_open_ = true;
}

void NcclOperation::compare_envelopes() {
  envelopes_open_ = false;
  const auto words = [](const NcclEnvelope& envelope) {
    if (envelope.all_reduce == 0) return fmt::format("a message of {} bytes in slot {}", envelope.bytes, envelope.slot);
    return fmt::format("an all-reduce of {} bytes of {} in slot {}", envelope.bytes,
                       name(static_cast<DType>(envelope.dtype)), envelope.slot);
  };
  for (std::size_t i = 0; i < expected_envelopes_.size(); ++i) {
    if (expected_envelopes_[i] == found_envelopes_[i]) continue;
    fail(Errc::rank_mismatch,
         "rank {} expects {} from rank {}, which sends {}: the ranks call device operations in different orders, or "
         "differ in count or compressor",
         endpoint_->host().rank(), words(expected_envelopes_[i]), host_recvs_[i].from, words(found_envelopes_[i]));
  }
}

bool NcclOperation::launch() {
  const device::Scope scope(endpoint_->device());
  if (has_ready_) ready_.before(endpoint_->stream());
  if (staged_) copy_out();
  if (kind_ == Kind::all_reduce) return staged_ || tensor_.count == 0 || endpoint_->alone() || launch_all_reduce();
  return launch_group();
}

/// Everything of one exchange in one group: NCCL moves its messages at once.
bool NcclOperation::launch_group() {
  const auto direct = [](const Message& message) { return message.nccl_rank >= 0; };
  if (std::none_of(sends_.begin(), sends_.end(), direct) && std::none_of(recvs_.begin(), recvs_.end(), direct)) {
    return true;
  }
  ncclComm_t const comm = endpoint_->comm();
  cudaStream_t const stream = cuda::native(endpoint_->stream());
  nccl_check(ncclGroupStart(), "ncclGroupStart", comm);
  ncclResult_t code = ncclSuccess;
  const auto keep_first = [&code](ncclResult_t next) {
    if (code == ncclSuccess && next != ncclInProgress) code = next;
  };
  for (const Message& recv : recvs_) {
    if (direct(recv)) keep_first(ncclRecv(recv.data, recv.size, ncclUint8, recv.nccl_rank, comm, stream));
  }
  for (const Message& send : sends_) {
    if (direct(send)) keep_first(ncclSend(send.data, send.size, ncclUint8, send.nccl_rank, comm, stream));
  }
  const ncclResult_t end = ncclGroupEnd();  // also after a failure: the group has to be closed
  nccl_check(code, "ncclSend or ncclRecv", comm);
  nccl_check(end, "ncclGroupEnd", comm);
  return end == ncclSuccess;
}

bool NcclOperation::launch_all_reduce() {
  if (tensor_.dtype == DType::u16) return launch_pairs();
  const ncclResult_t code = ncclAllReduce(tensor_.data, tensor_.data, tensor_.count, nccl_type(tensor_.dtype), ncclSum,
                                          endpoint_->comm(), cuda::native(endpoint_->stream()));
  nccl_check(code, "ncclAllReduce", endpoint_->comm());
  return code == ncclSuccess;
}

/// The sums fit in 16 bits, so no lower half carries into the upper one.
bool NcclOperation::launch_pairs() {
  const std::size_t pairs = (tensor_.count + 1) / 2;
  void* data = tensor_.data;
  if (!in_whole_pairs(tensor_)) {
    std::byte* const scratch = endpoint_->scratch(pairs * sizeof(std::uint32_t));
    const std::size_t bytes = tensor_.bytes();
    if (bytes < pairs * sizeof(std::uint32_t)) {
      device::zero(scratch + bytes, sizeof(std::uint16_t), endpoint_->stream());
    }
    device::copy(scratch, data, bytes, endpoint_->stream());
    data = scratch;
    in_scratch_ = true;
  }
  const ncclResult_t code = ncclAllReduce(data, data, pairs, nccl_type(DType::u16), ncclSum, endpoint_->comm(),
                                          cuda::native(endpoint_->stream()));
  nccl_check(code, "ncclAllReduce", endpoint_->comm());
  return code == ncclSuccess;
}

void NcclOperation::launched() {
  const device::Scope scope(endpoint_->device());
  if (in_scratch_) {
    const std::size_t pairs = (tensor_.count + 1) / 2;
    device::copy(tensor_.data, endpoint_->scratch(pairs * sizeof(std::uint32_t)), tensor_.bytes(), endpoint_->stream());
  }
  device_done_.record(endpoint_->stream());
  stage_ = Stage::running;
}

void NcclOperation::copy_out() {
  std::size_t total = 0;
  const auto place = [&total](Message& message) {
    if (message.nccl_rank >= 0) return;
    message.pinned_offset = total;
    total += (message.size + kPinnedAlignment - 1) / kPinnedAlignment * kPinnedAlignment;
  };
  for (Message& send : sends_) place(send);
  for (Message& recv : recvs_) place(recv);
  const auto copy = [this](std::byte* to, const void* from, std::size_t bytes) {
    if (bytes > 0) device::copy(to, from, bytes, endpoint_->stream());
  };
  total = std::max(total, tensor_.bytes());
  if (pinned_.size() < total) pinned_ = device::Pinned(total);
  for (const Message& send : sends_) {
    if (send.nccl_rank < 0) copy(pinned_.data() + send.pinned_offset, send.data, send.size);
  }
  if (tensor_.count > 0) copy(pinned_.data(), tensor_.data, tensor_.bytes());
}

bool NcclOperation::post_staged() {
  if (stage_ != Stage::running || !staged_ || posted_) return true;
  if (!device_done_.done()) return false;
  posted_ = true;
  Transport& host = endpoint_->host().transport();
  if (kind_ == Kind::all_reduce) {
    staged_work_ = host.all_reduce_sum({pinned_.data(), tensor_.count, tensor_.dtype}, slot_, StreamRef::host());
    return true;
  }
  host_sends_.clear();
  host_recvs_.clear();
  for (const Message& send : sends_) {
    if (send.nccl_rank < 0) host_sends_.push_back({{pinned_.data() + send.pinned_offset, send.size}, send.peer});
  }
  for (const Message& recv : recvs_) {
    if (recv.nccl_rank < 0) host_recvs_.push_back({{pinned_.data() + recv.pinned_offset, recv.size}, recv.peer});
  }
  staged_work_ = host.exchange(host_sends_, host_recvs_, slot_, StreamRef::host());
  return true;
}

void NcclOperation::copy_back() {
  const device::Scope scope(endpoint_->device());
  const auto copy = [this](void* to, const std::byte* from, std::size_t bytes) {
    if (bytes > 0) device::copy(to, from, bytes, endpoint_->copy_stream());
  };
  for (const Message& recv : recvs_) {
    if (recv.nccl_rank < 0) copy(recv.data, pinned_.data() + recv.pinned_offset, recv.size);
  }
  if (tensor_.count > 0) copy(tensor_.data, pinned_.data(), tensor_.bytes());
  copied_.record(endpoint_->copy_stream());
  stage_ = Stage::copying;
}

bool NcclOperation::advance() {
  if (!active()) return true;
  if (envelopes_open_ && envelope_work_.done()) compare_envelopes();
  if (stage_ == Stage::queued) return false;
  if (stage_ == Stage::running) {
    if (!device_done_.done()) return false;
    if (staged_) {
      if (!posted_ || !staged_work_.done()) return false;
      copy_back();
    }
  }
  if (stage_ == Stage::copying && !copied_.done()) return false;
  if (!host_work_.done() || envelopes_open_) return false;
  stage_ = Stage::ended;
  return true;
}

void NcclOperation::fail_with(const Error& error) noexcept {
  if (!active()) return;
  stage_ = Stage::failed;
  failure_ = error;
}

/// Another thread that is here moves this operation too: no need to queue behind it.
bool NcclOperation::poll() {
  const std::unique_lock lock(endpoint_->mutex(), std::try_to_lock);
  if (!lock.owns_lock()) return false;
  if (active()) endpoint_->serve(*this);
  if (stage_ == Stage::failed) throw Error(*failure_);
  return stage_ == Stage::ended;
}

void NcclOperation::before(StreamRef stream) {
  if (stream.is_host()) return;
  const Deadline deadline = deadline_after(environment().timeout);  // an exchange has none of its own
  for (Backoff backoff;; backoff.pause()) {
    {
      const std::lock_guard lock(endpoint_->mutex());
      if (active()) endpoint_->serve(*this);
      if (stage_ == Stage::failed) throw Error(*failure_);
      if (stage_ == Stage::ended) return;
      const bool in_streams = stage_ == Stage::copying || (stage_ == Stage::running && !staged_);
      if (in_streams && host_work_.done()) {
        const device::Scope scope(endpoint_->device());
        return (staged_ ? copied_ : device_done_).before(stream);
      }
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      fail(Errc::timeout, "GRADWIRE_TIMEOUT_MS ({} ms) passed before it could be ordered before a stream: {}",
           environment().timeout.count(), describe());
    }
  }
}

std::string NcclOperation::peers() const {
  std::vector<int> ranks;
  for (const std::vector<Message>* messages : {&recvs_, &sends_}) {
    for (const Message& message : *messages) {
      if (std::find(ranks.begin(), ranks.end(), message.peer) == ranks.end()) ranks.push_back(message.peer);
    }
  }
  return fmt::format("{} {}", ranks.size() == 1 ? "rank" : "ranks", fmt::join(ranks, " "));
}

std::string NcclOperation::describe() const {
  const std::lock_guard lock(endpoint_->mutex());
  std::string text =
      fmt::format("{} in slot {} on the device", kind_ == Kind::exchange ? "exchange" : "dense all-reduce",
                  static_cast<std::uint32_t>(slot_));
  if (!active()) return text;
  if (stage_ == Stage::queued) text += ", which NCCL has not launched yet";
  if (!sends_.empty() || !recvs_.empty()) text += ", with " + peers();
  return text;
}

}  // namespace gradwire
