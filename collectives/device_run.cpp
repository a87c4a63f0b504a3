#include "collectives/device_run.hpp"

#include <algorithm>

#include "base/fail.hpp"
#include "compress/vector_ops.hpp"

namespace gradwire {

void require_space(const Operation& op, std::span<const ItemBuffers> buffers, Bytes workspace, StreamRef stream) {
  const auto require_there = [&](Space found, const void* data, std::string_view what) {
    require(data == nullptr || found == op.space, "{}: {} in {} memory, the operation was made for {} memory",
            name(op.entry), what, name(found), name(op.space));
  };
  require_there(workspace.space, workspace.data, "workspace");
  for (const ItemBuffers& each : buffers) {
    require_there(each.tensor.space, each.tensor.data, "a tensor");
    require_there(each.residual.space, each.residual.data, "a residual");
    for (const Tensor& tensor : {each.tensor, each.residual}) {
      require(!op.on_device() || reinterpret_cast<std::uintptr_t>(tensor.data) % size_of(tensor.dtype) == 0,
              "{}: memory at {}, which is no multiple of its elements' {} bytes", name(op.entry), tensor.data,
              size_of(tensor.dtype));
    }
  }
  require(stream.is_host() != op.on_device(), "{}: made for {} memory, given {}", name(op.entry), name(op.space),
          stream.is_host() ? "the host's stream" : "a stream of a device");
}

DeviceRun::DeviceRun(std::size_t items)
    : device_(device::current()), non_finite_(std::max<std::size_t>(items, 1) * sizeof(std::uint32_t)) {}

StreamRef DeviceRun::stream_behind(StreamRef given) {
  if (!device::is_default(given)) return given;
  if (!own_) own_.emplace();
  end_.record(given);
  end_.before(own_->ref());
  return own_->ref();
}

void DeviceRun::begin(Operation& op, Bytes workspace) {
  if (workspace.data != workspace_) ops::zero({workspace.data, workspace.size, DType::u8, Space::device}, op.stream);
  workspace_ = workspace.data;
  is_marked_ = false;
  op.non_finite = reinterpret_cast<std::uint32_t*>(non_finite_.data());
  std::fill_n(op.non_finite, op.items.size(), 0u);
}

bool DeviceRun::done(Operation& op) {
  if (!is_marked_) end_.record(op.stream);
  is_marked_ = true;
  if (!end_.done()) return false;
  for (std::size_t i = 0; i < op.items.size(); ++i) {
    if (op.non_finite[i] != 0) op.refuse({Errc::non_finite, kSomebody, op.items[i].param});
  }
  return true;
}

}  // namespace gradwire
