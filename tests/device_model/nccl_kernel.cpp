// What the model's kernels do: they meet their peers' kernels, in the order in which each rank's have started.
#include <algorithm>
#include <cstring>

#include "base/half.hpp"
#include "device_model/nccl_comm.hpp"
#include "device_model/stream.hpp"

namespace nccl_model {
namespace {

using device_model::devices;
using gradwire::DType;

constexpr unsigned kAllDevices = ~0u;  // NCCL has opened peers' memory

void match(Clique& clique, int from, int to) {
  auto& sends = clique.sends[{from, to}];
  auto& recvs = clique.recvs[{from, to}];
  while (!sends.empty() && !recvs.empty() && sends.front()->bytes == recvs.front()->bytes) {
    devices().arena.reach(devices().arena.bit_of(sends.front()->from) | devices().arena.bit_of(recvs.front()->to));
    std::memcpy(recvs.front()->to, sends.front()->from, sends.front()->bytes);
    sends.front()->is_done = recvs.front()->is_done = true;
    sends.pop_front();
    recvs.pop_front();
  }
}

template <class T>
T load(const std::byte* data, std::size_t i) {
  T value;
  std::memcpy(&value, data + i * sizeof(T), sizeof(T));
  return value;
}

template <class T>
void sum_integers(const std::vector<Term>& terms, std::vector<std::byte>& sums) {
  for (std::size_t i = 0; i < terms[0].count; ++i) {
    T sum = 0;
    for (const Term& term : terms) sum = static_cast<T>(sum + load<T>(term.from, i));
    std::memcpy(sums.data() + i * sizeof(T), &sum, sizeof sum);
  }
}

/// Rounded after each addition, as a ring does with 16-bit floats.
void sum_floats(const std::vector<Term>& terms, std::vector<std::byte>& sums, DType dtype) {
  for (std::size_t i = 0; i < terms[0].count; ++i) {
    gradwire::store_f32(sums.data(), dtype, i, 0);
    for (const Term& term : terms) {
      const float sum = gradwire::load_f32(sums.data(), dtype, i) + gradwire::load_f32(term.from, dtype, i);
      gradwire::store_f32(sums.data(), dtype, i, sum);
    }
  }
}

void reduce(Reduction& reduction) {
  const Term& first = reduction.terms[0];
  const auto differs = [&](const Term& term) { return term.count != first.count || term.type != first.type; };
  if (std::any_of(reduction.terms.begin(), reduction.terms.end(), differs)) return;  // stuck
  devices().arena.reach(kAllDevices);
  std::vector<std::byte> sums(first.count * bytes_of(first.type));
  switch (first.type) {
    case ncclUint8: sum_integers<std::uint8_t>(reduction.terms, sums); break;
    case ncclUint32: sum_integers<std::uint32_t>(reduction.terms, sums); break;
    case ncclFloat16: sum_floats(reduction.terms, sums, DType::f16); break;
    case ncclBfloat16: sum_floats(reduction.terms, sums, DType::bf16); break;
    case ncclFloat32: sum_floats(reduction.terms, sums, DType::f32); break;
  }
  for (const Term& term : reduction.terms) std::memcpy(term.to, sums.data(), sums.size());
  reduction.is_done = true;
}

}  // namespace

std::size_t bytes_of(ncclDataType_t type) {
  switch (type) {
    case ncclUint8: return 1;
    case ncclFloat16:
    case ncclBfloat16: return 2;
    default: return 4;
  }
}

void Kernel::ask_for_connections() const {
  Clique& clique = *comm->clique;
  if (is_reduction) clique.wants_collectives.insert(comm->rank);
  for (const auto& message : messages) clique.wants.insert({comm->rank, message->peer});
}

bool Kernel::is_connected() const {
  const Clique& clique = *comm->clique;
  if (is_reduction && clique.wants_collectives.size() < static_cast<std::size_t>(clique.ranks)) return false;
  return std::all_of(messages.begin(), messages.end(), [&](const auto& message) {
    return clique.wants.contains({message->peer, comm->rank});
  });
}

bool Kernel::run() {
  Clique& clique = *comm->clique;
  if (comm->is_aborted) {
    withdraw();
    return true;
  }
  const int rank = comm->rank;
  if (!std::exchange(has_started, true)) {
    for (const auto& message : messages) {
      auto& queues = message->is_send ? clique.sends : clique.recvs;
      const std::pair<int, int> pair =
          message->is_send ? std::pair(rank, message->peer) : std::pair(message->peer, rank);
      queues[pair].push_back(message);
      match(clique, pair.first, pair.second);
    }
    if (is_reduction) {
      clique.started.resize(static_cast<std::size_t>(clique.ranks));
      const std::size_t index = clique.started[static_cast<std::size_t>(rank)]++;
      if (index == clique.reductions.size()) {
        clique.reductions.push_back(std::make_shared<Reduction>());
        clique.reductions.back()->terms.resize(static_cast<std::size_t>(clique.ranks));
      }
      reduction = clique.reductions[index];
      reduction->terms[static_cast<std::size_t>(rank)] = term;
      if (++reduction->joined == reduction->terms.size()) reduce(*reduction);
    }
  }
  if (is_reduction) return reduction->is_done;
  return std::all_of(messages.begin(), messages.end(), [](const auto& message) { return message->is_done; });
}

/// The memory may be gone: nobody may reach it any more.
void Kernel::withdraw() const {
  Clique& clique = *comm->clique;
  for (auto* queues : {&clique.sends, &clique.recvs}) {
    for (auto& [pair, queue] : *queues) {
      std::erase_if(
          queue, [&](const auto& each) { return std::find(messages.begin(), messages.end(), each) != messages.end(); });
    }
  }
  if (reduction && !reduction->is_done) reduction->joined = 0;  // never complete
}

}  // namespace nccl_model
