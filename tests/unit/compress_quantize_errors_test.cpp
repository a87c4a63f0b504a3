// What quantize would lose with several numbers of bits, by one pass: what encoding with each loses.
#include <fmt/format.h>

#include "compress/isa.hpp"
#include "compress/kernels.hpp"
#include "compress/quantize.hpp"
#include "compress/vector_ops.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

const std::vector<std::uint32_t> kBits{4, 2, 8, 3, 7, 5, 6};

struct Measured {
  std::size_t measured = 0;
  std::vector<double> squares;
};

Measured measure(const QuantizeKernels& table, const QuantizeParams& params, const std::vector<float>& x) {
  Measured result{0, std::vector<double>(kBits.size(), -1)};
  result.measured = table.errors({params, x.data(), x.size(), kBits.data(), kBits.size(), result.squares.data()});
  return result;
}

double encoded_squares(QuantizeParams params, std::uint32_t bits, const std::vector<float>& x) {
  params.bits = bits;
  const Encoded encoded = encode(QuantizeCompressor(params), Values(x, DType::f32).tensor());
  return ops::sum_squares(encoded.residual.data(), encoded.residual.size());
}

void compare(const QuantizeParams& params, const std::vector<float>& x) {
  const Measured expected = measure(isa::scalar_kernels<QuantizeKernels>(), params, x);
  ASSERT_EQ(expected.measured, x.size());
  for (std::size_t w = 0; w < kBits.size(); ++w) {
    EXPECT_EQ(expected.squares[w], encoded_squares(params, kBits[w], x)) << kBits[w] << " bits of " << x.size();
  }
  for (const std::string_view isa : isa::list()) {
    const Measured actual = measure(isa::kernels_of<QuantizeKernels>(isa), params, x);
    EXPECT_EQ(actual.measured, x.size()) << isa;
    EXPECT_EQ(actual.squares, expected.squares) << isa << " of " << x.size();
  }
}

class QuantizeErrors : public ::testing::TestWithParam<Norm> {
 protected:
  [[nodiscard]] static QuantizeParams params(std::uint32_t bucket) { return {4, bucket, GetParam()}; }
};

TEST_P(QuantizeErrors, AreThoseOfEncoding) {
  for (const std::uint32_t bucket : {32u, 96u, 512u, 8192u}) {
    for (const std::size_t count : {std::size_t{1}, std::size_t{17}, std::size_t{bucket} - 1, std::size_t{bucket},
                                    std::size_t{2} * bucket + 1009}) {
      SCOPED_TRACE(bucket);
      compare(params(bucket), mixed_gradients(count, static_cast<unsigned>(count)));
    }
  }
}

/// Buckets whose elements are all the same, all near one value, zero, and so small that they count as zero.
TEST_P(QuantizeErrors, OfFlatBuckets) {
  std::vector<float> x = normal_gradients(1000, 3);
  for (std::size_t i = 0; i < 96; ++i) x[i] = -3;
  for (std::size_t i = 96; i < 192; ++i) x[i] = 1000 + static_cast<float>(i) * 1e-3f;
  for (std::size_t i = 192; i < 288; ++i) x[i] = 0;
  for (std::size_t i = 288; i < 384; ++i) x[i] *= 0x1p-110f;
  for (std::size_t i = 384; i < 480; ++i) x[i] *= 0x1p+50f;
  compare(params(96), x);
  compare(params(96), std::vector<float>(x.begin() + 192, x.begin() + 384));
}

TEST_P(QuantizeErrors, TheSameBucketIsRefused) {
  for (const float bad : {HUGE_VALF, -HUGE_VALF, NAN}) {
    for (const std::size_t place : {0u, 40u, 199u}) {
      std::vector<float> x = normal_gradients(200, 5);
      x[place] = bad;
      for (const std::string_view isa : isa::list())
        EXPECT_EQ(measure(isa::kernels_of<QuantizeKernels>(isa), params(32), x).measured, place / 32 * 32) << isa;
      try {
        (void)quantize_errors({x.data(), x.size()}, params(32), kBits);
        ADD_FAILURE() << "not refused";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), Errc::non_finite);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Norms, QuantizeErrors, ::testing::Values(Norm::linf, Norm::l2, Norm::minmax));

TEST(UniformParams, AreThoseOfQuantizeAlone) {
  for (const char* const spec : {"q4", "q2(bucket=96)", "quantize(bits=8,norm=l2)", "q3(round=stochastic)", "q1"}) {
    const Compressor compressor = make_compressor(spec);
    const std::optional<QuantizeParams> params = uniform_params(compressor);
    ASSERT_TRUE(params) << spec;
    EXPECT_EQ(QuantizeCompressor(*params).spec(), compressor.spec());
    EXPECT_EQ(has_quantize_errors(*params), params->bits > 1 && params->round == Rounding::nearest) << spec;
  }
  for (const char* const spec : {"none", "sign", "ternary", "q4|zstd", "topk(0.1)|q4", "rotate(q4)", "powersgd(2)",
                                 "q4(levels=exponential)", "q4(levels=learned)"}) {
    EXPECT_FALSE(uniform_params(make_compressor(spec))) << spec;
  }
}

TEST(QuantizeBits, AreThoseOfQuantizeAlone) {
  for (const auto& [spec, bits] : {std::pair("q4", 4u), std::pair("q1(bucket=64)", 1u),
                                   std::pair("quantize(norm=l2,bits=8)", 8u), std::pair("q5(levels=exponential)", 5u),
                                   std::pair("q3(levels=learned)", 3u), std::pair("quantize(bucket=64)", 4u)}) {
    EXPECT_EQ(quantize_bits(make_compressor(spec)), bits) << spec;
  }
  for (const char* const spec : {"none", "sign", "ternary", "q4|zstd", "topk(0.1)|q4", "rotate(q4)", "powersgd(2)"})
    EXPECT_FALSE(quantize_bits(make_compressor(spec))) << spec;
}

}  // namespace
}  // namespace gradwire::testing
