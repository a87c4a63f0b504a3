// rotate: the transform and its kernels, and what it does to errors.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "base/fail.hpp"
#include "compress/rotate.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

const kernels::SignKey kSigns{{0x1234'5678u, 0x9abc'def0u}, 0xffff'fff0u};

std::vector<std::size_t> sizes() {
  std::vector<std::size_t> all;
  for (std::size_t size = kernels::kMinRotation; size <= kernels::kMaxRotation; size *= 2) all.push_back(size);
  return all;
}

double squares(const std::vector<float>& x) {
  double sum = 0;
  for (const float v : x) sum += static_cast<double>(v) * static_cast<double>(v);
  return sum;
}

/// ||x - C(x)||^2 / ||x||^2, the mean of a few draws.
double relative_error(const std::string& spec, const std::vector<float>& x) {
  const Compressor compressor = make_compressor(spec);
  double error = 0;
  constexpr int kDraws = 10;
  for (int draw = 0; draw < kDraws; ++draw) {
    const RandomKey key{1, static_cast<std::uint64_t>(draw), ParamId{2}, 0};
    error += squares(encode(compressor, {x.data(), x.size()}, key).residual) / kDraws;
  }
  return error / squares(x);
}

class RotateKernelsBySize : public ::testing::TestWithParam<std::size_t> {};

TEST_P(RotateKernelsBySize, ForwardEqualsTheReference) {
  const std::size_t size = GetParam();
  for (const DType dtype : kDTypes)
    for (const std::size_t count : {size, size - 1, size / 2 + 1, std::size_t{1}, std::size_t{17}})
      for (const std::size_t shift : {0u, 1u, 4u}) {
        const Values x(mixed_gradients(count, static_cast<unsigned>(size + count)), dtype, shift);
        std::vector<float> expected(size);
        ASSERT_TRUE(isa::scalar_kernels<RotateKernels>().forward({x.tensor(), size, kSigns, expected.data(), 0}));
        for (const std::string_view isa : isa::list()) {
          std::vector<float> y(size, 7.0f);
          ASSERT_TRUE(isa::kernels_of<RotateKernels>(isa).forward({x.tensor(), size, kSigns, y.data(), 0}));
          ASSERT_EQ(std::memcmp(y.data(), expected.data(), size * sizeof(float)), 0)
              << isa << " " << name(dtype) << " " << count << " of " << size;
        }
      }
}

TEST_P(RotateKernelsBySize, InverseProductsAndClampEqualTheReference) {
  const std::size_t size = GetParam();
  const std::vector<float> x = mixed_gradients(size, 5);
  const std::vector<float> other = normal_gradients(size, 6);
  const RotateKernels& reference = isa::scalar_kernels<RotateKernels>();
  for (const std::string_view isa : isa::list()) {
    const RotateKernels& table = isa::kernels_of<RotateKernels>(isa);
    for (const bool negate : {false, true}) {
      std::vector<float> expected = x;
      std::vector<float> v = x;
      reference.inverse({expected.data(), size, kSigns, 0.3f, negate, nullptr});
      table.inverse({v.data(), size, kSigns, 0.3f, negate, nullptr});
      ASSERT_EQ(std::memcmp(v.data(), expected.data(), size * sizeof(float)), 0) << isa << " " << size;
    }
    const kernels::Products expected = reference.products(x.data(), other.data(), size);
    const kernels::Products products = table.products(x.data(), other.data(), size);
    EXPECT_EQ(products.yy, expected.yy) << isa;
    EXPECT_EQ(products.yq, expected.yq) << isa;
    EXPECT_EQ(products.qq, expected.qq) << isa;
    std::vector<float> clamped(size);
    std::vector<float> expected_clamped(size);
    table.clamp(x.data(), size, 0.7f, clamped.data());
    reference.clamp(x.data(), size, 0.7f, expected_clamped.data());
    EXPECT_EQ(clamped, expected_clamped) << isa;
  }
}

TEST_P(RotateKernelsBySize, InverseUndoesForward) {
  const std::size_t size = GetParam();
  const std::vector<float> x = normal_gradients(size, 8);
  std::vector<float> v(size);
  const RotateKernels& table = isa::kernels<RotateKernels>();
  ASSERT_TRUE(table.forward({{x.data(), size}, size, kSigns, v.data(), 0}));
  EXPECT_NEAR(squares(v) / squares(x), 1, 1e-5);
  table.inverse({v.data(), size, kSigns, rotation_factor(size), false, v.data()});
  for (std::size_t i = 0; i < size; ++i) ASSERT_NEAR(v[i], x[i], 4e-6) << i;
}

/// Row by row against the definition: element i of H e_j is 1 or -1 as i and j have an even or odd number of bits in
/// common.
TEST_P(RotateKernelsBySize, TransformsUnitVectorsAsDefined) {
  const std::size_t size = GetParam();
  for (const std::size_t j : {std::size_t{0}, std::size_t{1}, size / 2, size - 1, std::size_t{13}}) {
    std::vector<float> x(size, 0.0f);
    x[j] = 1.0f;
    std::vector<float> y(size);
    ASSERT_TRUE(isa::kernels<RotateKernels>().forward({{x.data(), size}, size, kSigns, y.data(), 0}));
    const std::uint32_t word = RandomStream::hash(kSigns.word + static_cast<std::uint32_t>(j / 32), kSigns.keys);
    const float sign = (word >> (j % 32) & 1) != 0 ? -1.0f : 1.0f;
    for (std::size_t i = 0; i < size; ++i)
      ASSERT_EQ(y[i], (__builtin_popcountll(i & j) % 2 != 0 ? -sign : sign) * rotation_factor(size)) << i;
  }
}

TEST_P(RotateKernelsBySize, RefusesWhatIsNotFiniteOrTooLarge) {
  const std::size_t size = GetParam();
  for (const std::string_view isa : isa::list())
    for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF, -0x1.000002p112f})
      for (const std::size_t where : {std::size_t{0}, size / 2 + 3, size - 1}) {
        std::vector<float> x = normal_gradients(size, 2);
        std::vector<float> y(size);
        const kernels::RotateForward job{{x.data(), size}, size, kSigns, y.data(), 0};
        x[where] = 0x1p112f;
        EXPECT_TRUE(isa::kernels_of<RotateKernels>(isa).forward(job)) << isa;
        x[where] = bad;
        EXPECT_FALSE(isa::kernels_of<RotateKernels>(isa).forward(job)) << isa << " " << bad << " at " << where;
      }
}

INSTANTIATE_TEST_SUITE_P(Sizes, RotateKernelsBySize, ::testing::ValuesIn(sizes()), ::testing::PrintToStringParamName());

/// Whole frames, so that spans, tails and the inner frames' keys are seen too.
TEST(Rotate, FramesEqualTheReferenceOverManySpans) {
  for (const char* spec :
       {"rotate(q4)", "rotate(q2(round=stochastic),block=1024,scale=unbiased)",
        "rotate(q1(bucket=64,norm=l2),block=64,scale=contractive)", "rotate(q3,clip=2.1,scale=contractive)"}) {
    const Compressor compressor = make_compressor(spec);
    for (const std::size_t count : {std::size_t{16384}, std::size_t{16385}, std::size_t{50'021}}) {
      const std::vector<float> x = mixed_gradients(count, 12);
      const RandomKey key{1, 2, ParamId{3}, 12345};
      const Encoded expected = [&] {
        const ScopedIsa scope("scalar");
        return encode(compressor, {x.data(), count}, key);
      }();
      for (const std::string_view isa : isa::list()) {
        const ScopedIsa scope(isa);
        const Encoded actual = encode(compressor, {x.data(), count}, key);
        EXPECT_EQ(actual.frame, expected.frame) << isa << " " << spec << " " << count;
        EXPECT_EQ(actual.residual, expected.residual) << isa << " " << spec << " " << count;
      }
    }
  }
}

std::vector<float> heavy_tailed(std::size_t count) {
  std::vector<float> x = normal_gradients(count, 4);
  for (float& v : x) v = v * v * v * v * v;
  return x;
}

TEST(Rotate, MakesLowBitsUsableOnHeavyTails) {
  const std::vector<float> x = heavy_tailed(65536);
  const double plain = relative_error("q2", x);
  const double rotated = relative_error("rotate(q2,clip=1.2,scale=contractive)", x);
  EXPECT_GT(plain, 0.35);
  EXPECT_LT(rotated, 0.2);  // the best three levels of a normal distribution have 0.19
  EXPECT_LT(relative_error("rotate(q4)", x), 0.4 * relative_error("q4", x));
  EXPECT_LT(relative_error("rotate(q4,clip=2.7)", x), 0.3 * relative_error("q4", x));
  // The error no longer depends on the tail.
  const std::vector<float> normal = normal_gradients(65536, 9);
  EXPECT_NEAR(relative_error("rotate(q4)", x), relative_error("rotate(q4)", normal), 0.1 * 0.05);
}

/// DRIVE: 1 - 2/pi with the contractive scale, pi/2 - 1 with the unbiased one, whatever the input.
TEST(Rotate, OneBitErrsByDrivesConstants) {
  const std::string one_bit = "rotate(q1(bucket=4096),block=4096,scale=";
  for (const std::vector<float>& x : {heavy_tailed(65536), normal_gradients(65536, 9)}) {
    EXPECT_NEAR(relative_error(one_bit + "contractive)", x), 1 - 2 / M_PI, 0.02);
    EXPECT_NEAR(relative_error(one_bit + "unbiased)", x), M_PI / 2 - 1, 0.03);
  }
}

/// The mean of n unbiased estimates has an n-th of the error; that of contractive ones keeps its bias.
TEST(Rotate, UnbiasedEstimatesAverageOut) {
  const std::vector<float> x = heavy_tailed(4096);
  for (const auto& [scale, low, high] : {std::tuple{"unbiased", 0.0, 0.04}, std::tuple{"contractive", 0.1, 0.4}}) {
    const Compressor compressor = make_compressor(fmt::format("rotate(q1(bucket=4096),scale={})", scale));
    constexpr int kDraws = 32;
    std::vector<float> mean_error(x.size(), 0.0f);
    for (int draw = 0; draw < kDraws; ++draw) {
      const Encoded encoded =
          encode(compressor, {x.data(), x.size()}, {1, 1000 + static_cast<std::uint64_t>(draw), ParamId{2}, 0});
      for (std::size_t i = 0; i < x.size(); ++i) mean_error[i] += encoded.residual[i] / kDraws;
    }
    EXPECT_GE(squares(mean_error) / squares(x), low) << scale;
    EXPECT_LE(squares(mean_error) / squares(x), high) << scale;
  }
}

/// An inner compressor whose frames vary in size, and which refuses some payloads: f32 without the zeros at the end.
class Trimmed {
 public:
  [[nodiscard]] std::string_view spec() const noexcept { return "trimmed"; }
  [[nodiscard]] CompressorTraits traits() const noexcept {
    CompressorTraits traits;
    traits.fixed_size = false;
    return traits;
  }
  [[nodiscard]] std::size_t max_frame_size(std::size_t count, DType) const { return 32 + frame::align_up(4 * count); }
  std::size_t encode(ConstTensor x, Bytes out, Tensor, const RandomKey&, StreamRef) const {
    const auto* const values = static_cast<const float*>(x.data);
    std::uint32_t kept = static_cast<std::uint32_t>(x.count);
    while (kept > 0 && values[kept - 1] == 0) --kept;
    const std::size_t size = max_frame_size(kept, DType::f32);
    std::memset(out.data, 0, size);
    frame::write_header(out.data, {kCodec, x.dtype, 7, static_cast<std::uint32_t>(x.count),
                                   static_cast<std::uint32_t>(size / frame::kAlign)});
    std::memcpy(out.data + 16, &kept, sizeof kept);
    if (kept > 0) std::memcpy(out.data + 32, values, 4 * std::size_t{kept});
    return size;
  }
  std::size_t decode(ConstBytes in, Tensor y, Write, StreamRef) const {
    const frame::Header header = frame::read_header(in, {kCodec, 7, y.count, spec()});
    std::uint32_t kept = 0;
    frame::check_size(in, header, std::size_t{header.blocks} * frame::kAlign, spec());
    std::memcpy(&kept, in.data + 16, sizeof kept);
    if (kept > y.count) fail(Errc::bad_frame, "{} of {} kept", kept, y.count);
    frame::check_size(in, header, max_frame_size(kept, DType::f32), spec());
    std::memset(y.data, 0, y.bytes());
    if (kept > 0) std::memcpy(y.data, in.data + 32, 4 * std::size_t{kept});
    return std::size_t{header.blocks} * frame::kAlign;
  }
  [[nodiscard]] double error_bound(std::size_t) const { return 0; }

 private:
  static constexpr frame::Codec kCodec{200};
};

TEST(Rotate, InnerFramesMayVaryInSizeAndBeRefused) {
  RotateParams params;
  params.block = 64;
  const Compressor compressor = RotateCompressor(params, Trimmed());
  EXPECT_FALSE(compressor.traits().fixed_size);
  const std::size_t count = 40'000;  // three spans, the second of zeros
  std::vector<float> x = normal_gradients(count, 1);
  std::fill(x.begin() + 16384, x.begin() + 2 * 16384, 0.0f);
  const Encoded encoded = encode(compressor, {x.data(), count});
  EXPECT_LT(encoded.frame.size() + 60'000, compressor.max_frame_size(count, DType::f32));
  const std::vector<float> decoded = decode(compressor, encoded, count);
  for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(encoded.residual[i], x[i] - decoded[i]) << i;

  std::vector<float> y(count, 3.0f);
  const auto decode_code = [&](const std::vector<std::byte>& bytes) {
    return code_of([&] { compressor.decode({bytes.data(), bytes.size()}, {y.data(), count}, Write::assign); });
  };
  std::vector<std::byte> bad = encoded.frame;
  const std::size_t second = 32 + 32 + 4 * 16384;  // the second inner frame
  bad[second + 16] = std::byte{1};                 // says that it keeps an element
  EXPECT_EQ(decode_code(bad), Errc::bad_frame);
  bad = encoded.frame;
  bad.resize(bad.size() + 16);
  bad[12] ^= std::byte{1};  // one unit more or less
  EXPECT_EQ(decode_code(bad), Errc::bad_frame);
  for (std::size_t size = 0; size < encoded.frame.size(); size += 997)
    EXPECT_EQ(decode_code({encoded.frame.begin(), encoded.frame.begin() + static_cast<std::ptrdiff_t>(size)}),
              Errc::bad_frame);
  EXPECT_EQ(y, std::vector<float>(count, 3.0f)) << "output of a bad frame was touched";
}

TEST(Rotate, SpecsAreCheckedByName) {
  const auto message_of = [](const char* spec) {
    std::string message;
    EXPECT_EQ(code_of([&] { (void)make_compressor(spec); }, &message), Errc::invalid_argument) << spec;
    return message;
  };
  EXPECT_THAT(message_of("rotate(q4,block=96)"), HasSubstr("powers of two in 32..8192"));
  EXPECT_THAT(message_of("rotate(rotate(q4))"), HasSubstr("already rotated"));
  for (const char* hidden :
       {"rotate(rotate(q4)|zstd)", "rotate(thc|zstd,block=64)", "rotate(rotate(q4,block=64)|zstd(3))"})
    EXPECT_THAT(message_of(hidden), HasSubstr("already rotated"));
  EXPECT_THAT(message_of("rotate(q4(bucket=8160),block=8192)"), HasSubstr("least common multiple"));
  EXPECT_THAT(message_of("rotate(q4,scale=2)"), HasSubstr("unbiased"));
  EXPECT_EQ(make_compressor("rotate").spec(), make_compressor("rotate(inner=q4,block=4096,scale=none,clip=0)").spec());
  EXPECT_EQ(make_compressor(make_compressor("rotate(q2,clip=1.2)").spec()).spec(),
            make_compressor("rotate(q2,clip=1.20)").spec());
}

}  // namespace
}  // namespace gradwire::testing
