#include "transport/staged.hpp"

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "base/device.hpp"
#include "base/fail.hpp"
#include "transport/fifo.hpp"
#include "transport/pool.hpp"

namespace gradwire {
namespace {

constexpr std::size_t kPinnedAlign = 256;

[[nodiscard]] std::size_t room_for(std::size_t bytes) {
  return (bytes + kPinnedAlign - 1) / kPinnedAlign * kPinnedAlign;
}

class StagedOperation;

/// Operations that are not posted yet, in the order in which they were given.
using Lane = Fifo<std::shared_ptr<StagedOperation>>;

/// Streams of a device on which copies run.
struct Copies {
  device::Stream outward;  ///< to the host
  device::Stream inward;
};

/// What one rank's operations share.
struct Staging {
  Staging(std::shared_ptr<Transport> transport, DevicePath path)
      : inner(std::move(transport)), is_direct(path == DevicePath::direct) {}
  const std::shared_ptr<Transport> inner;
  const bool is_direct;
  std::mutex mutex;
  std::map<Slot, Lane> exchanges;
  Lane sums;

  /// Of the calling thread's device; made when something of that device comes first, so that ranks which use none
  /// leave it alone. With the lock held.
  [[nodiscard]] Copies& copies() {
    std::unique_ptr<Copies>& found = copies_[device::current()];
    if (!found) found = std::make_unique<Copies>();
    return *found;
  }
  /// Posts what is next in every lane, whichever of them is waited for: ranks may wait in different orders. With the
  /// lock held.
  void post();

 private:
  std::map<int, std::unique_ptr<Copies>> copies_;
};

/// One exchange or all-reduce: copied out, posted, copied in; or posted as it is, once the device has come so far.
class StagedOperation final : public Completion {
 public:
  ~StagedOperation() override {
    if (stage_ != Stage::done) pinned_.abandon();  // the backend or the device may still use it
  }

  /// `copies`: null where nothing is copied. What `is_on_device` waits for the caller's stream.
  void begin(std::shared_ptr<Staging> staging, bool is_on_device, Copies* copies, Slot slot, StreamRef stream) {
    if (stage_ != Stage::done) {  // its Work was dropped
      pinned_.abandon();
      pinned_ = {};
    }
    staging_ = std::move(staging);
    is_on_device_ = is_on_device;
    copies_ = copies;
    slot_ = slot;
    stage_ = Stage::copying_out;
    failure_ = nullptr;
    sends_.clear();
    recvs_.clear();
    inward_.clear();
    tensor_.reset();
    work_ = {};
    if (!is_on_device) return;
    if (const int device = device::current(); !ready_ || device_ != device) {  // an event is a device's
      ready_.emplace();
      device_ = device;
    }
    ready_->record(stream);
  }

  void take_exchange(std::span<const Send> sends, std::span<const Recv> recvs) {
    std::size_t bytes = 0;
    const auto is_staged = [this](Space space) { return space == Space::device && copies_ != nullptr; };
    for (const Send& send : sends) bytes += is_staged(send.bytes.space) ? room_for(send.bytes.size) : 0;
    for (const Recv& recv : recvs) bytes += is_staged(recv.bytes.space) ? room_for(recv.bytes.size) : 0;
    reserve(bytes);
    for (const Send& send : sends) {
      sends_.push_back(send);
      if (is_staged(send.bytes.space)) sends_.back().bytes = copy_out(send.bytes);
    }
    for (const Recv& recv : recvs) {
      recvs_.push_back(recv);
      if (is_staged(recv.bytes.space)) recvs_.back().bytes = place_for(recv.bytes);
    }
    finish_copies();
  }

  void take_sum(Tensor inout) {
    tensor_ = inout;
    if (inout.space == Space::device) {
      const Bytes whole{static_cast<std::byte*>(inout.data), inout.bytes(), inout.space};
      reserve(room_for(whole.size));
      const ConstBytes copied = copy_out(whole);
      inward_.push_back({whole, copied.data});
      tensor_ = Tensor{const_cast<std::byte*>(copied.data), inout.count, inout.dtype, Space::host};
    }
    finish_copies();
  }

  /// With the lock held, for what is next in its queue: true once it is posted, or failed.
  [[nodiscard]] bool post() {
    if (is_on_device_ && !ready_->done()) return false;
    try {
      const device::Scope scope(device_of_memory());  // for who looks at the memory itself
      work_ = tensor_ ? staging_->inner->all_reduce_sum(*tensor_, slot_, StreamRef::host())
                      : staging_->inner->exchange(sends_, recvs_, slot_, StreamRef::host());
      stage_ = Stage::travelling;
    } catch (...) {
      failure_ = std::current_exception();
    }
    return true;
  }

  bool poll() override {
    const std::lock_guard lock(staging_->mutex);
    staging_->post();
    const device::Scope scope(device_of_memory());
    return advance();
  }

  [[nodiscard]] std::string describe() const override {
    const std::lock_guard lock(staging_->mutex);
    if (stage_ == Stage::travelling) return work_.describe();
    if (is_on_device_ && copies_ == nullptr)
      return fmt::format("waits for the device before an exchange in slot {}", static_cast<std::uint32_t>(slot_));
    return fmt::format("copies {} the device for {} in slot {}", stage_ == Stage::copying_out ? "from" : "to",
                       tensor_ ? "an all-reduce" : "an exchange", static_cast<std::uint32_t>(slot_));
  }

 private:
  enum class Stage { copying_out, travelling, copying_in, done };
  struct CopyIn {
    Bytes to;
    const std::byte* from;
  };

  [[nodiscard]] bool advance() {
    if (failure_) std::rethrow_exception(failure_);
    if (stage_ == Stage::copying_out) return false;
    if (stage_ == Stage::travelling) {
      if (!work_.done()) return false;
      for (const auto& [to, from] : inward_) device::copy(to.data, from, to.size, copies_->inward.ref());
      if (!inward_.empty()) ready_->record(copies_->inward.ref());
      stage_ = Stage::copying_in;
    }
    if (stage_ == Stage::copying_in && (inward_.empty() || ready_->done())) stage_ = Stage::done;
    return stage_ == Stage::done;
  }

  [[nodiscard]] int device_of_memory() const noexcept { return is_on_device_ ? device_ : -1; }
  void reserve(std::size_t bytes) {
    used_ = 0;
    if (pinned_.size() < bytes) pinned_ = device::Pinned(bytes);
  }
  std::byte* take(std::size_t bytes) {
    std::byte* const place = pinned_.data() + used_;
    used_ += room_for(bytes);
    return place;
  }
  /// What is on the caller's stream comes first.
  ConstBytes copy_out(ConstBytes from) {
    std::byte* const place = take(from.size);
    const StreamRef outward = copies_->outward.ref();
    ready_->before(outward);
    device::copy(place, from.data, from.size, outward);
    return {place, from.size, Space::host};
  }
  Bytes place_for(Bytes to) {
    std::byte* const place = take(to.size);
    inward_.push_back({to, place});
    return {place, to.size, Space::host};
  }
  /// Receive buffers may be read by what is on the caller's stream, so nothing is received before it is done.
  void finish_copies() {
    if (copies_ == nullptr) return;
    const StreamRef outward = copies_->outward.ref();
    ready_->before(outward);
    ready_->record(outward);
  }

  std::shared_ptr<Staging> staging_;
  bool is_on_device_ = false;
  Copies* copies_ = nullptr;
  Slot slot_{};
  Stage stage_ = Stage::done;
  std::optional<device::Event> ready_;
  int device_ = 0;  // of ready_
  device::Pinned pinned_;
  std::size_t used_ = 0;
  std::vector<Send> sends_;
  std::vector<Recv> recvs_;
  std::optional<Tensor> tensor_;
  std::vector<CopyIn> inward_;
  Work work_;
  std::exception_ptr failure_;
};

void Staging::post() {
  const auto advance = [](Lane& lane) {
    while (!lane.empty() && lane.front()->post()) (void)lane.pop();
  };
  for (auto& [slot, lane] : exchanges) advance(lane);
  advance(sums);
}

class Staged final : public Transport {
 public:
  Staged(std::shared_ptr<Transport> inner, DevicePath path)
      : staging_(std::make_shared<Staging>(std::move(inner), path)), info_(staging_->inner->info()) {
    if (!info_.detail.empty()) info_.detail += ", ";
    info_.detail += path == DevicePath::direct ? "device messages as they are, all-reduces through pinned buffers"
                                               : "device memory through pinned buffers";
  }

  /// What was never posted goes with the last rank's handle, and does not hold what it would have gone through.
  ~Staged() override {
    const std::lock_guard lock(staging_->mutex);
    for (auto& [slot, lane] : staging_->exchanges) lane.clear();
    staging_->sums.clear();
  }

  [[nodiscard]] const TransportInfo& info() const noexcept override { return info_; }
  [[nodiscard]] bool reaches(Space) const noexcept override { return true; }

  [[nodiscard]] Work exchange(std::span<const Send> sends, std::span<const Recv> recvs, Slot slot,
                              StreamRef stream) override {
    const auto is_on_device = [](const auto& message) { return message.bytes.space == Space::device; };
    const bool is_device =
        std::any_of(sends.begin(), sends.end(), is_on_device) || std::any_of(recvs.begin(), recvs.end(), is_on_device);
    const std::lock_guard lock(staging_->mutex);
    Lane& lane = staging_->exchanges[slot];
    if (!is_device && lane.empty()) return staging_->inner->exchange(sends, recvs, slot, StreamRef::host());
    return start(lane, slot, stream, {is_device, is_device && !staging_->is_direct},
                 [&](StagedOperation& op) { op.take_exchange(sends, recvs); });
  }

  [[nodiscard]] Work all_reduce_sum(Tensor inout, Slot slot, StreamRef stream) override {
    const bool is_device = inout.space == Space::device;
    const std::lock_guard lock(staging_->mutex);
    Lane& lane = staging_->sums;
    if (!is_device && lane.empty()) return staging_->inner->all_reduce_sum(inout, slot, StreamRef::host());
    return start(lane, slot, stream, {is_device, is_device}, [&](StagedOperation& op) { op.take_sum(inout); });
  }

  void announce(std::span<const Agreement> operation, Slot slot, Deadline deadline) override {
    staging_->inner->announce(operation, slot, deadline);
  }
  void progress() override {
    {
      const std::lock_guard lock(staging_->mutex);
      staging_->post();
    }
    staging_->inner->progress();
  }
  void abort(std::string_view why) noexcept override { staging_->inner->abort(why); }

 private:
  struct Memory {
    bool is_on_device;
    bool is_copied;
  };

  /// With the lock held.
  template <class Take>
  Work start(Lane& lane, Slot slot, StreamRef stream, Memory memory, const Take& take) {
    require(!memory.is_on_device || !stream.is_host(),
            "device memory needs a stream of the device, not StreamRef::host()");
    std::shared_ptr<StagedOperation> operation = pool_.acquire();
    operation->begin(staging_, memory.is_on_device, memory.is_copied ? &staging_->copies() : nullptr, slot, stream);
    take(*operation);
    lane.push(operation);
    return Work(std::move(operation));
  }

  std::shared_ptr<Staging> staging_;
  TransportInfo info_;
  Pool<StagedOperation> pool_;
};

}  // namespace

std::shared_ptr<Transport> reach_device(std::shared_ptr<Transport> transport, DevicePath path) {
  if (!device::problem().empty()) return transport;
  return std::make_shared<Staged>(std::move(transport), path);
}

}  // namespace gradwire
