#pragma once
#include <nccl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/device.hpp"

#include "gradwire/buffer.hpp"
#include "gradwire/error.hpp"
#include "gradwire/transport.hpp"

namespace gradwire {

class NcclEndpoint;

/// What a device message says of itself on the host channel, where that is asked for.
struct NcclEnvelope {
  std::uint32_t all_reduce;
  std::uint32_t slot;
  std::uint64_t bytes;
  std::uint32_t dtype;
  std::uint32_t unused = 0;
  friend bool operator==(const NcclEnvelope&, const NcclEnvelope&) = default;
};

/// An exchange with messages in device memory, or a dense all-reduce of it. Host messages of the same exchange are on
/// their way when it is begun. Messages to other nodes may be *staged*: copied to pinned memory, exchanged on the host
/// channel, and copied to the device again. Reused through the transport's pool; the endpoint's mutex guards
/// everything.
class NcclOperation final : public Completion {
 public:
  enum class Kind { exchange, all_reduce };

  NcclOperation() = default;
  ~NcclOperation() override;
  bool poll() override;
  /// Waits on the host until the operation has been handed to the device, for GRADWIRE_TIMEOUT_MS at most: it takes
  /// time at the first use of a connection, and where the device has as many operations as it may have; with messages
  /// in host memory or staged ones, until those have arrived.
  void before(StreamRef stream) override;
  [[nodiscard]] std::string describe() const override;

  // The rest is for the transport and the endpoint: the caller holds the endpoint's mutex.

  /// Makes a fresh or reused operation active. The memory is ready at this point of `stream`.
  void begin(std::shared_ptr<NcclEndpoint> endpoint, Kind kind, Slot slot, StreamRef stream);
  void set_exchange(std::span<const Send> sends, std::span<const Recv> recvs);
  void set_all_reduce(Tensor inout);
  /// Hands everything to the transport's stream. True once NCCL has taken it; false means that it is still at it.
  bool launch();
  /// NCCL has taken it: from now on events tell.
  void launched();
  /// What has been copied out may go on the host channel, which takes operations in the order of their calls.
  /// False while that is not yet so; true also where nothing is staged.
  bool post_staged();
  /// Moves a launched operation; true once it has ended. Throws what makes it fail.
  bool advance();
  void fail_with(const Error& error) noexcept;
  [[nodiscard]] bool active() const noexcept { return stage_ != Stage::ended && stage_ != Stage::failed; }

 private:
  enum class Stage { ended, queued, running, copying, failed };
  struct Message {
    std::byte* data;
    std::size_t size;
    int peer;
    int nccl_rank;  // -1: staged
    std::size_t pinned_offset = 0;
  };

  void add(std::vector<Message>& messages, std::byte* data, std::size_t size, int peer);
  void post_envelopes();
  void compare_envelopes();
  void copy_out();
  void abandon_pinned() noexcept;
  void copy_back();
  bool launch_group();
  bool launch_all_reduce();
  bool launch_pairs();
  [[nodiscard]] std::string peers() const;

  std::shared_ptr<NcclEndpoint> endpoint_;  // the same in every use
  Kind kind_ = Kind::exchange;
  Slot slot_{};
  Stage stage_ = Stage::ended;
  bool has_ready_ = false;  // waits for a point of the caller's stream
  bool staged_ = false;
  bool posted_ = false;
  bool in_scratch_ = false;  // the sum has to be copied back
  std::optional<Error> failure_;
  std::vector<Message> sends_;
  std::vector<Message> recvs_;
  Tensor tensor_{};
  device::Event ready_;
  device::Event device_done_;  // of what NCCL does, or of copying out
  device::Event copied_;       // of copying staged messages back
  device::Pinned pinned_;
  Work host_work_;    // of messages in host memory
  Work staged_work_;  // of messages in pinned memory
  Work envelope_work_;
  bool envelopes_open_ = false;
  std::vector<NcclEnvelope> sent_envelopes_;
  std::vector<NcclEnvelope> expected_envelopes_;
  std::vector<NcclEnvelope> found_envelopes_;
  std::vector<Send> host_sends_;
  std::vector<Recv> host_recvs_;
};

}  // namespace gradwire
