#include "train/planning/side_sum.hpp"

#include <vector>

namespace gradwire {

SideSum::SideSum(const Communicator& comm, std::size_t count, std::string name, Slot slot, const HookOptions& options)
    : count_(count), values_(count * sizeof(float)) {
  if (count == 0) return;
  AllreduceOptions reduce;
  reduce.algorithm = "dense";
  reduce.seed = options.seed;
  reduce.timeout = options.timeout;
  std::vector<BucketItem> items;
  items.push_back({ParamId{}, count, DType::f32, make_compressor("none"), std::move(name), {}});
  operation_.emplace(comm, std::move(items), slot, reduce);
  workspace_ = Buffer(operation_->workspace_bytes());
}

SideSum::~SideSum() {
  if (!work_) return;
  values_.abandon();
  workspace_.abandon();
}

std::span<float> SideSum::values() noexcept { return {reinterpret_cast<float*>(values_.data()), count_}; }

void SideSum::start(std::uint64_t step, StreamRef stream) {
  const ItemBuffers buffers{{values_.data(), count_}, {}};
  Work work = operation_->start({&buffers, 1}, workspace_.bytes(), step, stream);
  const std::lock_guard lock(mutex_);
  work_ = std::move(work);
}

bool SideSum::advance() {
  if (!work_ || !work_->done()) return false;
  wire_bytes_ += operation_->stats().wire_bytes;
  const std::lock_guard lock(mutex_);
  work_.reset();
  has_result_ = true;
  return true;
}

std::string SideSum::describe() const {
  const std::lock_guard lock(mutex_);
  return work_ ? work_->describe() : std::string();
}

}  // namespace gradwire
