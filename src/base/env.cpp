#include "base/env.hpp"

#include <array>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/fail.hpp"

namespace gradwire {
namespace {

std::string_view read(const char* variable) {
  const char* value = std::getenv(variable);
  return value == nullptr ? std::string_view{} : std::string_view{value};
}

std::uint64_t read_number(const char* variable, std::uint64_t fallback, std::uint64_t low, std::uint64_t high) {
  const std::string_view text = read(variable);
  if (text.empty()) return fallback;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc{} && end == text.data() + text.size() && value >= low && value <= high,
          "{}={}: expected a whole number from {} to {}", variable, text, low, high);
  return value;
}

MpiDevice read_mpi_device() {
  const std::string_view text = read("GRADWIRE_MPI_DEVICE");
  if (text.empty()) return MpiDevice::automatic;
  for (const MpiDevice value : {MpiDevice::automatic, MpiDevice::staged, MpiDevice::direct})
    if (name(value) == text) return value;
  fail(Errc::invalid_argument, "GRADWIRE_MPI_DEVICE={}: expected auto, staged or direct", text);
}

}  // namespace

std::string_view name(MpiDevice value) noexcept {
  switch (value) {
    case MpiDevice::staged: return "staged";
    case MpiDevice::direct: return "direct";
    default: return "auto";
  }
}

Environment read_environment() {
  Environment env;
  if (const std::string_view level = read("GRADWIRE_LOG_LEVEL"); !level.empty()) {
    constexpr std::array<std::string_view, 6> kLevels{"trace", "debug", "info", "warn", "error", "off"};
    bool known = false;
    for (const std::string_view candidate : kLevels) known = known || candidate == level;
    require(known, "GRADWIRE_LOG_LEVEL={}: expected trace, debug, info, warn, error or off", level);
    env.log_level = level;
  }
  env.force_isa = read("GRADWIRE_FORCE_ISA");
  const auto default_ms = static_cast<std::uint64_t>(env.timeout.count());
  env.timeout = std::chrono::milliseconds(read_number("GRADWIRE_TIMEOUT_MS", default_ms, 1, 86'400'000));
  env.segment_bytes = read_number("GRADWIRE_SEGMENT_BYTES", env.segment_bytes, 1024, 1u << 30);
  env.check = read_number("GRADWIRE_CHECK", 0, 0, 1) == 1;
  env.ranks_per_node = static_cast<int>(read_number("GRADWIRE_RANKS_PER_NODE", 0, 0, 1u << 20));
  env.max_sms = static_cast<unsigned>(read_number("GRADWIRE_MAX_SMS", 0, 0, 1024));
  env.mpi_device = read_mpi_device();
  env.trace = read("GRADWIRE_TRACE");
  return env;
}

const Environment& environment() {
  static const Environment env = read_environment();
  return env;
}

std::vector<EnvironmentRow> describe_environment() {
  const Environment& env = environment();
  return {
      {"GRADWIRE_LOG_LEVEL", env.log_level, "trace, debug, info, warn, error or off"},
      {"GRADWIRE_FORCE_ISA", env.force_isa, "instruction set of the CPU kernels; 'scalar' is the reference code"},
      {"GRADWIRE_TIMEOUT_MS", fmt::format("{}", env.timeout.count()), "deadline of operations that name none"},
      {"GRADWIRE_SEGMENT_BYTES", fmt::format("{}", env.segment_bytes), "f32 bytes of one segment of a chunk"},
      {"GRADWIRE_CHECK", env.check ? "1" : "0", "1 compares every operation across ranks before it runs"},
      {"GRADWIRE_RANKS_PER_NODE", fmt::format("{}", env.ranks_per_node), "ranks taken for one node; 0: found"},
      {"GRADWIRE_MAX_SMS", fmt::format("{}", env.max_sms), "multiprocessors of a device for its kernels; 0: all"},
      {"GRADWIRE_MPI_DEVICE", std::string(name(env.mpi_device)), "auto, staged or direct: device memory through MPI"},
      {"GRADWIRE_TRACE", env.trace, "file for a trace of a hook's gradients"},
  };
}

}  // namespace gradwire
