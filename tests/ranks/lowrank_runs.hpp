#pragma once
#include "ranks/allreduce_suite.hpp"

namespace gradwire::test {

using Shape = std::vector<std::size_t>;

inline std::size_t count_of(const Shape& shape) {
  std::size_t count = 1;
  for (const std::size_t extent : shape) count *= extent;
  return count;
}

inline TestParam make_param(const std::string& spec, const Shape& shape, DType dtype = DType::f32) {
  TestParam param(spec, count_of(shape), dtype);
  param.shape = shape;
  return param;
}

/// A persistent lowrank over some params, as training runs it: inputs are refilled before every run.
class Runs {
 public:
  Runs(const Communicator& comm, std::vector<TestParam> params, std::uint64_t seed = 1)
      : comm_(comm),
        params_(std::move(params)),
        operation_(comm, items(), Slot{3}, options(seed)),
        workspace_(operation_.workspace_bytes()) {
    EXPECT_THAT(operation_.algorithm(), ::testing::AnyOf("lowrank", "hierarchical"));
  }

  void run(std::uint64_t step) {
    std::vector<ItemBuffers> buffers;
    for (TestParam& param : params_) buffers.push_back({param.view(), param.residual_view()});
    operation_.start(buffers, workspace_.bytes(), step, StreamRef::host()).wait(patience());
  }
  void expect_laws(const std::string& what) {
    for (std::size_t i = 0; i < params_.size(); ++i) {
      const TestParam& param = params_[i];
      double magnitude = 0;
      for (const float x : param.input) magnitude = std::max(magnitude, std::fabs(static_cast<double>(x)));
      expect_law(comm_, param, fmt::format("{}: {} {} item {}", what, param.spec, name(param.dtype), i), magnitude);
    }
  }
  [[nodiscard]] TestParam& param(std::size_t i) { return params_[i]; }
  [[nodiscard]] std::vector<TestParam>& params() { return params_; }
  [[nodiscard]] PersistentAllreduce& operation() { return operation_; }

 private:
  [[nodiscard]] std::vector<BucketItem> items() const {
    std::vector<BucketItem> items;
    for (std::size_t i = 0; i < params_.size(); ++i) {
      items.push_back({ParamId{static_cast<std::uint32_t>(i)}, params_[i].input.size(), params_[i].dtype,
                       make_compressor(params_[i].spec), fmt::format("w{}", i), params_[i].shape});
    }
    return items;
  }
  static AllreduceOptions options(std::uint64_t seed) { return {.segment_bytes = 4096, .seed = seed}; }

  Communicator comm_;
  std::vector<TestParam> params_;
  PersistentAllreduce operation_;
  Buffer workspace_;
};

inline double relative_error(const TestParam& param, const std::function<double(std::size_t)>& exact) {
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < param.input.size(); ++i) {
    const double off = static_cast<double>(param.result(i)) - exact(i);
    error += off * off;
    norm += exact(i) * exact(i);
  }
  return std::sqrt(error / norm);
}

}  // namespace gradwire::test
