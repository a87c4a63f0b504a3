#include "devices.hpp"

#include <algorithm>

#include "fail.hpp"
#include "learner.hpp"

#if GRADWIRE_HAVE_NCCL
#include "gradwire/nccl.hpp"
#endif

namespace demo {
namespace {

gradwire::Communicator join_by_nccl(const gradwire::Communicator& comm) {
#if GRADWIRE_HAVE_NCCL
  return gradwire::make_nccl(comm);
#else
  require(false, "--nccl: this gradwire was built without NCCL");
  return comm;
#endif
}

}  // namespace

gradwire::Communicator take_devices(const gradwire::Communicator& comm, const Options& options) {
  if (options.place == Place::host) return comm;
  const int devices = cuda_devices();
  require(devices > 0, "--device cuda: libtorch finds no CUDA device, or is built without CUDA");
  const std::vector<int>& nodes = comm.transport().info().nodes;
  const auto me = nodes.begin() + comm.rank();
  const auto before = static_cast<int>(std::count(nodes.begin(), me, *me));  // ranks of this node
  const auto all = static_cast<int>(std::count(nodes.begin(), nodes.end(), *me));
  require(!options.nccl || all <= devices, "--nccl: {} ranks of a node need a device each, it has {}", all, devices);
  use_cuda_device(before % devices);
  return options.nccl ? join_by_nccl(comm) : comm;
}

}  // namespace demo
