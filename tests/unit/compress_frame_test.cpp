// Frames against docs/wire-format.md by hand, and frames that are none.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <memory>

#include "compress/random.hpp"
#include "unit/compress_specs.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

struct Golden {
  const char* title;
  const char* spec;
  std::vector<float> x;
  DType dtype;
  const char* hex;  ///< of the frame; spaces are for the reader
};

std::string hex(const std::vector<std::byte>& bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return text;
}

std::string without_spaces(std::string text) {
  std::erase(text, ' ');
  return text;
}

/// 2, -2, 0, 0 and 2 in the first column of 16, no more in the last row.
std::vector<float> five_rows() {
  std::vector<float> x(65, 0.0f);
  x[0] = x[64] = 2;
  x[16] = -2;
  return x;
}

/// Worked out by hand.
std::vector<Golden> simple_goldens() {
  return {
      {"empty", "none", {}, DType::f32, "c7010100 00000000 00000000 01000000"},
      {"none",
       "none",
       {1.0f, -2.0f},
       DType::bf16,
       "c7010102 00000000 02000000 02000000  803f 00c0 000000000000000000000000"},
      {"f16 saturates",
       "f16",
       {1.0f, -2.0f, 1e6f, -1e6f, 0x1p-24f},
       DType::f32,
       "c7010200 00000000 05000000 02000000  003c 00c0 ff7b fffb 0100 000000000000"},
      {"bf16 rounds to even",
       "bf16",
       {1.0f, 0x1.01p0f, 0x1.03p0f, 0x1.0101p0f, 0x1.fffffep127f},
       DType::f32,
       "c7010300 00000000 05000000 02000000  803f 803f 823f 813f 7f7f 000000000000"},
      // s = 7: unit and inv are 1; 3.5, 2.5 and -0.5 go to the even neighbour; row 1 is in the high nibbles.
      {"q4",
       "q4(bucket=32)",
       {7, -7, 3.5f, 2.5f, -0.5f, 1, 2, 3, 4, 5, 6, -1, -2, -3, -4, -5, -6, 7},
       DType::f32,
       "c7010400 04000100 12000000 03000000  0000803f 000000000000000000000000  1ee00b0907 08090a0b0c0d 0605040302"},
      {"q8",
       "q8",
       {127, -127, 0.5f, 1.5f},
       DType::f32,
       "c7010400 08001000 04000000 03000000  0000803f 000000000000000000000000  fe007f81 000000000000000000000000"},
      // min -1, unit 1: codes 0 to 7 in a plane of two bits and one of one.
      {"three bits in two planes",
       "quantize(bits=3,norm=minmax,bucket=8192)",
       {-1, 0, 1, 2, 3, 4, 5, 6},
       DType::f32,
       "c7010400 03020001 08000000 04000000  0000803f 000080bf 0000000000000000"
       "0001020300010203 0000000000000000  0000000001010101 0000000000000000"},
      {"one bit",
       "q1(norm=l2,bucket=64)",
       {3, -4},
       DType::f16,
       "c7010401 01010200 02000000 03000000  0000a040 000000000000000000000000  01000000000000000000000000000000"},
      // Magnitudes 0.5 to 3 and a zero in a bucket of 4: the mean is 1.5, -0 has the sign of 0.
      {"sign",
       "sign(bucket=32)",
       {2.5f, -3, -0.0f, -0.5f},
       DType::f32,
       "c7010400 01030100 04000000 03000000  0000c03f 000000000000000000000000  01000100000000000000000000000000"},
      // s = 8, levels 8, 4, 2 and 0; 3 is half-way and goes up, as does 1.
      {"exponential",
       "q3(levels=exponential,bucket=32)",
       {8, -4, 3, -2.9f, 1, -0.9f, 6, -5.9f},
       DType::f32,
       "c7010400 03000104 08000000 04000000  00000041 000000000000000000000000"
       "0201010200030201 0000000000000000  0100010001000100 0000000000000000"},
      // Elements 0, 16, 32, 48, 64 share a byte: codes 2, 0, 1, 1, 2 are 2 + 9 + 27 + 162. Only exact multiples of s.
      {"trits", "ternary(bucket=96,pack=trits)", five_rows(), DType::f32,
       "c7010500 01000300 41000000 03000000  00000040 000000000000000000000000  c8 282828282828282828282828282828"},
      {"natural",
       "natural(nearest)",
       {1, -2, 3, 0x1p-90f, -0x1p-100f, -1e20f},
       DType::f32,
       "c7010600 00000000 06000000 02000000  5bdc5d0100ff 00000000000000000000"},
      // s = 8: beside 0, all are nearer to 3/4 than to 0 and have it as their centroid; 3 is half-way and goes up.
      {"learned",
       "q2(levels=learned,bucket=32)",
       {8, -8, 0, 3, -5},
       DType::f32,
       "c7010700 02000100 05000000 04000000  000040bf 00000000 0000403f 00000000  00000041 000000000000000000000000"
       "0200010200 0000000000000000000000"},
  };
}

/// From independent implementations of docs/wire-format.md.
std::vector<Golden> involved_goldens() {
  return {
      // Section 2 with key (1, 2, 3, 101).
      {"stochastic",
       "q4(round=stochastic)",
       {1, -1, 0.5f, 0.25f, -0.125f, 0.3f, -0.7f, 0.01f, 0, -0.01f, 0.9f, -0.9f, 0.33f, -0.33f, 0.66f, -0.66f, 0.05f},
       DType::f32,
       "c7010400 04001002 11000000 03000000  2549123e 000000000000000000000000  7e000b090609030707070d0109050c03"},
      // Sections 1.9 and 1.10.
      {"rotated, with padding",
       "rotate(q4(bucket=32),block=32)",
       {1, -2, 0.5f},
       DType::f32,
       "c7010900 05000000 03000000 05000000  2bd35e24 d7e26a32 03000000 00000000"
       "c7010400 04000100 20000000 03000000  f204b53d 000000000000000000000000  66ee44cc66ee44cc66ee44cc66ee44cc"},
      {"one bit, rotated and rescaled, two blocks",
       "rotate(q1(bucket=32),block=32,scale=unbiased)",
       {-16, -15, -14, -13, -12, -11, -10, -9, -8, -7, -6, -5, -4, -3, -2, -1, 0,
        1,   2,   3,   4,   5,   6,   7,   8,  9,  10, 11, 12, 13, 14, 15, 16},
       DType::f32,
       "c7010900 05020000 21000000 06000000  2bd35e24 d7e26a32 03000000 00000000  24b80f3f 0000803f 0000000000000000"
       "c7010400 01000100 40000000 03000000  6838a141 f3043540 0000000000000000  0c0d0e0f0d0e0e0d0c0e0d0d0c0d0f0c"},
      {"thc",
       "thc(2,block=32)",
       {9, 1, -1, 0.5f, -0.25f, 2, 3, -4},
       DType::f32,
       "c7010a00 05000000 08000000 05000000  2bd35e24 d7e26a32 03000000 00000000"
       "c7010400 02020102 20000000 03000000  45fe833f b8c3073e 0000000000000000  0f010105000a0b090f000006000a0b0a"},
  };
}

const std::vector<Golden>& goldens() {
  static const std::vector<Golden> all = [] {
    std::vector<Golden> both = simple_goldens();
    for (Golden& golden : involved_goldens()) both.push_back(std::move(golden));
    return both;
  }();
  return all;
}

TEST(Frame, GoldenBytes) {
  for (const std::string_view isa : isa::list()) {
    const ScopedIsa scope(isa);
    for (const Golden& golden : goldens()) {
      const Values x(golden.x, golden.dtype);
      const Encoded encoded = encode(make_compressor(golden.spec), x.tensor(), {1, 2, ParamId{3}, 101});
      EXPECT_EQ(hex(encoded.frame), without_spaces(golden.hex)) << isa << ": " << golden.title;
    }
  }
}

TEST(RandomNumbers, GoldenValues) {
  const auto at = [](std::uint64_t seed, std::uint64_t step, std::uint32_t param, std::uint64_t element) {
    return RandomStream({seed, step, ParamId{param}, 0}).at(element);
  };
  EXPECT_EQ(at(0, 0, 0, 0), 0xe851);
  EXPECT_EQ(at(0, 0, 0, 1), 0x38a0);
  EXPECT_EQ(at(1, 2, 3, 4), 0xd080);
  EXPECT_EQ(at(1, 2, 3, 5), 0x5695);
  EXPECT_EQ(at(1, 2, 3, (std::uint64_t{1} << 33) + 6), 0x63e0);
  EXPECT_EQ(at(~0ull, ~0ull, ~0u, ~0ull), 0xf2dd);
}

constexpr std::size_t kCount = 1009;

class BadFrames : public ::testing::TestWithParam<std::string> {
 protected:
  /// Decodes bytes that end where their allocation ends, so that a sanitizer sees a read behind them.
  Errc decode(const std::vector<std::byte>& bytes, std::size_t size, std::size_t count,
              std::string* message = nullptr) {
    const std::unique_ptr<std::byte[]> copy(new std::byte[size]);
    std::copy_n(bytes.begin(), size, copy.get());
    Values y(normal_gradients(count, 3), DType::f32);
    const std::vector<std::byte> before = y.bytes();
    const Errc code = code_of([&] { compressor_.decode({copy.get(), size}, y.tensor(), Write::add); }, message);
    EXPECT_TRUE(code == Errc::ok || y.bytes() == before) << "output of a bad frame was touched";
    return code;
  }

  Compressor compressor_ = make_compressor(GetParam());
  std::vector<std::byte> frame_ = encode(compressor_, Values(normal_gradients(kCount, 1), DType::f32).tensor()).frame;
};

TEST_P(BadFrames, TruncatedAnywhere) {
  EXPECT_EQ(decode(frame_, frame_.size(), kCount), Errc::ok);
  for (std::size_t size = 0; size < frame_.size(); ++size)
    ASSERT_EQ(decode(frame_, size, kCount), Errc::bad_frame) << size;
}

TEST_P(BadFrames, AnyFlippedHeaderBitButOfTheDtype) {
  for (std::size_t bit = 0; bit < 128; ++bit) {
    std::vector<std::byte> bad = frame_;
    bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    const bool other_dtype = bit == 24 || bit == 25;
    // The payload of `none` depends on the dtype, and what stands in front of zstd has a dtype of its own.
    const bool payload_is_alike = GetParam() != "none" && GetParam().find("|zstd") == std::string::npos;
    const Errc expected = other_dtype && payload_is_alike ? Errc::ok : Errc::bad_frame;
    ASSERT_EQ(decode(bad, bad.size(), kCount), expected) << "bit " << bit;
  }
}

TEST_P(BadFrames, OfAnotherCount) {
  std::string message;
  EXPECT_EQ(decode(frame_, frame_.size(), kCount - 1, &message), Errc::bad_frame);
  EXPECT_THAT(message, HasSubstr("1009"));
  EXPECT_THAT(message, HasSubstr("1008"));
  EXPECT_EQ(decode(frame_, frame_.size(), 0), Errc::bad_frame);
}

TEST_P(BadFrames, OfAnotherCompressor) {
  for (const char* other : {"none", "f16", "bf16", "q4", "q8", "q4(bucket=1024)", "q4(norm=l2)", "q4(round=stochastic)",
                            "q4(levels=exponential)", "q4(levels=learned)", "sign", "q1", "ternary",
                            "ternary(pack=trits)", "natural", "natural(nearest)"}) {
    const Compressor compressor = make_compressor(other);
    if (compressor.spec() == compressor_.spec()) continue;
    const Encoded encoded = encode(compressor, Values(normal_gradients(kCount, 1), DType::f32).tensor());
    // Some options are the encoder's alone: frames that say the same of themselves are read alike.
    const bool alike = std::equal(frame_.begin() + 2, frame_.begin() + 8, encoded.frame.begin() + 2);
    EXPECT_EQ(decode(encoded.frame, encoded.frame.size(), kCount), alike ? Errc::ok : Errc::bad_frame) << other;
  }
}

TEST_P(BadFrames, GarbageNeverHarms) {
  std::mt19937 engine(17);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::byte> garbage(engine() % (2 * frame_.size()));
    for (std::byte& byte : garbage) byte = static_cast<std::byte>(engine());
    EXPECT_EQ(decode(garbage, garbage.size(), kCount), Errc::bad_frame);
    std::vector<std::byte> payload_garbage = frame_;
    for (std::size_t i = 16; i < frame_.size(); ++i) payload_garbage[i] = static_cast<std::byte>(engine());
    const Errc code = decode(payload_garbage, payload_garbage.size(), kCount);
    // Where the size depends on the data, or a frame is inside the frame, the payload says things that can be wrong.
    const bool has_inner_frames = compressor_.spec().starts_with("rotate") || compressor_.spec().starts_with("thc");
    const bool can_be_bad = has_inner_frames || !compressor_.traits().fixed_size;
    EXPECT_TRUE(code == Errc::ok || (code == Errc::bad_frame && can_be_bad));
  }
}

TEST_P(BadFrames, BytesBehindTheFrameAreNotItsOwn) {
  std::vector<std::byte> longer = frame_;
  longer.resize(longer.size() + 48, std::byte{0xEE});
  std::vector<float> y(kCount);
  EXPECT_EQ(compressor_.decode({longer.data(), longer.size()}, {y.data(), kCount}, Write::assign), frame_.size());
}

INSTANTIATE_TEST_SUITE_P(Compressors, BadFrames, ::testing::ValuesIn(conformance_specs()));

TEST(Arguments, AreCheckedByName) {
  const Compressor q4 = make_compressor("q4");
  std::vector<float> x(100, 1.0f);
  std::vector<std::byte> out(q4.max_frame_size(100, DType::f32));
  const Bytes frame{out.data(), out.size()};
  std::string message;
  const auto encode_code = [&](ConstTensor in, Bytes to, Tensor residual, StreamRef stream = StreamRef::host()) {
    return code_of([&] { q4.encode(in, to, residual, {}, stream); }, &message);
  };
  const ConstTensor in(x.data(), 100);
  EXPECT_EQ(encode_code(in, frame.slice(0, out.size() - 1), {}), Errc::invalid_argument);
  EXPECT_THAT(message, HasSubstr(std::to_string(out.size())));
  EXPECT_EQ(encode_code(in, frame, {x.data(), 99}), Errc::invalid_argument);
  EXPECT_EQ(encode_code(in, frame, {x.data(), 100, DType::f16}), Errc::invalid_argument);
  EXPECT_EQ(encode_code({nullptr, 100}, frame, {}), Errc::invalid_argument);
  EXPECT_EQ(encode_code({x.data(), 100, DType::f32, Space::device}, frame, {}), Errc::unsupported);
  EXPECT_EQ(encode_code(in, {out.data(), out.size(), Space::device}, {}), Errc::unsupported);
  EXPECT_EQ(encode_code(in, frame, {x.data(), 100, DType::f32, Space::device}), Errc::unsupported);
  EXPECT_EQ(encode_code(in, frame, {}, StreamRef(&message)), Errc::unsupported);
  EXPECT_EQ(code_of([&] { (void)q4.max_frame_size(std::size_t{1} << 32, DType::f32); }), Errc::invalid_argument);

  ASSERT_EQ(encode_code(in, frame, {}), Errc::ok);
  const auto decode_code = [&](ConstBytes from, Tensor y, StreamRef stream = StreamRef::host()) {
    return code_of([&] { q4.decode(from, y, Write::assign, stream); });
  };
  EXPECT_EQ(decode_code(frame, {nullptr, 100}), Errc::invalid_argument);
  EXPECT_EQ(decode_code(frame, {x.data(), 100, DType::f32, Space::device}), Errc::unsupported);
  EXPECT_EQ(decode_code({out.data(), out.size(), Space::device}, {x.data(), 100}), Errc::unsupported);
  EXPECT_EQ(decode_code(frame, {x.data(), 100}, StreamRef(&message)), Errc::unsupported);
  EXPECT_EQ(decode_code({nullptr, 0}, {x.data(), 100}), Errc::bad_frame);
}

}  // namespace
}  // namespace gradwire::testing
