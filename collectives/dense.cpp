// The backend's own all-reduce, over one staging buffer per dtype where the bucket has several tensors. No lossy step.
// A non-finite input shows in every rank's result, so all ranks then agree, in one small exchange, on who brought it.
//   0  stage, all-reduce
//   1  hand the sums out; if any is not finite, exchange verdicts
//   2  adopt the verdict of the lowest rank that has one

#include <array>
#include <cstring>
#include <limits>
#include <vector>

#include "collectives/algorithm.hpp"
#include "compress/frame.hpp"
#include "compress/vector_ops.hpp"

namespace gradwire {
namespace {

constexpr std::array kDTypes{DType::f32, DType::f16, DType::bf16};

/// What ranks exchange when a sum is not finite.
struct Testimony {
  std::uint32_t code = 0;
  std::uint32_t param = 0;
};

class Dense final : public Algorithm {
 public:
  explicit Dense(Operation& op) : Algorithm(op) {
    for (const DType dtype : kDTypes) {
      Group group{.dtype = dtype, .first_byte = staging_bytes_};
      for (std::size_t i = 0; i < op.items.size(); ++i) {
        if (op.items[i].dtype != dtype || op.items[i].count == 0) continue;
        group.items.push_back(i);
        group.elems += op.items[i].count;
      }
      if (group.items.empty()) continue;
      if (group.items.size() > 1) staging_bytes_ += frame::align_up(group.elems * size_of(dtype));
      group.testimonies.resize(static_cast<std::size_t>(op.size()));
      groups_.push_back(std::move(group));
    }
  }

  // Groups are reduced one after the other: each is a segment.
  [[nodiscard]] int stages() const noexcept override { return 3; }
  [[nodiscard]] int segments() const noexcept override { return std::max(static_cast<int>(groups_.size()), 1); }
  [[nodiscard]] std::size_t workspace_bytes() const noexcept override { return staging_bytes_; }

  [[nodiscard]] Work run_stage(int stage, int segment) override {
    if (groups_.empty()) return {};
    Group& group = groups_[static_cast<std::size_t>(segment)];
    if (stage == 0) return reduce(group);
    if (stage == 1) return hand_out(group);
    if (!group.finite) adopt_verdict(group);
    return {};
  }

 private:
  struct Group {
    DType dtype;
    std::size_t first_byte = 0;  // of its staging
    std::size_t elems = 0;
    std::vector<std::size_t> items{};
    bool finite = true;                    // the sum, in this run
    std::vector<Testimony> testimonies{};  // by rank, where it is not
  };

  [[nodiscard]] Tensor whole(const Group& group) const {
    if (group.items.size() == 1) return op_.buffers[group.items.front()].tensor;
    return {workspace_.data + group.first_byte, group.elems, group.dtype, workspace_.space};
  }

  Work reduce(const Group& group) {
    const Tensor all = whole(group);
    {
      const Stopwatch watch(op_.stats.encode_us);
      std::size_t first = 0;
      for (const std::size_t i : group.items) {
        const Tensor& tensor = op_.buffers[i].tensor;
        if (group.items.size() > 1) std::memcpy(all.slice(first, tensor.count).data, tensor.data, tensor.bytes());
        if (!ops::all_finite(tensor)) op_.refuse({Errc::non_finite, op_.rank(), op_.items[i].param});
        first += tensor.count;
        if (const Tensor& residual = op_.buffers[i].residual; residual.data != nullptr) {
          std::memset(residual.data, 0, residual.bytes());
        }
      }
      if (op_.verdict) poison(all);
    }
    const auto n = static_cast<std::uint64_t>(op_.size());
    op_.stats.wire_bytes += 2 * (n - 1) * all.bytes() / n;
    return op_.comm.transport().all_reduce_sum(all, op_.slot, op_.stream);
  }

  /// A NaN survives any sum, so every rank will see that this one refuses.
  static void poison(const Tensor& tensor) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    ops::convert(ConstTensor(&nan, 1), tensor.slice(0, 1));
  }

  Work hand_out(Group& group) {
    const Tensor all = whole(group);
    {
      const Stopwatch watch(op_.stats.decode_us);
      group.finite = ops::all_finite(all);
      std::size_t first = 0;
      for (const std::size_t i : group.items) {
        const Tensor& tensor = op_.buffers[i].tensor;
        if (group.items.size() > 1) std::memcpy(tensor.data, all.slice(first, tensor.count).data, tensor.bytes());
        first += tensor.count;
      }
    }
    return group.finite ? Work{} : testify(group);
  }

  Work testify(Group& group) {
    Testimony& mine = group.testimonies[static_cast<std::size_t>(op_.rank())];
    mine = {};
    if (op_.verdict) {
      mine = {static_cast<std::uint32_t>(op_.verdict->code), static_cast<std::uint32_t>(op_.verdict->param)};
    }
    std::vector<Send> sends;  // the failing path may allocate
    std::vector<Recv> recvs;
    for (int peer = 0; peer < op_.size(); ++peer) {
      if (peer == op_.rank()) continue;
      auto* theirs = reinterpret_cast<std::byte*>(&group.testimonies[static_cast<std::size_t>(peer)]);
      sends.push_back({{reinterpret_cast<const std::byte*>(&mine), sizeof mine}, peer});
      recvs.push_back({{theirs, sizeof mine}, peer});
    }
    return op_.exchange(sends, recvs);
  }

  void adopt_verdict(const Group& group) {
    op_.verdict.reset();
    for (std::size_t rank = 0; rank < group.testimonies.size(); ++rank) {
      const Testimony& said = group.testimonies[rank];
      if (said.code != 0) op_.refuse({static_cast<Errc>(said.code), static_cast<int>(rank), ParamId{said.param}});
    }
    // Finite inputs whose sum overflows: nobody's gradient alone is to blame.
    op_.refuse({Errc::non_finite, kNobody, op_.items[group.items.front()].param});
  }

  std::vector<Group> groups_;
  std::size_t staging_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Algorithm> make_dense(Operation& op) { return std::make_unique<Dense>(op); }

}  // namespace gradwire
