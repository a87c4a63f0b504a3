#include "perf_measure.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <span>

#include "gaussian.hpp"
#include "perf_check.hpp"
#include "ranks.hpp"

namespace gradwire::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr Slot kCompressedSlot{0};
constexpr Slot kDenseSlot{1};

double us_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

/// Rows of the matrix, as square as the count allows, that a tensor stands for under low rank.
std::size_t square_rows(std::size_t count) {
  std::size_t rows = 1;
  for (std::size_t divisor = 2; divisor * divisor <= count; ++divisor) {
    if (count % divisor == 0) rows = divisor;
  }
  return rows;
}

std::vector<BucketItem> one_item(std::size_t count, DType dtype, const Compressor& compressor) {
  BucketItem item{.param = ParamId{0}, .count = count, .dtype = dtype, .compressor = compressor, .name = "perf"};
  if (compressor.low_rank() != nullptr) item.shape = {square_rows(count), count / square_rows(count)};
  return {item};
}

AllreduceOptions allreduce_options(const PerfOptions& options) {
  return {.algorithm = options.algorithm,
          .segment_bytes = options.segment_bytes,
          .seed = options.seed,
          .timeout = options.timeout};
}

std::size_t largest_bytes(const PerfOptions& options) { return options.counts().back() * size_of(options.dtype); }

}  // namespace

/// The compressed allreduce with all it needs to run again and again.
struct PerfBench::Contender {
  Contender(const Communicator& comm, std::vector<BucketItem> items, const PerfOptions& options)
      : allreduce(comm, std::move(items), kCompressedSlot, allreduce_options(options)),
        workspace(allreduce.workspace_bytes()) {}

  PersistentAllreduce allreduce;
  TransferBuffer workspace;
  ItemBuffers buffers;
};

struct PerfBench::Samples {
  std::vector<double> time_us, dense_time_us, encode_us, decode_us;
};

PerfBench::PerfBench(const Communicator& comm, const PerfOptions& options)
    : comm_(comm),
      options_(options),
      input_(largest_bytes(options)),
      tensor_(largest_bytes(options)),
      dense_tensor_(largest_bytes(options)),
      residual_(options.counts().back() * sizeof(float)) {
  fill_gaussian(input_.tensor(options.counts().back(), options.dtype), options.seed, comm.rank());
}

/// Refilling stands for backward, which has just written the gradient: it is not timed.
void PerfBench::refill_and_meet(const Tensor& tensor) const {
  if (tensor.count > 0) std::memcpy(tensor.data, input_.data(), tensor.bytes());
  comm_.barrier(options_.deadline());
}

double PerfBench::run_compressed(Contender& contender, std::uint64_t step) const {
  refill_and_meet(contender.buffers.tensor);
  const auto start = Clock::now();
  const Work work =
      contender.allreduce.start({&contender.buffers, 1}, contender.workspace->bytes(), step, StreamRef::host());
  work.wait(options_.deadline());
  return us_since(start);
}

/// Straight from the transport: the library's `dense` algorithm also looks for NaN, which a rival would not.
double PerfBench::run_dense(std::size_t count) const {
  const Tensor tensor = dense_tensor_->tensor(count, options_.dtype);
  refill_and_meet(tensor);
  const auto start = Clock::now();
  comm_.transport().all_reduce_sum(tensor, kDenseSlot, StreamRef::host()).wait(options_.deadline());
  return us_since(start);
}

PerfBench::Samples PerfBench::run_all(Contender& contender, std::size_t count) const {
  Samples samples;
  std::uint64_t step = 0;
  for (int i = 0; i < options_.warmup_iters; ++i) {
    static_cast<void>(run_compressed(contender, step++));
    static_cast<void>(run_dense(count));
  }
  for (int i = 0; i < options_.iters; ++i) {
    samples.time_us.push_back(run_compressed(contender, step++));
    samples.encode_us.push_back(contender.allreduce.stats().encode_us);
    samples.decode_us.push_back(contender.allreduce.stats().decode_us);
    samples.dense_time_us.push_back(run_dense(count));
  }
  return samples;
}

void PerfBench::add_times(const Samples& samples, PerfRow& row) const {
  const auto slowest = [&](const std::vector<double>& mine) {
    std::vector<double> slowest_us(mine.size(), 0.0);
    const std::vector<double> all = gather_values(comm_, std::span(mine), options_.deadline());
    for (std::size_t i = 0; i < all.size(); ++i) {
      slowest_us[i % mine.size()] = std::max(slowest_us[i % mine.size()], all[i]);
    }
    return spread_of(std::move(slowest_us));
  };
  row.time = slowest(samples.time_us);
  row.dense_time = slowest(samples.dense_time_us);
  row.encode_us = slowest(samples.encode_us).median_us;
  row.decode_us = slowest(samples.decode_us).median_us;
}

void PerfBench::add_checks(const Contender& contender, bool lossless, PerfRow& row) const {
  const bool is_dense = contender.allreduce.algorithm() == "dense";
  const ConstTensor input = input_.tensor(row.count, row.dtype);
  const CheckedTensors ours{.input = input,
                            .result = contender.buffers.tensor,
                            .residual = contender.buffers.residual,
                            .lossless = lossless || is_dense,
                            .backend_sums = is_dense};
  const CheckedTensors theirs{.input = input,
                              .result = dense_tensor_->tensor(row.count, row.dtype),
                              .residual = {},
                              .lossless = true,
                              .backend_sums = true};
  const CheckResult result = check(comm_, ours, options_.deadline());
  row.rel_error = result.rel_error;
  row.wrong = result.wrong;
  row.dense_wrong = check(comm_, theirs, options_.deadline()).wrong;
  row.checked = true;
}

PerfRow PerfBench::measure(std::size_t count, const std::string& compressor) {
  const DType dtype = options_.dtype;
  const Compressor made = make_compressor(compressor);
  Contender contender(comm_, one_item(count, dtype, made), options_);
  contender.buffers = {tensor_->tensor(count, dtype), residual_->tensor(count)};

  PerfRow row;
  row.count = count;
  row.dtype = dtype;
  row.ranks = comm_.size();
  row.compressor = compressor;
  row.spec = made.spec();
  row.algorithm = contender.allreduce.algorithm();
  row.workspace_bytes = contender.allreduce.workspace_bytes();
  add_times(run_all(contender, count), row);
  const std::uint64_t sent = contender.allreduce.stats().wire_bytes;
  for (const std::uint64_t each : gather_values(comm_, std::span(&sent, 1), options_.deadline())) {
    row.wire_bytes = std::max(row.wire_bytes, each);
  }
  if (options_.check) add_checks(contender, made.traits().lossless && dtype == DType::f32, row);
  return row;
}

}  // namespace gradwire::tools
