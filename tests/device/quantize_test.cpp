// The quantisers' kernels on a device: the reference's bytes. Skipped, and said so, where there is no device.
#include "compress/device/quantize.cuh"

#include <fmt/format.h>

#include <functional>
#include <iostream>

#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

class QuantizeDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string problem = cuda::device_problem();
    if (problem.empty()) return;
    std::cout << "SKIPPED: no CUDA device to run on: " << problem << std::endl;
    GTEST_SKIP() << problem;
  }

  struct OnDevice {
    cuda::Memory memory;
    std::byte* data;  // not aligned, where that is asked for
  };
  static OnDevice upload(const cuda::Stream& stream, const void* data, std::size_t bytes, std::size_t shift = 0) {
    OnDevice made{cuda::Memory(bytes + 64, stream), nullptr};
    made.data = made.memory.data() + shift;
    cuda::check(cudaMemcpyAsync(made.data, data, bytes, cudaMemcpyHostToDevice, stream.get()), "upload");
    return made;
  }
  static std::vector<std::byte> download(const cuda::Stream& stream, const std::byte* data, std::size_t bytes) {
    std::vector<std::byte> host(bytes);
    cuda::check(cudaMemcpyAsync(host.data(), data, bytes, cudaMemcpyDeviceToHost, stream.get()), "download");
    stream.wait();
    return host;
  }
  static std::vector<std::byte> bytes_of(const ConstTensor& x) {
    const auto* const first = static_cast<const std::byte*>(x.data);
    return {first, first + x.bytes()};
  }

  static void compare(const QuantizeParams& params, DType dtype, std::size_t count) {
    SCOPED_TRACE(fmt::format("bits={} bucket={} norm={} round={} levels={} {} count={}", params.bits, params.bucket,
                             static_cast<int>(params.norm), static_cast<int>(params.round),
                             static_cast<int>(params.levels), name(dtype), count));
    static constexpr float kBook[8] = {-0.9f, -0.4f, -0.1f, 0, 0.1f, 0.4f, 0.9f, 0};
    const float* const codebook = params.levels == Levels::learned ? kBook : nullptr;
    const QuantizeKernels& reference = isa::scalar_kernels<QuantizeKernels>();
    const QuantizeLayout layout{params, count};
    const RandomKey key{7, 11, ParamId{13}, (std::uint64_t{1} << 33) - 70};
    const Values x(mixed_gradients(count, static_cast<unsigned>(count + params.bits)), dtype);
    std::vector<std::byte> expected(layout.payload_bytes());
    Values owed(count, DType::f32);
    ASSERT_EQ(
        reference.encode({params, x.tensor(), expected.data(), static_cast<float*>(owed.tensor().data), key, codebook}),
        count);

    const cuda::Stream stream;
    const std::size_t shift = count % 3 * size_of(dtype);
    const OnDevice input = upload(stream, x.tensor().data, x.tensor().bytes(), shift);
    const OnDevice book = upload(stream, kBook, sizeof kBook);
    const cuda::Memory payload(layout.payload_bytes() + 16, stream);
    const cuda::Memory residual(count * sizeof(float) + 16, stream);
    const cuda::Memory scratch(device::quantize_scratch_bytes(params, count) + 16, stream);
    const OnDevice bad = upload(stream, &device::kNoBadBucket, sizeof device::kNoBadBucket);
    device::quantize_encode({params,
                             {input.data, count, dtype, Space::device},
                             payload.data(),
                             reinterpret_cast<float*>(residual.data()),
                             key,
                             codebook == nullptr ? nullptr : reinterpret_cast<const float*>(book.data)},
                            scratch.data(), reinterpret_cast<std::uint32_t*>(bad.data), stream.get());
    ASSERT_EQ(download(stream, payload.data(), expected.size()), expected);
    ASSERT_EQ(download(stream, residual.data(), count * sizeof(float)), bytes_of(owed.tensor()));
    for (const Write write : {Write::assign, Write::add}) {
      Values y(mixed_gradients(count, 99), dtype);
      const OnDevice output = upload(stream, y.tensor().data, y.tensor().bytes(), shift);
      reference.decode({params, expected.data(), y.tensor(), write});
      device::quantize_decode({params, payload.data(), {output.data, count, dtype, Space::device}, write},
                              stream.get());
      ASSERT_EQ(download(stream, output.data, y.tensor().bytes()), bytes_of(y.tensor()));
    }
  }
};

TEST_F(QuantizeDevice, GivesTheReferencesBytes) {
  std::vector<QuantizeParams> all{{1, 512, Norm::mean, Rounding::nearest},
                                  {3, 512, Norm::linf, Rounding::nearest, Levels::learned},
                                  {2, 96, Norm::clipped, Rounding::stochastic, Levels::ternary, Packing::planes, 2.5f}};
  for (const std::uint32_t bucket : {32u, 96u, 512u, 8192u})
    for (const std::uint32_t bits : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u})
      for (const Norm norm : {Norm::linf, Norm::l2, Norm::minmax})
        for (const Rounding round : {Rounding::nearest, Rounding::stochastic}) {
          all.push_back({bits, bucket, norm, round});
          if (bits > 1 && norm != Norm::minmax) all.push_back({bits, bucket, norm, round, Levels::exponential});
        }
  for (const QuantizeParams& params : all)
    for (const DType dtype : kDTypes)
      for (const std::size_t count : {0u, 1u, 17u, 113u, 8191u, 30'001u}) {
        compare(params, dtype, count);
        if (HasFatalFailure()) return;
      }
}

TEST_F(QuantizeDevice, EncodesSumsLikeDecodingOneAfterAnother) {
  const QuantizeKernels& reference = isa::scalar_kernels<QuantizeKernels>();
  const cuda::Stream stream;
  for (const std::uint32_t bits : {1u, 3u, 4u, 8u})
    for (const std::size_t count : {1u, 513u, 30'001u}) {
      const QuantizeParams params{bits, 512, Norm::minmax, Rounding::stochastic};
      const std::size_t size = QuantizeLayout{params, count}.payload_bytes();
      Values sum(mixed_gradients(count, 5), DType::f32);
      const OnDevice own = upload(stream, sum.tensor().data, count * sizeof(float));
      std::vector<OnDevice> payloads;
      std::vector<const std::byte*> pointers;
      for (unsigned p = 0; p < 3; ++p) {
        const Values x(mixed_gradients(count, 10 + p), DType::f32);
        std::vector<std::byte> payload(size);
        reference.encode({params, x.tensor(), payload.data(), nullptr, {1, p, {}, 0}});
        reference.decode({params, payload.data(), sum.tensor(), Write::add});
        payloads.push_back(upload(stream, payload.data(), size));
        pointers.push_back(payloads.back().data);
        stream.wait();
      }
      std::vector<std::byte> expected(size);
      const RandomKey key{3, 4, ParamId{5}, 6};
      reference.encode({params, sum.tensor(), expected.data(), nullptr, key});
      const OnDevice list = upload(stream, pointers.data(), pointers.size() * sizeof(std::byte*));
      const OnDevice bad = upload(stream, &device::kNoBadBucket, sizeof device::kNoBadBucket);
      const cuda::Memory out(size + 16, stream);
      device::quantize_sum({{params, {own.data, count, DType::f32, Space::device}, out.data(), nullptr, key},
                            reinterpret_cast<const std::byte* const*>(list.data),
                            3},
                           reinterpret_cast<std::uint32_t*>(bad.data), stream.get());
      ASSERT_EQ(download(stream, out.data(), size), expected) << bits << ' ' << count;
    }
}

TEST_F(QuantizeDevice, NamesTheFirstBucketWithoutAFiniteScale) {
  const cuda::Stream stream;
  constexpr std::size_t kCount = 100'000;
  constexpr QuantizeParams kParams{4, 512};
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF})
    for (const std::size_t where : {std::size_t{0}, std::size_t{51'300}, kCount - 1}) {
      std::vector<float> values = normal_gradients(kCount, 5);
      values[where] = values[kCount - 1] = bad;
      const OnDevice input = upload(stream, values.data(), kCount * sizeof(float));
      const cuda::Memory payload(QuantizeLayout{kParams, kCount}.payload_bytes(), stream);
      const cuda::Memory scratch(device::quantize_scratch_bytes(kParams, kCount), stream);
      const OnDevice first_bad = upload(stream, &device::kNoBadBucket, sizeof device::kNoBadBucket);
      device::quantize_encode({kParams, {input.data, kCount, DType::f32, Space::device}, payload.data(), nullptr, {}},
                              scratch.data(), reinterpret_cast<std::uint32_t*>(first_bad.data), stream.get());
      std::uint32_t found = 0;
      const std::vector<std::byte> bytes = download(stream, first_bad.data, sizeof found);
      std::memcpy(&found, bytes.data(), sizeof found);
      EXPECT_EQ(found, where / 512);
    }
}

void expect_unsupported(const std::function<void()>& call) {
  try {
    call();
    ADD_FAILURE() << "was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::unsupported) << error.what();
  }
}

TEST(QuantizeDeviceRefuses, Trits) {
  const QuantizeParams trits{2, 512, Norm::linf, Rounding::stochastic, Levels::ternary, Packing::trits};
  expect_unsupported([&] { device::quantize_decode({trits, nullptr, {}, Write::assign}, nullptr); });
  expect_unsupported([&] { device::quantize_encode({trits, {}, nullptr, nullptr, {}}, nullptr, nullptr, nullptr); });
}

TEST(QuantizeDeviceRefuses, SumsThatOneKernelCannotEncode) {
  const auto sum_of = [](const QuantizeParams& params, DType dtype) {
    device::quantize_sum({{params, {nullptr, 0, dtype}, nullptr, nullptr, {}}}, nullptr, nullptr);
  };
  expect_unsupported([&] { sum_of({4, 96}, DType::f32); });
  expect_unsupported([&] { sum_of({4, 512, Norm::l2}, DType::f32); });
  expect_unsupported([&] { sum_of({4, 512}, DType::bf16); });
}

}  // namespace
}  // namespace gradwire::testing
