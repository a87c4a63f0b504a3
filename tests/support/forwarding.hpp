#pragma once
#include "gradwire/transport.hpp"

namespace gradwire::test {

/// Passes everything on: the base of transports that disturb one thing.
class Forwarding : public Transport {
 public:
  explicit Forwarding(Communicator inner) : inner_(std::move(inner)) {}
  [[nodiscard]] const TransportInfo& info() const noexcept override { return inner_.transport().info(); }
  [[nodiscard]] bool reaches(Space space) const noexcept override { return inner_.transport().reaches(space); }
  [[nodiscard]] Work exchange(std::span<const Send> sends, std::span<const Recv> recvs, Slot slot,
                              StreamRef stream) override {
    return inner_.transport().exchange(sends, recvs, slot, stream);
  }
  [[nodiscard]] Work all_reduce_sum(Tensor inout, Slot slot, StreamRef stream) override {
    return inner_.transport().all_reduce_sum(inout, slot, stream);
  }
  void announce(std::span<const Agreement> operation, Slot slot, Deadline deadline) override {
    inner_.transport().announce(operation, slot, deadline);
  }
  void progress() override { inner_.transport().progress(); }
  void abort(std::string_view why) noexcept override { inner_.transport().abort(why); }

 private:
  Communicator inner_;
};

}  // namespace gradwire::test
