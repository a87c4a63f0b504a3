#include "gradwire/mpi.hpp"

#include <algorithm>
#include <climits>
#include <cstdlib>

#include "base/env.hpp"
#include "base/fail.hpp"
#include "transport/mpi_device.hpp"
#include "transport/mpi_device_path.hpp"
#include "transport/mpi_endpoint.hpp"
#include "transport/mpi_half.hpp"
#include "transport/mpi_session.hpp"
#include "transport/nodes.hpp"
#include "transport/pool.hpp"

namespace gradwire {
namespace {

/// A slot is an MPI tag. All-reduces are matched by call order instead, as MPI matches collectives: ranks start them in
/// the same order over the whole communicator, whatever their slots, which every user of all_reduce_sum in gradwire
/// does.
class MpiTransport final : public Transport {
 public:
  /// `path`: whether messages may be in device memory.
  MpiTransport(std::shared_ptr<MpiEndpoint> endpoint, TransportInfo info, DevicePath path)
      : endpoint_(std::move(endpoint)), info_(std::move(info)), path_(path) {}
  ~MpiTransport() override { endpoint_->close(); }

  [[nodiscard]] const TransportInfo& info() const noexcept override { return info_; }
  [[nodiscard]] bool reaches(Space space) const noexcept override { return space == Space::host; }

  [[nodiscard]] Work exchange(std::span<const Send> sends, std::span<const Recv> recvs, Slot slot,
                              StreamRef stream) override {
    check_place(slot, stream);
    for (const Send& send : sends) check_message(send.to, send.bytes.space);
    for (const Recv& recv : recvs) check_message(recv.from, recv.bytes.space);
    return start(MpiOperation::Kind::exchange, slot, [&](MpiOperation& op) { op.post_exchange(sends, recvs); });
  }

  [[nodiscard]] Work all_reduce_sum(Tensor inout, Slot slot, StreamRef stream) override {
    check_place(slot, stream);
    if (inout.space != Space::host) fail(Errc::unsupported, "the mpi transport adds up host memory only");
    return start(MpiOperation::Kind::all_reduce, slot,
                 [&](MpiOperation& op) { op.post_all_reduce(inout, sums_.type(inout.dtype), sums_.op(inout.dtype)); });
  }

  void progress() override { endpoint_->progress(); }
  void abort(std::string_view why) noexcept override { endpoint_->abort(why); }

 private:
  template <class Post>
  Work start(MpiOperation::Kind kind, Slot slot, Post&& post) {
    std::shared_ptr<MpiOperation> operation = pool_.acquire();
    const std::lock_guard lock(endpoint_->mutex());
    operation->begin(endpoint_, kind, slot);
    post(*operation);
    if (operation->active()) endpoint_->track(operation);
    return Work(std::move(operation));
  }

  void check_message(int peer, Space space) const {
    require(peer >= 0 && peer < info_.size && peer != info_.rank,
            "rank {} cannot exchange with rank {}: expected another rank from 0 to {}", info_.rank, peer,
            info_.size - 1);
    if (space != Space::host && path_ == DevicePath::staged)
      fail(Errc::unsupported, "the mpi transport reaches host memory, not {} memory", name(space));
  }
  static void check_place(Slot slot, StreamRef stream) {
    require(slot <= kOrderSlot && slot != kAbortSlot, "slot {}: expected at most {}", static_cast<std::uint32_t>(slot),
            kMaxSlot);
    if (!stream.is_host()) fail(Errc::unsupported, "the mpi transport runs on the host, not on a device stream");
  }

  std::shared_ptr<MpiEndpoint> endpoint_;
  TransportInfo info_;
  DevicePath path_;
  MpiSums sums_;
  Pool<MpiOperation> pool_;
};

/// "Open MPI v4.1.4, MPI 3.1, MPI_THREAD_MULTIPLE": the first words of a version text that may run over many lines.
std::string describe_library(bool any_thread) {
  std::string text(MPI_MAX_LIBRARY_VERSION_STRING, '\0');
  int length = 0;
  int version = 0;
  int subversion = 0;
  mpi_check(MPI_Get_library_version(text.data(), &length), "MPI_Get_library_version");
  mpi_check(MPI_Get_version(&version, &subversion), "MPI_Get_version");
  text.resize(static_cast<std::size_t>(length));
  text.resize(std::min(text.find_first_of(",\n"), text.size()));
  std::replace(text.begin(), text.end(), '\t', ' ');
  return fmt::format("{}, MPI {}.{}, {}", text, version, subversion,
                     any_thread ? "MPI_THREAD_MULTIPLE" : "caller's thread only");
}

bool is_set(const char* variable) noexcept { return std::getenv(variable) != nullptr; }

std::vector<int> find_nodes(const MpiEndpoint& endpoint) {
  std::vector<int> found = mpi_nodes(endpoint.comm());  // collective: also where it is overruled
  const int ranks_per_node = environment().ranks_per_node;
  return ranks_per_node > 0 ? consecutive_nodes(endpoint.size(), ranks_per_node) : found;
}

/// Ranks may differ in their ways, but all have one. Collective.
DevicePath agree_on_device_path(MPI_Comm comm) {
  const MpiDevice wanted = environment().mpi_device;
  const bool takes_device = mpi_takes_device_memory();
  const int refuses = wanted == MpiDevice::direct && !takes_device ? 1 : 0;
  int any = 0;
  mpi_check(MPI_Allreduce(&refuses, &any, 1, MPI_INT, MPI_MAX, comm), "MPI_Allreduce");
  if (any != 0 && refuses == 0)
    fail(Errc::unsupported, "another rank has GRADWIRE_MPI_DEVICE=direct, and an MPI that does not say that it can");
  return device_path(wanted, takes_device);
}

}  // namespace

Communicator make_mpi(const MpiOptions& options) {
  require(options.max_count >= 1 && options.max_count <= INT_MAX, "MpiOptions::max_count={}: expected 1 to {}",
          options.max_count, INT_MAX);
  (void)environment();  // a variable that cannot be read is an error before MPI is started, not halfway
  const int level = mpi_initialise(options.threads);
  const bool any_thread = options.threads == MpiThreads::library && level == MPI_THREAD_MULTIPLE;
  const MPI_Comm parent = options.comm == nullptr ? MPI_COMM_WORLD : *static_cast<const MPI_Comm*>(options.comm);
  require(parent != MPI_COMM_NULL, "make_mpi: the communicator is MPI_COMM_NULL");
  int is_inter = 0;
  mpi_check(MPI_Comm_test_inter(parent, &is_inter), "MPI_Comm_test_inter");
  require(is_inter == 0, "make_mpi: expected an intracommunicator, got an intercommunicator");

  const auto endpoint = std::make_shared<MpiEndpoint>(mpi_duplicate(parent), options.max_count);
  const DevicePath path = agree_on_device_path(endpoint->comm());
  TransportInfo info{.name = "mpi",
                     .rank = endpoint->rank(),
                     .size = endpoint->size(),
                     .any_thread = any_thread,
                     .detail = describe_library(any_thread),
                     .nodes = find_nodes(*endpoint)};
  const Communicator comm(reach_device(std::make_shared<MpiTransport>(endpoint, std::move(info), path), path));
  return environment().check ? make_checked(comm) : comm;
}

/// Open MPI; PMI-1 and -2 (MPICH, Intel MPI, srun); PMIx; and a Slurm step of several tasks whose MPI finds its peers
/// by other means. A lone task of a Slurm batch script was not started by a launcher, though it has SLURM_PROCID.
bool launched_by_mpi() noexcept {
  if (is_set("OMPI_COMM_WORLD_SIZE") || (is_set("PMI_RANK") && is_set("PMI_SIZE")) || is_set("PMIX_RANK")) return true;
  const char* const tasks = std::getenv("SLURM_STEP_NUM_TASKS");
  return is_set("SLURM_PROCID") && is_set("SLURM_STEP_ID") && tasks != nullptr && std::atoi(tasks) > 1;
}

}  // namespace gradwire
