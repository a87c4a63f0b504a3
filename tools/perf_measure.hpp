#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "perf_options.hpp"
#include "perf_report.hpp"
#include "transfer_buffer.hpp"

#include "gradwire/allreduce.hpp"

namespace gradwire::tools {

/// One rank's part of the measurements. All ranks construct it and call measure() alike.
class PerfBench {
 public:
  PerfBench(const Communicator& comm, const PerfOptions& options);

  /// Collective: one row. Complete on rank 0 only.
  [[nodiscard]] PerfRow measure(std::size_t count, const std::string& compressor);

 private:
  struct Contender;
  struct Samples;  ///< one number per iteration

  void refill_and_meet(const Tensor& tensor) const;
  [[nodiscard]] double run_compressed(Contender& contender, std::uint64_t step) const;
  [[nodiscard]] double run_dense(std::size_t count) const;
  [[nodiscard]] Samples run_all(Contender& contender, std::size_t count) const;
  void add_times(const Samples& samples, PerfRow& row) const;
  void add_checks(const Contender& contender, bool lossless, PerfRow& row) const;

  Communicator comm_;
  const PerfOptions& options_;
  Buffer input_;
  TransferBuffer tensor_, dense_tensor_, residual_;
};

}  // namespace gradwire::tools
