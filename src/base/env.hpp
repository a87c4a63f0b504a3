#pragma once
#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "gradwire/export.hpp"

namespace gradwire {

/// How device memory goes through MPI.
enum class MpiDevice {
  automatic,  ///< direct where MPI says that it takes device memory, else staged
  staged,     ///< through pinned buffers
  direct,     ///< messages as they are; an error where MPI does not say so
};
[[nodiscard]] std::string_view name(MpiDevice value) noexcept;

/// Every environment variable gradwire reads, once, when first asked for. `gradwire info` prints this table.
struct Environment {
  /// GRADWIRE_LOG_LEVEL: trace, debug, info, warn, error or off.
  std::string log_level = "warn";
  /// GRADWIRE_FORCE_ISA: "scalar" for the reference code, or an instruction set that `gradwire info` lists.
  std::string force_isa;
  /// GRADWIRE_TIMEOUT_MS: deadline of every operation whose options name none.
  std::chrono::milliseconds timeout{60'000};
  /// GRADWIRE_SEGMENT_BYTES: f32 bytes of one segment of a chunk: the grain at which encoding, wire and decoding
  /// overlap.
  std::size_t segment_bytes = 256u << 10;
  /// GRADWIRE_CHECK: 1 makes every communicator `checked`.
  bool check = false;
  /// GRADWIRE_RANKS_PER_NODE: takes so many consecutive ranks for one node, whatever the machines: for trying
  /// `hierarchical` on one of them. 0: nodes are found. The same on all ranks.
  int ranks_per_node = 0;
  /// GRADWIRE_MAX_SMS: multiprocessors of a device that gradwire's kernels may fill; 0: all of them.
  unsigned max_sms = 0;
  /// GRADWIRE_MPI_DEVICE: auto, staged or direct.
  MpiDevice mpi_device = MpiDevice::automatic;
  /// GRADWIRE_TRACE: file that a hook's rank 0 records gradients in (docs/trace-format.md). Set on all ranks or on
  /// none.
  std::string trace;
};

/// Throws Errc::invalid_argument naming the variable and its value when one cannot be read.
[[nodiscard]] GRADWIRE_API const Environment& environment();

/// The same parser without the cache, for tests.
[[nodiscard]] Environment read_environment();

struct EnvironmentRow {
  std::string variable;
  std::string value;
  std::string meaning;
};
[[nodiscard]] std::vector<EnvironmentRow> describe_environment();

}  // namespace gradwire
