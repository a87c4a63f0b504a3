// The owner's step of scatter_reduce in one kernel.
#include "compress/device/codecs.hpp"
#include "compress/device/quantize_tile.hpp"
#include "compress/frame.hpp"
#include "device/device_support.hpp"

namespace gradwire::testing {
namespace {

class QuantizeSum : public DeviceTest {
 protected:
  [[nodiscard]] static frame::OnDevice frame_of(const QuantizeParams& params, std::size_t count) {
    const std::size_t bytes = frame::kHeaderBytes + QuantizeLayout{params, count}.payload_bytes();
    return frame::device_frame({frame::Codec::quantize, params.options()}, count, DType::f32, bytes);
  }
  [[nodiscard]] static std::vector<std::byte> framed(const QuantizeParams& params, std::size_t count,
                                                     const std::vector<std::byte>& payload) {
    std::vector<std::byte> whole(frame::kHeaderBytes);
    const frame::OnDevice made = frame_of(params, count);
    std::memcpy(whole.data(), &made.start, frame::kHeaderBytes);
    whole.insert(whole.end(), payload.begin(), payload.end());
    return whole;
  }
  [[nodiscard]] static std::vector<std::byte> sum_on_device(const QuantizeParams& params, const Tensor& own,
                                                            const std::vector<std::vector<std::byte>>& frames,
                                                            const RandomKey& key, StreamRef stream) {
    const frame::OnDevice made = frame_of(params, own.count);
    const OnDevice out(made.bytes);
    const device::QuantizeSum job{{params, own, out.data() + frame::kHeaderBytes, nullptr, key}, made.start, 0};
    device::SumMessages messages;
    std::vector<OnDevice> there;
    for (const std::vector<std::byte>& each : frames) {
      there.emplace_back(each.data(), each.size(), stream);
      messages.at[messages.count++] = there.back().data();
    }
    device::quantize_sum(job, messages, stream);
    return out.read(stream);
  }
};

TEST_F(QuantizeSum, IsEncodedLikeDecodingOneAfterAnother) {
  const QuantizeKernels& reference = isa::scalar_kernels<QuantizeKernels>();
  const device::Stream stream;
  for (const std::uint32_t bits : {1u, 3u, 4u, 8u})
    for (const std::size_t count : {1u, 513u, 30'001u}) {
      const QuantizeParams params{bits, 512, Norm::minmax, Rounding::stochastic};
      const std::size_t size = QuantizeLayout{params, count}.payload_bytes();
      Values sum(mixed_gradients(count, 5), DType::f32);
      const OnDevice own(sum.tensor(), stream.ref());
      std::vector<std::vector<std::byte>> frames;
      for (unsigned p = 0; p < 3; ++p) {
        const Values x(mixed_gradients(count, 10 + p), DType::f32);
        std::vector<std::byte> payload(size);
        reference.encode({params, x.tensor(), payload.data(), nullptr, {1, p, {}, 0}});
        reference.decode({params, payload.data(), sum.tensor(), Write::add});
        frames.push_back(framed(params, count, payload));
      }
      std::vector<std::byte> expected(size);
      const RandomKey key{3, 4, ParamId{5}, 6};
      reference.encode({params, sum.tensor(), expected.data(), nullptr, key});
      ASSERT_EQ(sum_on_device(params, own.tensor(count), frames, key, stream.ref()), framed(params, count, expected))
          << bits << ' ' << count;
    }
}

/// A frame of another compressor makes the sum NaN, and so each bucket of its frame.
TEST_F(QuantizeSum, IsNaNWithAFrameOfAnother) {
  const device::Stream stream;
  constexpr std::size_t kCount = 1024;
  const QuantizeParams params{4, 512};
  const Values x(normal_gradients(kCount, 5), DType::f32);
  const OnDevice own(x.tensor(), stream.ref());
  std::vector<std::byte> payload(QuantizeLayout{params, kCount}.payload_bytes());
  isa::scalar_kernels<QuantizeKernels>().encode({params, x.tensor(), payload.data(), nullptr, {}});
  std::vector<std::vector<std::byte>> frames(2, framed(params, kCount, payload));
  frames[1][4] ^= std::byte{1};
  const std::vector<std::byte> sum = sum_on_device(params, own.tensor(kCount), frames, {}, stream.ref());
  std::vector<float> values(kCount);
  (void)make_compressor("q4").decode({sum.data(), sum.size()}, {values.data(), kCount}, Write::assign);
  for (const float value : values) ASSERT_TRUE(std::isnan(value));
}

void expect_unsupported(const QuantizeParams& params, DType dtype) {
  try {
    const device::QuantizeSum sum{{params, {nullptr, 0, dtype}, nullptr, nullptr, {}}, {}, 0};
    device::quantize_sum(sum, {}, StreamRef::host());
    ADD_FAILURE() << "was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::unsupported) << error.what();
  }
}

TEST(QuantizeSumRefuses, WhatOneKernelCannotEncode) {
  expect_unsupported({4, 96}, DType::f32);
  expect_unsupported({4, 512, Norm::l2}, DType::f32);
  expect_unsupported({4, 512}, DType::bf16);
}

}  // namespace
}  // namespace gradwire::testing
