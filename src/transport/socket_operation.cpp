#include "transport/socket_operation.hpp"

#include <algorithm>
#include <cstring>

#include "base/fail.hpp"
#include "base/half.hpp"
#include "transport/socket_endpoint.hpp"

namespace gradwire {
namespace {

template <class T>
void add_integers(std::byte* sum, const std::byte* term, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    T a;
    T b;
    std::memcpy(&a, sum + i * sizeof(T), sizeof(T));
    std::memcpy(&b, term + i * sizeof(T), sizeof(T));
    a = static_cast<T>(a + b);
    std::memcpy(sum + i * sizeof(T), &a, sizeof(T));
  }
}

}  // namespace

void SocketOperation::begin(std::shared_ptr<SocketEndpoint> endpoint, Slot slot) {
  endpoint_ = std::move(endpoint);
  slot_ = slot;
  parts_.clear();
  pending_ = 0;
  failure_.reset();
  tensor_ = {};
}

void SocketOperation::post(std::span<const Send> sends, std::span<const Recv> recvs) {
  for (const Recv& recv : recvs) parts_.push_back({recv.bytes, recv.from});
  pending_ = recvs.size();
  for (const Send& send : sends) endpoint_->send(send.to, slot_, send.bytes);
  for (std::size_t part = 0; part < recvs.size(); ++part) {
    endpoint_->receive(shared_from_this(), part, recvs[part].from, slot_);
  }
}

void SocketOperation::post_all_reduce(Tensor inout) {
  tensor_ = inout;
  const auto ranks = static_cast<std::size_t>(endpoint_->size());
  terms_.resize(ranks * inout.bytes());
  std::vector<Send> sends;
  std::vector<Recv> recvs;
  for (int rank = 0; rank < endpoint_->size(); ++rank) {
    const Bytes term{terms_.data() + static_cast<std::size_t>(rank) * inout.bytes(), inout.bytes()};
    if (rank == endpoint_->rank()) {
      if (term.size > 0) std::memcpy(term.data, inout.data, term.size);
      continue;
    }
    sends.push_back({{static_cast<const std::byte*>(inout.data), inout.bytes()}, rank});
    recvs.push_back({term, rank});
  }
  post(sends, recvs);
}

void SocketOperation::sum() {
  auto* const sum = static_cast<std::byte*>(tensor_.data);
  const std::size_t bytes = tensor_.bytes();
  const auto ranks = static_cast<std::size_t>(endpoint_->size());
  if (is_float(tensor_.dtype)) {
    for (std::size_t i = 0; i < tensor_.count; ++i) {
      float total = 0;
      for (std::size_t rank = 0; rank < ranks; ++rank) {
        total += load_f32(terms_.data() + rank * bytes, tensor_.dtype, i);
      }
      store_f32(sum, tensor_.dtype, i, total);
    }
    return;
  }
  if (bytes > 0) std::memset(sum, 0, bytes);
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const std::byte* const term = terms_.data() + rank * bytes;
    if (tensor_.dtype == DType::u8) add_integers<std::uint8_t>(sum, term, tensor_.count);
    if (tensor_.dtype == DType::u16) add_integers<std::uint16_t>(sum, term, tensor_.count);
    if (tensor_.dtype == DType::u32) add_integers<std::uint32_t>(sum, term, tensor_.count);
  }
}

void SocketOperation::deliver(std::size_t part, const std::vector<std::byte>& message) {
  Part& to = parts_[part];
  const bool fits = tensor_.count > 0 ? message.size() == to.into.size : message.size() <= to.into.size;
  if (!fits) {
    endpoint_->withdraw(*this);
    return fail_with(Error(
        Errc::rank_mismatch,
        fmt::format("a message of {} bytes from rank {} in slot {} is longer than the {} bytes that rank {} "
                    "expects: the ranks differ in count or compressor; GRADWIRE_CHECK=1 tells which",
                    message.size(), to.from, static_cast<std::uint32_t>(slot_), to.into.size, endpoint_->rank())));
  }
  if (failure_) return;
  if (!message.empty()) std::memcpy(to.into.data, message.data(), message.size());
  to.open = false;
  if (--pending_ == 0 && tensor_.count > 0) sum();
}

void SocketOperation::fail_with(const Error& error) noexcept {
  if (!failure_) failure_ = error;
}

bool SocketOperation::poll() {
  const std::unique_lock lock(endpoint_->mutex(), std::try_to_lock);
  if (!lock.owns_lock()) return false;
  endpoint_->pump();
  if (failure_) throw Error(*failure_);
  return pending_ == 0;
}

std::string SocketOperation::describe() const {
  const std::lock_guard lock(endpoint_->mutex());
  std::string text = fmt::format("{} in slot {}", slot_ == kSumSlot ? "dense all-reduce" : "exchange",
                                 static_cast<std::uint32_t>(slot_));
  std::vector<int> ranks;
  for (const Part& part : parts_) {
    if (part.open && std::find(ranks.begin(), ranks.end(), part.from) == ranks.end()) ranks.push_back(part.from);
  }
  if (ranks.empty() || failure_) return text;
  return text +
         fmt::format(": waiting to receive from {} {}", ranks.size() == 1 ? "rank" : "ranks", fmt::join(ranks, " "));
}

}  // namespace gradwire
