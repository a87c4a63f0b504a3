// What planning measures of samples in device memory: the errors that it measures on hosts, and bytes of frames there.
#include <gmock/gmock.h>

#include "compress/vector_ops.hpp"
#include "device/device_support.hpp"
#include "plan/device_measurement.hpp"
#include "train/planning/device_samples.hpp"

#include "gradwire/plan.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

class DeviceMeasured : public DeviceTest {
 protected:
  [[nodiscard]] static TableBuilder::Layer layer_of(std::vector<std::size_t> shape, std::size_t count,
                                                    std::vector<std::string> specs) {
    return {"fc.weight", count, std::move(shape), 0, std::move(specs)};
  }
  /// On a stream, then read; `keeps` comes back as what results keep of the sample.
  [[nodiscard]] static TableLayer measure(const TableBuilder::Layer& layer, const std::vector<float>& x,
                                          std::vector<float>* keeps = nullptr, std::size_t shift = 0) {
    DeviceMeasurement measurement(layer, keeps != nullptr);
    const device::Stream stream;
    const OnDevice there(ConstTensor(x.data(), x.size()), stream.ref(), shift);
    const device::Pinned results(measurement.result_bytes());
    measurement.launch(there.tensor(x.size()), kKey, results.data(), stream.ref());
    device::wait(stream.ref());
    if (keeps != nullptr) {
      const ConstTensor kept = measurement.values(results.data());
      keeps->assign(static_cast<const float*>(kept.data), static_cast<const float*>(kept.data) + kept.count);
    }
    return measurement.finish(results.data());
  }
  static constexpr RandomKey kKey{1, 2, ParamId{3}, 0};
};

TEST_F(DeviceMeasured, IsWhatHostsMeasure) {
  const std::vector<std::string> specs{"none",
                                       "q2",
                                       "q4",
                                       "q8(bucket=96)",
                                       "sign",
                                       "q3",
                                       "q5(bucket=96)",
                                       "quantize(bits=4)",
                                       "q4(norm=minmax)",
                                       "q1(norm=minmax)",
                                       "q3(norm=l2)",
                                       "q6(round=stochastic)",
                                       "q2(levels=exponential)",
                                       "ternary",
                                       "natural",
                                       "f16",
                                       "f8",
                                       "topk(0.01)",
                                       "topk(0.001)",
                                       "topk(0.1)",
                                       "topk(1)",
                                       "topk(0.05)|q4",
                                       "topk(k=7)|f16",
                                       "randomk(0.1)",
                                       "adaptive_threshold(0.02)",
                                       "powersgd(1)",
                                       "powersgd(4)",
                                       "powersgd(rank=2,rounds=1)",
                                       "projection(rank=3)",
                                       "powersgd(rank=60)"};
  for (const std::size_t rows : {96u, 131u}) {
    const std::vector<std::size_t> shape{rows, 160};
    const std::vector<float> x = normal_gradients(rows * 160, 1);
    const TableBuilder::Layer layer = layer_of(shape, x.size(), specs);
    const TableLayer expected = measure_layer({"fc.weight", ConstTensor(x.data(), x.size()), shape, kKey}, specs, 0);
    std::vector<float> kept;
    const TableLayer found = measure(layer, x, &kept, rows == 131 ? 4 : 0);
    EXPECT_EQ(kept, x);
    EXPECT_EQ(found.name, expected.name);
    EXPECT_EQ(found.count, expected.count);
    EXPECT_EQ(found.shape, expected.shape);
    EXPECT_NEAR(found.norm, expected.norm, 1e-12 * expected.norm);
    EXPECT_EQ(found.singular_values, expected.singular_values) << "factors have the hosts' bits";
    ASSERT_EQ(found.candidates.size(), specs.size());
    for (std::size_t c = 0; c < specs.size(); ++c) {
      const Candidate& host = expected.candidates[c];
      const Candidate& there = found.candidates[c];
      const Compressor compressor = make_compressor(specs[c]);
      const bool by_bins = specs[c].starts_with("topk") && specs[c].find('|') == std::string::npos;
      EXPECT_NEAR(there.error, host.error, (by_bins ? 0.004 : 1e-9) * host.error + 1e-12 * found.norm) << specs[c];
      EXPECT_EQ(there.bytes,
                compressor.low_rank() != nullptr ? host.bytes : compressor.max_frame_size(x.size(), DType::f32))
          << specs[c];
    }
  }
}

/// A threshold of an earlier sample, which would do as well, must not be found again.
TEST_F(DeviceMeasured, SamplesDoNotDependOnThoseBefore) {
  const std::vector<std::string> specs{"adaptive_threshold(0.02)", "q4", "topk(0.01)|q4"};
  const std::vector<float> x = normal_gradients(20'000, 3);
  std::vector<float> other = x;
  for (float& value : other) value *= 0.97f;
  const TableBuilder::Layer layer = layer_of({}, x.size(), specs);
  DeviceMeasurement measurement(layer, false);
  const device::Stream stream;
  const device::Pinned results(measurement.result_bytes());
  RandomKey key = kKey;
  for (const std::vector<float>& values : {x, other}) {
    const OnDevice there(ConstTensor(values.data(), values.size()), stream.ref());
    measurement.launch(there.tensor(x.size()), key, results.data(), stream.ref());
    device::wait(stream.ref());
    EXPECT_EQ(to_json(Table{{measurement.finish(results.data())}}), to_json(Table{{measure(layer, values)}}));
    ++key.step;
  }
}

/// Though the stream that measures has nothing else to do, and the one that copies has.
TEST_F(DeviceMeasured, CopiesAreMeasuredWhenTheyAreThere) {
  const std::vector<float> x = normal_gradients(6000, 5);
  PlannedLayer layer{.param = 0, .name = "fc.weight", .count = x.size(), .shape = {60, 100}};
  layer.specs = {"q4", "topk(0.1)|q4"};
  DeviceSamples samples({&layer, 1}, false, true);
  const device::Stream stream;
  const OnDevice sent(x.size() * sizeof(float));
  device::zero(sent.data(), x.size() * sizeof(float), stream.ref());
  for (int i = 0; i < 300; ++i) ops::scale(sent.tensor(x.size()), 1, stream.ref());
  device::copy(sent.data(), x.data(), x.size() * sizeof(float), stream.ref());
  samples.copy(0, sent.tensor(x.size()), stream.ref());
  EXPECT_NEAR(samples.measure(0, kKey).norm, std::sqrt(ops::sum_squares(x.data(), x.size())), 1e-6);
  EXPECT_EQ(bytes_of(samples.values(0)), bytes_of({x.data(), x.size()}));
  device::wait(stream.ref());
}

TEST_F(DeviceMeasured, WhatIsNotFiniteIsNotMeasured) {
  const auto code = [&](std::vector<std::string> specs, float bad) {
    std::vector<float> x = normal_gradients(6000, 2);
    x[4000] = bad;
    const TableBuilder::Layer layer = layer_of({60, 100}, x.size(), std::move(specs));
    return code_of([&] { (void)measure(layer, x); });
  };
  EXPECT_EQ(code({"none"}, 1), Errc::ok);
  for (const float bad : {std::nanf(""), HUGE_VALF})
    for (const char* const spec : {"none", "q4", "topk(0.1)", "powersgd(2)"})
      EXPECT_EQ(code({spec}, bad), Errc::non_finite) << spec << ' ' << bad;
  EXPECT_EQ(code({"none"}, 3e38f), Errc::ok);
  EXPECT_EQ(code({"q4"}, 3e38f), Errc::non_finite) << "its scale has no inverse";
  EXPECT_EQ(code({"q4(norm=l2)"}, 1e20f), Errc::non_finite) << "its sum of squares is beyond f32";
}

TEST_F(DeviceMeasured, CandidatesForHostsAreNamed) {
  for (const char* const spec : {"q4|zstd", "threshold(1)", "block_topk(0.1)|q4"}) {
    std::string why;
    const auto make = [&] { (void)DeviceMeasurement(layer_of({}, 5001, {"q4", spec}), false); };
    EXPECT_EQ(code_of(make, &why), Errc::unsupported) << spec;
    EXPECT_THAT(why, HasSubstr("layer 'fc.weight': "));
    EXPECT_THAT(why, HasSubstr(std::string(make_compressor(spec).spec())));
  }
}

}  // namespace
}  // namespace gradwire::testing
