#include "device/compressors_suite.hpp"

namespace gradwire::testing {
namespace {

std::vector<std::string> quantisers() {
  std::vector<std::string> specs{"sign",
                                 "ternary(pack=bits)",
                                 "ternary(pack=bits,bucket=96,clip=2.5)",
                                 "ternary(pack=trits)",
                                 "ternary(pack=trits,bucket=96,clip=2.5)",
                                 "ternary(pack=trits,bucket=32)"};
  const auto add = [&](int bits, int bucket, std::string_view norm, std::string_view round) {
    specs.push_back(fmt::format("quantize(bits={},bucket={},norm={},round={})", bits, bucket, norm, round));
  };
  for (int bits = 1; bits <= 8; ++bits) {
    add(bits, 512, "linf", "nearest");
    add(bits, 512, "minmax", "stochastic");
    add(bits, 96, "l2", "stochastic");
  }
  for (const int bucket : {32, 128, 160, 8192}) {
    add(3, bucket, "linf", "stochastic");
    add(4, bucket, "minmax", "nearest");
    add(5, bucket, "l2", "nearest");
  }
  for (const int bucket : {96, 512}) {
    for (const std::string_view round : {"nearest", "stochastic"})
      specs.push_back(fmt::format("quantize(bits=4,bucket={},round={},levels=exponential)", bucket, round));
  }
  return specs;
}

/// Levels are learned on hosts, whose frames devices read.
class LearnedLevels : public DeviceTest {};

TEST_F(LearnedLevels, AreDecodedAndNotEncoded) {
  const device::Stream stream;
  for (const int bits : {2, 3, 4}) {
    for (const std::size_t count : kCounts) {
      const Compressor compressor = make_compressor(fmt::format("quantize(bits={},bucket=96,levels=learned)", bits));
      EXPECT_FALSE(compressor.traits().on_device);
      const Encoded encoded = encode(compressor, Values(mixed_gradients(count, 3), DType::f32).tensor());
      const OnDevice frame(encoded.frame.data(), encoded.frame.size(), stream.ref());
      for (const DType dtype : kDTypes) {
        for (const Write write : {Write::assign, Write::add}) {
          Values y(mixed_gradients(count, 99), dtype);
          const OnDevice output(y.tensor(), stream.ref());
          (void)compressor.decode(encoded.bytes(), y.tensor(), write);
          ASSERT_EQ(compressor.decode(frame.bytes(), output.tensor(count, dtype), write, stream.ref()),
                    encoded.frame.size());
          ASSERT_EQ(output.read(stream.ref()), bytes_of(y.tensor())) << bits << ' ' << count << ' ' << name(dtype);
        }
      }
      std::string message;
      EXPECT_EQ(
          code_of(
              [&] { (void)compressor.encode(OnDevice(count * 4).tensor(count), frame.bytes(), {}, {}, stream.ref()); },
              &message),
          Errc::unsupported);
      EXPECT_NE(message.find("learns its levels on a host"), std::string::npos) << message;
    }
  }
}

/// Bytes above 242, which nobody writes, read as 242.
class Trits : public DeviceTest {};

TEST_F(Trits, OfAnyBytesHaveTheHostsValues) {
  constexpr std::size_t kCount = 5 * 16 * 16;  // each byte once
  const device::Stream stream;
  const Compressor compressor = make_compressor("ternary(pack=trits)");
  Encoded encoded = encode(compressor, Values(normal_gradients(kCount, 3), DType::f32).tensor());
  for (std::size_t i = 0; i < 256; ++i) encoded.frame[encoded.frame.size() - 256 + i] = static_cast<std::byte>(i);
  const OnDevice frame(encoded.frame.data(), encoded.frame.size(), stream.ref());
  const OnDevice output(kCount * sizeof(float));
  (void)compressor.decode(frame.bytes(), output.tensor(kCount), Write::assign, stream.ref());
  Values y(kCount, DType::f32);
  (void)compressor.decode(encoded.bytes(), y.tensor(), Write::assign);
  EXPECT_EQ(output.read(stream.ref()), bytes_of(y.tensor()));
}

INSTANTIATE_TEST_SUITE_P(Casts, Compressors, ::testing::Values("none", "f16", "bf16"), test_name);
INSTANTIATE_TEST_SUITE_P(Quantisers, Compressors, ::testing::ValuesIn(quantisers()), test_name);
INSTANTIATE_TEST_SUITE_P(Natural, Compressors, ::testing::Values("natural(nearest)", "natural(stochastic)"), test_name);

class CompressorTraitsOnDevice : public DeviceTest {};

/// Of every compressor that there is: what says that it takes device memory does, all else refuses.
TEST_F(CompressorTraitsOnDevice, AreTrue) {
  constexpr std::size_t kCount = 8192;
  const device::Stream stream;
  std::vector<std::string> specs{"topk(0.01)|q4", "topk(0.01)|zstd", "q4|zstd", "rotate(q4)", "ternary(pack=bits)"};
  for (const CompressorInfo& row : list_compressors()) specs.push_back(row.example);
  for (const std::string& spec : specs) {
    const Compressor compressor = make_compressor(spec);
    if (compressor.low_rank() != nullptr) continue;
    const OnDevice x(kCount * sizeof(float));
    device::zero(x.data(), kCount * sizeof(float), stream.ref());
    const OnDevice frame(compressor.max_frame_size(kCount, DType::f32));
    bool is_taken = true;
    try {
      (void)compressor.encode(x.tensor(kCount), frame.bytes(), {}, {}, stream.ref());
      (void)compressor.decode(frame.bytes(), x.tensor(kCount), Write::assign, stream.ref());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::unsupported) << spec << ": " << error.what();
      is_taken = false;
    }
    EXPECT_EQ(is_taken, compressor.traits().on_device) << spec;
    device::wait(stream.ref());  // before memory goes
  }
}

}  // namespace
}  // namespace gradwire::testing
