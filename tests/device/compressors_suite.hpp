#pragma once
#include <string>
#include <vector>

#include "device/device_support.hpp"
#include "support/test_name.hpp"

/// \file What every compressor that takes device memory does there: the host's frames, values and residuals, bit for
/// bit. Tests name the compressors: INSTANTIATE_TEST_SUITE_P(..., Compressors, specs, test_name).

namespace gradwire::testing {
namespace {

constexpr std::size_t kCounts[] = {0, 1, 17, 113, 512, 8191, 17'001};

class Compressors : public DeviceTest, public ::testing::WithParamInterface<std::string> {
 protected:
  const Compressor compressor_ = make_compressor(GetParam());
};

/// Whether frames of up to 16384 elements are in its frames.
bool has_spans(const std::string& spec) { return spec.starts_with("rotate") || spec.starts_with("thc"); }

/// One encode and its decodes, on both.
void compare(const Compressor& compressor, DType dtype, std::size_t count) {
  SCOPED_TRACE(fmt::format("{} {} count={}", compressor.spec(), name(dtype), count));
  EXPECT_TRUE(compressor.traits().on_device);
  const RandomKey key{7, 11, ParamId{13}, (std::uint64_t{1} << 33) - 70};
  const Values x(mixed_gradients(count, static_cast<unsigned>(count + 3)), dtype);
  const std::size_t room = compressor.max_frame_size(count, dtype);
  Buffer frame(room);
  Values owed(count, DType::f32);
  ASSERT_EQ(compressor.encode(x.tensor(), frame.bytes(), owed.tensor(), key), room);
  const std::vector<std::byte> expected(frame.data(), frame.data() + room);

  const device::Stream stream;
  const std::size_t shift = count % 3 * size_of(dtype);
  const OnDevice input(x.tensor(), stream.ref(), shift);
  const OnDevice out(room);
  const OnDevice residual(count * sizeof(float), count % 2 * sizeof(float));
  ASSERT_EQ(compressor.encode(input.tensor(count, dtype), out.bytes(), residual.tensor(count), key, stream.ref()),
            room);
  ASSERT_EQ(out.read(stream.ref()), expected);
  ASSERT_EQ(residual.read(stream.ref()), bytes_of(owed.tensor()));
  if (dtype == DType::f32) {  // the residual in the input's place
    const OnDevice both(x.tensor(), stream.ref(), shift);
    (void)compressor.encode(both.tensor(count), out.bytes(), both.tensor(count), key, stream.ref());
    ASSERT_EQ(out.read(stream.ref()), expected);
    ASSERT_EQ(both.read(stream.ref()), bytes_of(owed.tensor()));
  }
  for (const DType result : kDTypes) {
    if (compressor.max_frame_size(count, result) != room) continue;  // a frame of this dtype's size
    for (const Write write : {Write::assign, Write::add}) {
      Values y(mixed_gradients(count, 99), result);
      const OnDevice output(y.tensor(), stream.ref(), count % 3 * size_of(result));
      (void)compressor.decode({expected.data(), room}, y.tensor(), write);
      ASSERT_EQ(compressor.decode(out.bytes(), output.tensor(count, result), write, stream.ref()), room);
      ASSERT_EQ(output.read(stream.ref()), bytes_of(y.tensor()));
    }
  }
}

TEST_P(Compressors, GiveTheHostsBytes) {
  for (const DType dtype : kDTypes) {
    for (const std::size_t count : kCounts) {
      compare(compressor_, dtype, count);
      if (HasFatalFailure()) return;
    }
  }
  if (has_spans(GetParam())) compare(compressor_, DType::f32, 2 * 16384 + 3001);
}

/// Nobody waits for a kernel, so that NaN and Inf cannot be refused: they come out as NaN where they went in.
TEST_P(Compressors, KeepNaN) {
  constexpr std::size_t kCount = 5000;
  const device::Stream stream;
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    for (const std::size_t where : {std::size_t{0}, std::size_t{2061}, kCount - 1}) {
      std::vector<float> values = normal_gradients(kCount, 5);
      values[where] = bad;
      const OnDevice x(values.data(), kCount * sizeof(float), stream.ref());
      const OnDevice frame(compressor_.max_frame_size(kCount, DType::f32));
      const OnDevice y(kCount * sizeof(float));
      (void)compressor_.encode(x.tensor(kCount), frame.bytes(), {}, {1, 2, ParamId{3}, 0}, stream.ref());
      (void)compressor_.decode(frame.bytes(), y.tensor(kCount), Write::assign, stream.ref());
      const std::vector<std::byte> bytes = y.read(stream.ref());
      float found = 0;
      std::memcpy(&found, bytes.data() + where * sizeof found, sizeof found);
      EXPECT_FALSE(std::isfinite(found)) << bad << " at " << where;
    }
  }
}

TEST_P(Compressors, GiveNaNForFramesThatAreNotTheirs) {
  constexpr std::size_t kCount = 1000;
  const device::Stream stream;
  const std::vector<float> values = normal_gradients(kCount, 5);
  const OnDevice x(values.data(), kCount * sizeof(float), stream.ref());
  const OnDevice frame(compressor_.max_frame_size(kCount, DType::f32));
  const OnDevice y(kCount * sizeof(float));
  for (const std::size_t spoilt : {0u, 1u, 2u, 5u, 9u, 13u}) {  // of the header, but for its dtype
    (void)compressor_.encode(x.tensor(kCount), frame.bytes(), {}, {1, 2, ParamId{3}, 0}, stream.ref());
    std::vector<std::byte> bytes = frame.read(stream.ref());
    bytes[spoilt] ^= std::byte{0x40};
    const OnDevice wrong(bytes.data(), bytes.size(), stream.ref());
    (void)compressor_.decode(wrong.bytes(), y.tensor(kCount), Write::assign, stream.ref());
    const std::vector<std::byte> found = y.read(stream.ref());
    for (std::size_t i = 0; i < kCount; ++i) {
      float value = 0;
      std::memcpy(&value, found.data() + i * sizeof value, sizeof value);
      ASSERT_TRUE(std::isnan(value)) << "byte " << spoilt << " was spoilt, element " << i << " is " << value;
    }
  }
}

TEST_P(Compressors, RefuseWhatTheyCannotTake) {
  constexpr std::size_t kCount = 100;
  const device::Stream stream;
  const OnDevice x(kCount * sizeof(float));
  const OnDevice frame(compressor_.max_frame_size(kCount, DType::f32) + 16);
  Buffer host(frame.bytes().size);
  const Tensor tensor = x.tensor(kCount);
  EXPECT_EQ(code_of([&] { (void)compressor_.encode(tensor, frame.bytes(), {}, {}); }), Errc::invalid_argument);
  EXPECT_EQ(code_of([&] { (void)compressor_.encode(tensor, host.bytes(), {}, {}, stream.ref()); }), Errc::unsupported);
  EXPECT_EQ(code_of([&] { (void)compressor_.encode(tensor, frame.bytes(), host.tensor(kCount), {}, stream.ref()); }),
            Errc::unsupported);
  EXPECT_EQ(code_of([&] {
              (void)compressor_.encode(tensor, frame.bytes().slice(8, frame.bytes().size - 8), {}, {}, stream.ref());
            }),
            Errc::invalid_argument);
  EXPECT_EQ(code_of([&] { (void)compressor_.encode(tensor, frame.bytes().slice(0, 16), {}, {}, stream.ref()); }),
            Errc::invalid_argument);
  EXPECT_EQ(code_of([&] { (void)compressor_.decode(frame.bytes(), tensor, Write::assign, stream.ref()); }),
            Errc::bad_frame);
  EXPECT_EQ(code_of([&] { (void)compressor_.decode(host.bytes(), tensor, Write::assign, stream.ref()); }),
            Errc::unsupported);
}

std::string test_name(const ::testing::TestParamInfo<std::string>& info) { return as_test_name(info.param); }

}  // namespace
}  // namespace gradwire::testing
