#include "collectives/device_run.hpp"

#include <algorithm>

#include "base/fail.hpp"
#include "compress/vector_ops.hpp"

namespace gradwire {

Space space_of_run(const Operation& op, std::span<const ItemBuffers> buffers, Bytes workspace, StreamRef stream) {
  Space space = workspace.data == nullptr ? Space::host : workspace.space;
  for (const ItemBuffers& each : buffers) {
    if (each.tensor.data != nullptr) space = each.tensor.space;
  }
  const auto require_there = [&](Space found, const void* data, std::string_view what) {
    require(data == nullptr || found == space, "{}: {} in {} memory beside tensors in {} memory", name(op.entry), what,
            name(found), name(space));
  };
  require_there(workspace.space, workspace.data, "workspace");
  for (const ItemBuffers& each : buffers) {
    require_there(each.tensor.space, each.tensor.data, "a tensor");
    require_there(each.residual.space, each.residual.data, "a residual");
  }
  require(stream.is_host() == (space == Space::host), "{}: tensors in {} memory, but {}", name(op.entry), name(space),
          stream.is_host() ? "the host's stream" : "a stream of a device");
  return space;
}

DeviceRun::DeviceRun(std::size_t items) : non_finite_(std::max<std::size_t>(items, 1) * sizeof(std::uint32_t)) {}

void DeviceRun::begin(Operation& op, Bytes workspace) {
  for (const BucketItem& item : op.items) {
    if (!item.compressor.traits().on_device)
      fail(Errc::unsupported, "{}: {} codes host memory only", item.name, item.compressor.spec());
  }
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
