// The backend's own all-reduce, over one staging buffer per dtype where the bucket has several tensors or this rank
// refuses. No lossy step.
//   0  stage, all-reduce
//   1  hand the sums out
// A rank that refuses or holds NaN or Inf puts a NaN in: no rank's sum is finite then, so all of them end with a
// verdict.

#include <array>
#include <limits>
#include <vector>

#include "collectives/algorithm.hpp"
#include "collectives/message.hpp"
#include "compress/frame.hpp"
#include "compress/vector_ops.hpp"

namespace gradwire {
namespace {

constexpr std::array kDTypes{DType::f32, DType::f16, DType::bf16};
// Each dtype's group is a segment. Backends match all-reduces by the order in which they are posted, which must be the
// order of starts: so all groups have to be posted inside start(), before the schedule waits for any of them.
static_assert(kDTypes.size() <= kPipelineDepth);

class Dense final : public Algorithm {
 public:
  explicit Dense(Operation& op) : Algorithm(op) {
    for (const DType dtype : kDTypes) {
      Group group{.dtype = dtype, .first_byte = staging_bytes_};
      for (std::size_t i = 0; i < op.items.size(); ++i) {
        if (op.items[i].dtype != dtype || op.items[i].count == 0) continue;
        group.items.push_back(i);
        group.firsts.push_back(group.elems);
        group.elems += op.items[i].count;
      }
      if (group.items.empty()) continue;
      staging_bytes_ += frame::align_up(group.elems * size_of(dtype));
      groups_.push_back(std::move(group));
    }
  }

  [[nodiscard]] int stages() const noexcept override { return 2; }
  [[nodiscard]] int segments() const noexcept override { return std::max(static_cast<int>(groups_.size()), 1); }
  [[nodiscard]] std::size_t workspace_bytes() const noexcept override { return staging_bytes_; }

  [[nodiscard]] Work run_stage(int stage, int segment) override {
    if (groups_.empty()) return {};
    Group& group = groups_[static_cast<std::size_t>(segment)];
    if (stage == 0) return reduce(group);
    hand_out(group);
    return {};
  }

 private:
  struct Group {
    DType dtype;
    std::size_t first_byte = 0;  // of its staging
    std::size_t elems = 0;
    std::vector<std::size_t> items{};
    std::vector<std::size_t> firsts{};  // element of each in the staging
    bool staged = false;                // in this run
  };

  [[nodiscard]] Tensor whole(const Group& group) const {
    if (!group.staged) return op_.buffers[group.items.front()].tensor;
    return {workspace_.data + group.first_byte, group.elems, group.dtype, workspace_.space};
  }

  [[nodiscard]] Tensor part(const Group& group, std::size_t k) const {
    const Tensor& tensor = op_.buffers[group.items[k]].tensor;
    return group.staged ? whole(group).slice(group.firsts[k], op_.items[group.items[k]].count) : tensor;
  }

  Work reduce(Group& group) {
    group.staged = group.items.size() > 1 || op_.verdict.has_value();
    const Tensor all = whole(group);
    {
      const Stopwatch watch(op_.stats.encode_us);
      if (op_.on_device()) {
        stage_on_device(group);
      } else {
        stage(group);
        if (op_.verdict) poison(all);  // ranks of devices tell each other at the end
      }
    }
    const auto n = static_cast<std::uint64_t>(op_.size());
    op_.stats.wire_bytes += 2 * (n - 1) * all.bytes() / n;
    return op_.comm.transport().all_reduce_sum(all, op_.slot, op_.stream);
  }

  void stage(const Group& group) {
    for (std::size_t k = 0; k < group.items.size(); ++k) {
      const auto& [tensor, residual] = op_.buffers[group.items[k]];
      if (tensor.data == nullptr) {  // refused
        ops::zero(part(group, k), op_.stream);
      } else if (group.staged) {
        ops::copy(tensor, part(group, k), op_.stream);
      }
      if (!op_.pass_non_finite) check_finite(op_, part(group, k), group.items[k], op_.rank());
      if (residual.data != nullptr) ops::zero(residual, op_.stream);
    }
  }

  /// The same, all items together.
  void stage_on_device(const Group& group) {
    const std::size_t items = group.items.size();
    const auto staged = [&](std::size_t k) {
      return ops::CopyJob{op_.buffers[group.items[k]].tensor.data, part(group, k)};
    };
    const auto looked_at = [&](std::size_t k) { return ops::FindNonFinite{part(group, k), op_.flag(group.items[k])}; };
    const auto cleared = [&](std::size_t k) { return ops::CopyJob{nullptr, op_.buffers[group.items[k]].residual}; };
    if (group.staged) ops::copy_all(JobList<ops::CopyJob>(items, staged), op_.stream);
    if (!op_.pass_non_finite) ops::find_non_finite(JobList<ops::FindNonFinite>(items, looked_at), op_.stream);
    ops::copy_all(JobList<ops::CopyJob>(items, cleared), op_.stream);
  }

  /// A NaN survives any sum, so every rank will see that this one refuses.
  static void poison(const Tensor& tensor) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    ops::convert(ConstTensor(&nan, 1), tensor.slice(0, 1));
  }

  void hand_out(const Group& group) {
    const Stopwatch watch(op_.stats.decode_us);
    const Tensor all = whole(group);
    if (!op_.pass_non_finite) check_finite(op_, all, group.items.front(), kNobody);
    if (!group.staged) return;
    if (op_.on_device()) {
      const auto handed = [&](std::size_t k) {
        const Tensor& tensor = op_.buffers[group.items[k]].tensor;
        return ops::CopyJob{part(group, k).data, tensor.data == nullptr ? Tensor{} : tensor};
      };
      return ops::copy_all(JobList<ops::CopyJob>(group.items.size(), handed), op_.stream);
    }
    for (std::size_t k = 0; k < group.items.size(); ++k) {
      const Tensor& tensor = op_.buffers[group.items[k]].tensor;
      if (tensor.data != nullptr) ops::copy(part(group, k), tensor, op_.stream);
    }
  }

  std::vector<Group> groups_;
  std::size_t staging_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Algorithm> make_dense(Operation& op) { return std::make_unique<Dense>(op); }

}  // namespace gradwire
