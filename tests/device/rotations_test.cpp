#include "device/compressors_suite.hpp"

namespace gradwire::testing {
namespace {

std::vector<std::string> rotations() {
  std::vector<std::string> specs;
  for (const int block : {32, 128, 1024, 4096, 8192}) specs.push_back(fmt::format("rotate(q4,block={})", block));
  for (const std::string_view scale : {"contractive", "unbiased"}) {
    for (const int block : {64, 512, 2048})
      specs.push_back(fmt::format("rotate(quantize(bits=1,bucket=512),block={},scale={})", block, scale));
  }
  specs.push_back("rotate(quantize(bits=3,bucket=96,round=stochastic),block=256,clip=2.5)");
  specs.push_back("rotate(sign(bucket=8192),block=8192,scale=unbiased,clip=3)");
  specs.push_back("rotate(quantize(bits=4,bucket=512,round=stochastic),block=1024)");
  specs.push_back("rotate(quantize(bits=7,bucket=128,norm=minmax),block=64)");
  specs.push_back("rotate(quantize(bits=2,bucket=1024),block=2048,scale=unbiased)");
  specs.push_back("rotate(natural,block=256)");
  specs.push_back("rotate(mx4(round=stochastic),block=512,scale=contractive)");
  specs.push_back("rotate(ternary,block=256)");
  specs.push_back("thc");
  return specs;
}

INSTANTIATE_TEST_SUITE_P(Rotations, Compressors, ::testing::ValuesIn(rotations()), test_name);

constexpr std::size_t kSpan = 16384;

class Spans : public DeviceTest {
 protected:
  /// Elements that are NaN once `spoil` has changed what is encoded (f32 values) or its frame.
  static std::vector<std::size_t> find_nan(std::size_t count, std::size_t value, std::size_t frame_byte) {
    const Compressor compressor = make_compressor("rotate(q4)");
    const device::Stream stream;
    std::vector<float> values = normal_gradients(count, 5);
    if (value < count) values[value] = HUGE_VALF;
    const OnDevice x(values.data(), count * sizeof(float), stream.ref());
    const OnDevice frame(compressor.max_frame_size(count, DType::f32));
    (void)compressor.encode(x.tensor(count), frame.bytes(), {}, {}, stream.ref());
    std::vector<std::byte> bytes = frame.read(stream.ref());
    if (frame_byte < bytes.size()) bytes[frame_byte] ^= std::byte{0x40};
    const OnDevice read(bytes.data(), bytes.size(), stream.ref());
    const OnDevice y(count * sizeof(float));
    (void)compressor.decode(read.bytes(), y.tensor(count), Write::assign, stream.ref());
    const std::vector<std::byte> found = y.read(stream.ref());
    std::vector<std::size_t> nan;
    for (std::size_t i = 0; i < count; ++i)
      if (std::isnan(load_f32(found.data(), DType::f32, i))) nan.push_back(i);
    return nan;
  }
  static std::vector<std::size_t> range(std::size_t first, std::size_t end) {
    std::vector<std::size_t> all;
    for (; first < end; ++first) all.push_back(first);
    return all;
  }
};

TEST_F(Spans, BecomeNaNWhereTheirFrameIsNotTheirs) {
  constexpr std::size_t kNone = ~std::size_t{0};
  const std::size_t frame = make_compressor("q4").max_frame_size(kSpan, DType::f32);
  constexpr std::size_t kFirst = 32;  // behind the header, and the signs' key
  EXPECT_EQ(find_nan(3 * kSpan, kNone, kNone), range(0, 0));
  EXPECT_EQ(find_nan(3 * kSpan, kNone, kFirst + 9), range(0, kSpan));
  EXPECT_EQ(find_nan(3 * kSpan, kNone, kFirst + frame + 9), range(kSpan, 2 * kSpan));
  EXPECT_EQ(find_nan(2 * kSpan + 700, kNone, kFirst + 2 * frame + 5), range(2 * kSpan, 2 * kSpan + 700));
}

TEST_F(Spans, KeepNaNInItsBlock) {
  constexpr std::size_t kNone = ~std::size_t{0};
  constexpr std::size_t kBlock = 4096;
  EXPECT_EQ(find_nan(3 * kSpan, kSpan + 5, kNone), range(kSpan, kSpan + kBlock));
  EXPECT_EQ(find_nan(3 * kSpan, 3 * kSpan - 1, kNone), range(3 * kSpan - kBlock, 3 * kSpan));
}

}  // namespace
}  // namespace gradwire::testing
