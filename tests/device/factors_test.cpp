// What low rank computes on device memory: the products, bases and results of hosts, bit for bit.
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>

#include "base/cuda.hpp"
#include "compress/factor_ops.hpp"
#include "device/device_support.hpp"

namespace gradwire::testing {
namespace {

std::vector<float> normals(std::size_t count, unsigned seed) { return normal_gradients(count, seed); }

std::vector<std::byte> bytes_of(const std::vector<float>& values) {
  return testing::bytes_of(ConstTensor(values.data(), values.size()));
}

/// Floats of a device that begin at any element.
class Floats {
 public:
  Floats(const std::vector<float>& values, StreamRef stream)
      : memory_(values.data(), values.size() * sizeof(float), stream, sizeof(float)) {}
  [[nodiscard]] float* data() const { return reinterpret_cast<float*>(memory_.data()); }
  [[nodiscard]] std::vector<std::byte> read(StreamRef stream) const { return memory_.read(stream); }

 private:
  OnDevice memory_;
};

/// A matrix and its factors, with what hosts make of them.
struct Case {
  MatrixView view;
  std::size_t rank;
  std::vector<float> m, left, right, own, wide;

  Case(MatrixView view_, std::size_t rank_, unsigned seed)
      : view(view_),
        rank(rank_),
        m(normals(view.rows * view.cols, seed)),
        left(normals(view.rows * rank, seed + 1)),
        right(normals(view.cols * rank, seed + 2)),
        own(normals(view.cols * rank, seed + 3)),
        wide(m.size()) {}
};

std::vector<Case> kernel_cases() {
  std::vector<Case> cases;
  unsigned seed = 0;
  const auto add = [&](MatrixView view, std::size_t rank) { cases.emplace_back(view, rank, seed += 10); };
  for (const MatrixView view : {MatrixView{1, 1}, MatrixView{1, 37}, MatrixView{37, 1}, MatrixView{3, 5},
                                MatrixView{5, 1025}, MatrixView{131, 34}, MatrixView{64, 48}, MatrixView{257, 3}}) {
    for (const std::size_t rank : {1u, 2u, 3u, 4u, 7u, 16u}) add(view, rank);
  }
  add({2, 131'100}, 2);  // blocks that are longer than the least
  add({16'500, 2}, 2);
  return cases;
}

class DeviceFactors : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (!IsSkipped()) stream_.emplace();
  }
  std::optional<device::Stream> stream_;
};

TEST_F(DeviceFactors, ProductsAreTheHosts) {
  std::vector<Case> cases = kernel_cases();
  std::vector<Floats> there;
  std::vector<kernels::MatrixTimes> left_jobs;
  std::vector<kernels::MatrixTimes> right_jobs;
  for (const Case& c : cases) {
    const Floats& m = there.emplace_back(c.m, stream_->ref());
    left_jobs.push_back({m.data(), c.view.rows, c.view.cols, nullptr, c.rank, nullptr});
    right_jobs.push_back(left_jobs.back());
    left_jobs.back().basis = there.emplace_back(c.right, stream_->ref()).data();
    right_jobs.back().basis = there.emplace_back(c.left, stream_->ref()).data();
    left_jobs.back().factor = there.emplace_back(c.left, stream_->ref()).data();
    right_jobs.back().factor = there.emplace_back(c.right, stream_->ref()).data();
  }
  ops::times(left_jobs, Space::device, stream_->ref());
  ops::transposed_times(right_jobs, Space::device, stream_->ref());
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Case& c = cases[i];
    std::vector<float> left(c.left.size());
    std::vector<float> right(c.right.size());
    ops::times({c.m.data(), c.view.rows, c.view.cols, c.right.data(), c.rank, left.data()});
    ops::transposed_times({c.m.data(), c.view.rows, c.view.cols, c.left.data(), c.rank, right.data()});
    EXPECT_EQ(there[5 * i + 3].read(stream_->ref()), bytes_of(left))
        << c.view.rows << "x" << c.view.cols << " " << c.rank;
    EXPECT_EQ(there[5 * i + 4].read(stream_->ref()), bytes_of(right))
        << c.view.rows << "x" << c.view.cols << " " << c.rank;
  }
}

/// With residuals of another factor, of the same one, and without.
TEST_F(DeviceFactors, ExpansionsAreTheHosts) {
  for (const int kind : {0, 1, 2}) {
    std::vector<Case> cases = kernel_cases();
    std::vector<Floats> there;
    std::vector<std::uint32_t> flags(cases.size());
    device::Pinned found(flags.size() * sizeof(std::uint32_t));
    std::memset(found.data(), 0, found.size());
    std::vector<kernels::ExpandJob> jobs;
    std::vector<kernels::ExpandJob> host_jobs;
    for (std::size_t i = 0; i < cases.size(); ++i) {
      Case& c = cases[i];
      if (i % 5 == 2) c.left[c.view.rows - 1] = 3e38F;
      there.emplace_back(c.m, stream_->ref());
      for (const std::vector<float>* each : {&c.left, &c.right, &c.own, &c.wide})
        there.emplace_back(*each, stream_->ref());
      const Floats* const f = &there[5 * i];
      const auto job = [&](float* m, const float* left, const float* right, const float* own, float* residual) {
        return kernels::Expand{m,
                               c.view.rows,
                               c.view.cols,
                               c.rank,
                               left,
                               right,
                               left,
                               kind == 0 ? own : right,
                               kind == 2 ? nullptr : residual};
      };
      jobs.push_back({job(f[0].data(), f[1].data(), f[2].data(), f[3].data(), f[4].data()),
                      reinterpret_cast<std::uint32_t*>(found.data()) + i});
      host_jobs.push_back({job(c.m.data(), c.left.data(), c.right.data(), c.own.data(), c.wide.data()), &flags[i]});
    }
    ops::expand(host_jobs, Space::host, StreamRef::host());
    ops::expand(jobs, Space::device, stream_->ref());
    device::wait(stream_->ref());
    EXPECT_EQ(std::memcmp(found.data(), flags.data(), found.size()), 0) << kind;
    for (std::size_t i = 0; i < cases.size(); ++i) {
      EXPECT_EQ(there[5 * i].read(stream_->ref()), bytes_of(cases[i].m)) << kind << " " << i;
      EXPECT_EQ(there[5 * i + 4].read(stream_->ref()), bytes_of(cases[i].wide)) << kind << " " << i;
    }
  }
}

/// Of any scale and condition; more of them than one launch takes.
TEST_F(DeviceFactors, BasesAreTheHosts) {
  std::vector<std::vector<float>> columns;
  std::vector<std::size_t> ranks;
  const auto add = [&](std::size_t length, std::size_t rank, const std::function<void(std::vector<float>&)>& change) {
    if (rank > length) return;
    columns.push_back(normals(length * rank, static_cast<unsigned>(columns.size())));
    ranks.push_back(rank);
    change(columns.back());
  };
  for (const std::size_t length : {1u, 2u, 7u, 256u, 300u, 1500u}) {
    for (const std::size_t rank : {1u, 2u, 4u, 5u, 16u, 33u}) add(length, rank, [](auto&) {});
  }
  for (const float scale : {0.0F, 1e-38F, 1e30F}) {
    add(70, 3, [&](auto& values) {
      for (float& value : values) value *= scale;
    });
  }
  add(90, 4, [](auto& values) {  // the third depends on the first, the fourth nearly
    for (std::size_t i = 0; i < 90; ++i) values[180 + i] = -3 * values[i];
    for (std::size_t i = 0; i < 90; ++i) values[270 + i] = values[i] + 1e-5F * values[270 + i];
  });
  add(90, 4, [](auto& values) { std::fill(values.begin(), values.begin() + 180, 0.0F); });
  std::vector<Floats> there;
  std::vector<kernels::OrthonormaliseJob> jobs;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    there.emplace_back(columns[i], stream_->ref());
    jobs.push_back({{there.back().data(), columns[i].size() / ranks[i], ranks[i]}, {3, i, ParamId{5}, 0}});
  }
  ops::orthonormalise(jobs, nullptr, Space::device, stream_->ref());
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const Factor factor{columns[i].data(), columns[i].size() / ranks[i], ranks[i]};
    std::vector<double> scratch(ops::orthonormalise_scratch_bytes(factor.length, factor.rank) / sizeof(double));
    ops::orthonormalise(factor, reinterpret_cast<std::byte*>(scratch.data()), jobs[i].key);
    EXPECT_EQ(there[i].read(stream_->ref()), bytes_of(columns[i])) << factor.length << " x " << factor.rank;
  }
}

/// Products, bases and expansion as one graph, which is launched over new values.
TEST_F(DeviceFactors, CanBeCaptured) {
  Case c({300, 1100}, 3, 7);
  const StreamRef stream = stream_->ref();
  auto* const native = static_cast<cudaStream_t>(stream.native());
  const Floats m(c.m, stream);
  const Floats left(c.left, stream);
  const Floats right(c.right, stream);
  const Floats residual(c.wide, stream);
  device::Pinned flag(sizeof(std::uint32_t));
  const auto run = [&](float* x, float* p, float* q, float* owed, Space space, StreamRef on) {
    const kernels::OrthonormaliseJob basis{{p, c.view.rows, c.rank}, {1, 2, ParamId{3}, 0}};
    std::vector<double> scratch(ops::orthonormalise_scratch_bytes(c.view.rows, c.rank) / sizeof(double));
    const kernels::MatrixTimes leftwards{x, c.view.rows, c.view.cols, q, c.rank, p};
    const kernels::MatrixTimes rightwards{x, c.view.rows, c.view.cols, p, c.rank, q};
    const kernels::ExpandJob expand{{x, c.view.rows, c.view.cols, c.rank, p, q, p, q, owed},
                                    reinterpret_cast<std::uint32_t*>(flag.data())};
    ops::times(std::span(&leftwards, 1), space, on);
    ops::orthonormalise(std::span(&basis, 1), reinterpret_cast<std::byte*>(scratch.data()), space, on);
    ops::transposed_times(std::span(&rightwards, 1), space, on);
    ops::expand(std::span(&expand, 1), space, on);
  };
  device::wait(stream);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(native, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  run(m.data(), left.data(), right.data(), residual.data(), Space::device, stream);
  ASSERT_EQ(cudaStreamEndCapture(native, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  for (int step = 0; step < 2; ++step) {  // the second takes what the first has left
    ASSERT_EQ(cudaGraphLaunch(executable, native), cudaSuccess);
    run(c.m.data(), c.left.data(), c.right.data(), c.wide.data(), Space::host, StreamRef::host());
    EXPECT_EQ(m.read(stream), bytes_of(c.m)) << step;
    EXPECT_EQ(left.read(stream), bytes_of(c.left)) << step;
    EXPECT_EQ(right.read(stream), bytes_of(c.right)) << step;
    EXPECT_EQ(residual.read(stream), bytes_of(c.wide)) << step;
  }
  (void)cudaGraphExecDestroy(executable);
  (void)cudaGraphDestroy(graph);
}

/// What is NaN must not be lost among directions drawn at random.
TEST_F(DeviceFactors, BasesOfNaNAreNaN) {
  std::vector<float> values = normals(3 * 50, 1);
  values[60] = std::nanf("");
  const Floats there(values, stream_->ref());
  const kernels::OrthonormaliseJob job{{there.data(), 50, 3}, {}};
  ops::orthonormalise(std::span(&job, 1), nullptr, Space::device, stream_->ref());
  const std::vector<std::byte> bytes = there.read(stream_->ref());
  std::memcpy(values.data(), bytes.data(), bytes.size());
  for (std::size_t i = 50; i < values.size(); ++i) EXPECT_TRUE(std::isnan(values[i])) << i;
}

}  // namespace
}  // namespace gradwire::testing
