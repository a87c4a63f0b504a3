#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/half.hpp"
#include "ranks/worlds.hpp"

#include "gradwire/allreduce.hpp"
#include "gradwire/buffer.hpp"

namespace gradwire::test {

/// At least `count` values of the sequence of this seed, kept: thousands of tests begin with the same ones, and drawing
/// them took half of their time.
inline std::shared_ptr<const std::vector<float>> random_values(unsigned seed, std::size_t count) {
  static std::mutex mutex;
  static std::map<unsigned, std::shared_ptr<const std::vector<float>>> drawn;
  const std::lock_guard lock(mutex);
  std::shared_ptr<const std::vector<float>>& kept = drawn[seed];
  if (kept != nullptr && kept->size() >= count) return kept;
  std::minstd_rand engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = normal(engine) * std::exp2(static_cast<float>(i / 700 % 9) - 4.0F);
  }
  kept = std::make_shared<const std::vector<float>>(std::move(values));
  return kept;
}

/// One rank's part of one parameter: memory, what went in, and what came out.
struct TestParam {
  TestParam(std::string spec_, std::size_t count, DType dtype_ = DType::f32)
      : spec(std::move(spec_)), dtype(dtype_), tensor(count * size_of(dtype_)), residual(count, 0.0F), input(count) {}

  std::string spec;
  DType dtype;
  std::vector<std::size_t> shape;  // for low rank
  std::vector<std::byte> tensor;
  std::vector<float> residual;
  std::vector<float> input;  // what the tensor held, widened

  [[nodiscard]] Tensor view() { return {tensor.data(), input.size(), dtype, Space::host}; }
  [[nodiscard]] Tensor residual_view() { return {residual.data(), residual.size(), DType::f32, Space::host}; }
  [[nodiscard]] float result(std::size_t i) const { return load_f32(tensor.data(), dtype, i); }
  [[nodiscard]] std::vector<float> results() const {
    std::vector<float> all(input.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = result(i);
    return all;
  }

  template <class Value>
  void fill(Value&& value) {
    for (std::size_t i = 0; i < input.size(); ++i) {
      store_f32(tensor.data(), dtype, i, value(i));
      input[i] = result(i);
    }
  }
  /// Gradient-like: normal, of a scale that drifts along the tensor; different on each rank.
  void fill_random(int rank, unsigned seed = 1) {
    const auto values = random_values(seed * 1000003u + static_cast<unsigned>(rank) * 7919u + 17u, input.size());
    fill([&](std::size_t i) { return (*values)[i]; });
  }
};

/// Items with ids 0, 1, ... over a rank's params.
inline std::vector<Item> items_of(std::vector<TestParam>& params) {
  std::vector<Item> items;
  for (std::size_t i = 0; i < params.size(); ++i) {
    items.push_back({params[i].view(), params[i].residual_view(), make_compressor(params[i].spec),
                     ParamId{static_cast<std::uint32_t>(i)}, params[i].shape});
  }
  return items;
}

inline void reduce(const Communicator& comm, std::vector<TestParam>& params, const AllreduceOptions& options = {},
                   std::uint64_t step = 0) {
  const std::vector<Item> items = items_of(params);
  wait(allreduce_sum(comm, items, Slot{5}, StreamRef::host(), options, step));
}

/// Rank r receives slice r of everybody's values.
inline std::vector<std::vector<float>> gather_slices(const Communicator& comm, const std::vector<float>& mine) {
  const auto n = static_cast<std::size_t>(comm.size());
  const auto bound = [&](std::size_t rank) { return mine.size() * rank / n; };
  const auto self = static_cast<std::size_t>(comm.rank());
  std::vector<std::vector<float>> slices(n);
  std::vector<Send> sends;
  std::vector<Recv> recvs;
  for (std::size_t peer = 0; peer < n; ++peer) {
    slices[peer].resize(bound(self + 1) - bound(self));
    const auto* part = reinterpret_cast<const std::byte*>(mine.data() + bound(peer));
    const std::size_t part_bytes = (bound(peer + 1) - bound(peer)) * sizeof(float);
    if (peer == self) {
      std::copy_n(mine.data() + bound(self), slices[self].size(), slices[self].data());
      continue;
    }
    sends.push_back({{part, part_bytes}, static_cast<int>(peer)});
    recvs.push_back({{reinterpret_cast<std::byte*>(slices[peer].data()), slices[peer].size() * sizeof(float)},
                     static_cast<int>(peer)});
  }
  wait(comm.transport().exchange(sends, recvs, Slot{6}, StreamRef::host()));
  return slices;
}

/// The contract: results bitwise equal on all ranks, and sum of inputs == result + sum of residuals up to f32 rounding,
/// of values as large as this rank's slice holds, or `magnitude` where elements mix beyond it.
inline void expect_law(const Communicator& comm, const TestParam& param, const std::string& what,
                       double magnitude = 0) {
  const auto inputs = gather_slices(comm, param.input);
  const auto residuals = gather_slices(comm, param.residual);
  const auto results = gather_slices(comm, param.results());
  for (const auto& slice : inputs) {
    for (const float x : slice) magnitude = std::max(magnitude, std::fabs(static_cast<double>(x)));
  }
  const double n = comm.size();
  const double tolerance = 4 * n * n * magnitude * std::ldexp(1.0, -24);
  const auto bits = [](float x) { return std::bit_cast<std::uint32_t>(x); };
  std::size_t unequal = 0;
  std::vector<double> balance(results[0].size());
  for (std::size_t i = 0; i < balance.size(); ++i) balance[i] = -static_cast<double>(results[0][i]);
  for (std::size_t rank = 0; rank < results.size(); ++rank) {
    for (std::size_t i = 0; i < balance.size(); ++i) {
      unequal += bits(results[rank][i]) != bits(results[0][i]) ? 1 : 0;
      balance[i] += static_cast<double>(inputs[rank][i]) - static_cast<double>(residuals[rank][i]);
    }
  }
  double worst = 0;
  for (const double left : balance) worst = std::isfinite(left) ? std::max(worst, std::fabs(left)) : HUGE_VAL;
  EXPECT_EQ(unequal, 0u) << what << ": elements that differ between ranks";
  EXPECT_LE(worst, tolerance) << what << ": sum of inputs != result + sum of residuals";
}

/// Every rank in turn refuses the one parameter of a bucket, which has no memory there: all ranks fail with that
/// verdict and stay in step. Then nobody does: what comes of inputs of 2.
template <class Operation>
std::vector<float> expect_refusals(const Communicator& comm, const std::string& spec, std::size_t count,
                                   const AllreduceOptions& options) {
  std::vector<BucketItem> items;
  items.push_back({ParamId{8}, count, DType::f32, make_compressor(spec), "weight"});
  Operation operation(comm, items, Slot{2}, options);
  const Buffer workspace(operation.workspace_bytes());
  std::vector<float> values(count);
  const ItemBuffers buffers{{values.data(), values.size()}, {}};
  for (int culprit = 0; culprit < comm.size(); ++culprit) {
    std::fill(values.begin(), values.end(), 1.0F);  // a run that fails leaves anything there
    std::optional<Verdict> refusal;
    ItemBuffers given = buffers;
    if (comm.rank() == culprit) {
      refusal = Verdict{Errc::invalid_argument, culprit, ParamId{8}};
      given.tensor.data = nullptr;
    }
    const Outcome outcome = outcome_of([&] {
      wait(operation.start({&given, 1}, workspace.bytes(), 0, StreamRef::host(), refusal));
    });
    EXPECT_EQ(outcome.code, Errc::invalid_argument) << options.algorithm << ": " << outcome.message;
    EXPECT_THAT(outcome.message, ::testing::HasSubstr(fmt::format("'weight' was missing on rank {}", culprit)));
    EXPECT_TRUE(operation.in_step());
  }
  std::fill(values.begin(), values.end(), 2.0F);
  wait(operation.start({&buffers, 1}, workspace.bytes(), 1, StreamRef::host()));
  return values;
}

}  // namespace gradwire::test
