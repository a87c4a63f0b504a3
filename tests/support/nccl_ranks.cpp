#include "support/nccl_ranks.hpp"

#include <exception>
#include <functional>
#include <optional>
#include <thread>

#include "base/cuda.hpp"

namespace gradwire::test {
namespace {

std::vector<Communicator> in_threads(int ranks, const std::function<Communicator(int)>& make) {
  std::vector<std::optional<Communicator>> made(static_cast<std::size_t>(ranks));
  std::vector<std::exception_ptr> errors(made.size());
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&, rank] {
        try {
          made[static_cast<std::size_t>(rank)] = make(rank);
        } catch (...) {
          errors[static_cast<std::size_t>(rank)] = std::current_exception();
        }
      });
    }
  }
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  std::vector<Communicator> all;
  for (auto& one : made) all.push_back(*one);
  return all;
}

NcclOptions of_rank(NcclOptions options, int rank) {
  options.device = nccl_device(rank);
  return options;
}

}  // namespace

std::vector<Communicator> make_nccl_ranks(int ranks, const NcclOptions& options, int ranks_per_node) {
  const std::vector<Communicator> hosts = make_local(ranks, ranks_per_node);
  return in_threads(ranks,
                    [&](int rank) { return make_nccl(hosts[static_cast<std::size_t>(rank)], of_rank(options, rank)); });
}

std::vector<Communicator> make_nccl_tcp_ranks(int ranks, const NcclOptions& options) {
  const NcclUniqueId id = nccl_unique_id();
  return in_threads(ranks, [&](int rank) { return make_nccl(id, rank, ranks, of_rank(options, rank)); });
}

int nccl_device(int rank) {
  int devices = 0;
  return cudaGetDeviceCount(&devices) == cudaSuccess && rank < devices ? rank : 0;
}

int most_nccl_ranks() {
  int devices = 0;
  return cudaGetDeviceCount(&devices) == cudaSuccess ? devices : 0;
}

}  // namespace gradwire::test
