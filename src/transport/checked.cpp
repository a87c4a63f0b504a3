#include "base/fail.hpp"

#include "gradwire/transport.hpp"

namespace gradwire {
namespace {

/// Forwards everything and compares announced operations across ranks.
class Checked final : public Transport {
 public:
  explicit Checked(const Communicator& inner) : inner_(inner), info_(inner.transport().info()) {
    info_.detail += info_.detail.empty() ? "checked" : ", checked";
  }

  [[nodiscard]] const TransportInfo& info() const noexcept override { return info_; }
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
    inner_.agree(operation, deadline, slot);  // it comes before the operation's own messages, which match in order
  }
  void progress() override { inner_.transport().progress(); }
  void abort(std::string_view why) noexcept override { inner_.transport().abort(why); }

 private:
  Communicator inner_;
  TransportInfo info_;
};

}  // namespace

Communicator make_checked(const Communicator& inner) { return Communicator(std::make_shared<Checked>(inner)); }

}  // namespace gradwire
