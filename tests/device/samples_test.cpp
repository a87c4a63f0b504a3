// What a planner does with samples on a device that lags behind, fails or is left. On the model only, where a stream
// can be held up.
#include <atomic>
#include <new>
#include <thread>

#include "device/device_support.hpp"
#include "device_model/model.hpp"
#include "train/planning/device_samples.hpp"

#include "gradwire/plan.hpp"

namespace gradwire::testing {
namespace {

constexpr std::size_t kRows = 60;
constexpr std::size_t kCount = kRows * 100;
constexpr RandomKey kKey{1, 2, ParamId{3}, 0};

std::vector<PlannedLayer> layers(const std::vector<std::string>& specs) {
  std::vector<PlannedLayer> all(2);
  for (PlannedLayer& layer : all) {
    layer.name = "layer";
    layer.count = kCount;
    layer.shape = {kRows, kCount / kRows};
    layer.specs = specs;
  }
  return all;
}

/// Work of this stream is held up while it lives.
class HeldUp {
 public:
  explicit HeldUp(StreamRef stream) : stream_(stream) {
    EXPECT_EQ(device_model::enqueue_until(static_cast<cudaStream_t>(stream.native()), [this] { return open_.load(); }),
              cudaSuccess);
  }
  HeldUp(const HeldUp&) = delete;
  HeldUp& operator=(const HeldUp&) = delete;
  ~HeldUp() {
    open_ = true;
    device::wait(stream_);
  }

 private:
  StreamRef stream_;
  std::atomic<bool> open_ = false;
};

class Samples : public DeviceTest {
 protected:
  const std::vector<float> values_ = normal_gradients(kCount, 5);
};

TEST_F(Samples, AreReadyWhenTheirCopyIsThere) {
  DeviceSamples samples(layers({"q4"}), false, false);
  const device::Stream user;
  const OnDevice sent(values_.data(), kCount * sizeof(float), user.ref());
  {
    const HeldUp held(user.ref());
    samples.copy(0, sent.tensor(kCount), user.ref());
    EXPECT_FALSE(samples.is_ready(0));
  }
  EXPECT_TRUE(samples.is_ready(0));
}

/// GRADWIRE_TIMEOUT_MS is short here.
TEST_F(Samples, DoNotMeetWhatAnEarlierOneStillDoes) {
  DeviceSamples samples(layers({"q4", "powersgd(2)"}), false, false);
  const device::Stream user;
  const device::Stream other;
  const OnDevice sent(values_.data(), kCount * sizeof(float), user.ref());
  device::wait(user.ref());
  samples.copy(1, sent.tensor(kCount), other.ref());
  device::wait(other.ref());
  {
    const HeldUp held(user.ref());
    samples.copy(0, sent.tensor(kCount), user.ref());
    EXPECT_EQ(code_of([&] { (void)samples.measure(0, kKey); }), Errc::timeout);
    EXPECT_FALSE(samples.is_ready(1)) << "its copy is there, but results are still written to";
  }
  while (!samples.is_ready(1)) std::this_thread::yield();
  const std::string once = to_json(Table{{samples.measure(1, kKey)}});
  EXPECT_EQ(to_json(Table{{samples.measure(1, kKey)}}), once);
}

TEST_F(Samples, AreLeftWhenTheHookEnds) {
  auto samples = std::make_unique<DeviceSamples>(layers({"q4", "powersgd(2)"}), false, false);
  const device::Stream user;
  const OnDevice sent(values_.data(), kCount * sizeof(float), user.ref());
  const HeldUp held(user.ref());
  samples->copy(0, sent.tensor(kCount), user.ref());
  samples->stop();
  EXPECT_EQ(code_of([&] { (void)samples->measure(0, kKey); }), Errc::aborted);
  samples.reset();  // without a wait, and nothing is written to memory that is gone
}

/// What was on the stream before launching failed still writes to them.
TEST_F(Samples, HaveResultsThatStayWhereLaunchingFailsHalfway) {
  auto results = std::make_unique<device::Results>(kCount * sizeof(float));
  const device::Stream user;
  const OnDevice sent(values_.data(), kCount * sizeof(float), user.ref());
  device::wait(user.ref());
  const HeldUp held(user.ref());
  const auto fail_halfway = [&] {
    const device::Results::Writing writing(*results, user.ref());
    device::copy(results->data(), sent.data(), kCount * sizeof(float), user.ref());
    throw std::bad_alloc();
  };
  EXPECT_THROW(fail_halfway(), std::bad_alloc);
  EXPECT_FALSE(results->done());
  results.reset();
}

}  // namespace
}  // namespace gradwire::testing
