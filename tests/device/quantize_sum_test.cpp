// The owner's step of scatter_reduce in one kernel.
#include "compress/device/codecs.hpp"
#include "compress/device/quantize_tile.hpp"
#include "compress/frame.hpp"
#include "device/device_support.hpp"

namespace gradwire::testing {
namespace {

class QuantizeSum : public DeviceTest {};

TEST_F(QuantizeSum, IsEncodedLikeDecodingOneAfterAnother) {
  const QuantizeKernels& reference = isa::scalar_kernels<QuantizeKernels>();
  const device::Stream stream;
  for (const std::uint32_t bits : {1u, 3u, 4u, 8u})
    for (const std::size_t count : {1u, 513u, 30'001u}) {
      const QuantizeParams params{bits, 512, Norm::minmax, Rounding::stochastic};
      const std::size_t size = QuantizeLayout{params, count}.payload_bytes();
      Values sum(mixed_gradients(count, 5), DType::f32);
      const OnDevice own(sum.tensor(), stream.ref());
      std::vector<OnDevice> payloads;
      std::vector<const std::byte*> pointers;
      for (unsigned p = 0; p < 3; ++p) {
        const Values x(mixed_gradients(count, 10 + p), DType::f32);
        std::vector<std::byte> payload(size);
        reference.encode({params, x.tensor(), payload.data(), nullptr, {1, p, {}, 0}});
        reference.decode({params, payload.data(), sum.tensor(), Write::add});
        payloads.emplace_back(payload.data(), size, stream.ref());
        pointers.push_back(payloads.back().data());
      }
      std::vector<std::byte> expected(frame::kHeaderBytes + size);
      const RandomKey key{3, 4, ParamId{5}, 6};
      reference.encode({params, sum.tensor(), expected.data() + frame::kHeaderBytes, nullptr, key});
      const frame::OnDevice made =
          frame::device_frame({frame::Codec::quantize, params.options()}, count, DType::f32, expected.size());
      std::memcpy(expected.data(), &made.start, frame::kHeaderBytes);
      const OnDevice list(pointers.data(), pointers.size() * sizeof(std::byte*), stream.ref());
      const OnDevice out(expected.size());
      device::quantize_sum({{params, own.tensor(count), out.data() + frame::kHeaderBytes, nullptr, key},
                            reinterpret_cast<const std::byte* const*>(list.data()),
                            3},
                           made.start, stream.ref());
      ASSERT_EQ(out.read(stream.ref()), expected) << bits << ' ' << count;
    }
}

void expect_unsupported(const QuantizeParams& params, DType dtype) {
  try {
    device::quantize_sum({{params, {nullptr, 0, dtype}, nullptr, nullptr, {}}}, {}, StreamRef::host());
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
