// Conversions between dtypes and the loops of vector_ops, on every instruction set.
#include <functional>

#include "compress/kernels.hpp"
#include "compress/vector_ops.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

float midpoint(float a, float b) { return static_cast<float>((static_cast<double>(a) + static_cast<double>(b)) / 2); }

/// Rounding is monotonic, so neighbours of all midpoints decide it everywhere.
void check_rounding(const std::function<std::uint16_t(float)>& narrow, const std::function<float(std::uint16_t)>& widen,
                    std::uint16_t largest) {
  for (std::uint32_t bits = 0; bits < largest; ++bits) {
    const auto low = static_cast<std::uint16_t>(bits);
    const auto high = static_cast<std::uint16_t>(bits + 1);
    const float middle = midpoint(widen(low), widen(high));
    const std::uint16_t even = bits % 2 == 0 ? low : high;
    ASSERT_EQ(narrow(widen(low)), low);
    ASSERT_EQ(narrow(middle), even) << bits;
    ASSERT_EQ(narrow(-middle), even | 0x8000) << bits;
    ASSERT_EQ(narrow(std::nextafter(middle, 0.0f)), low) << bits;
    ASSERT_EQ(narrow(std::nextafter(middle, HUGE_VALF)), high) << bits;
  }
}

TEST(Half, F16RoundsToNearestEven) {
  check_rounding(f16_from_f32, f32_from_f16, 0x7bff);
  EXPECT_EQ(f16_from_f32(65519.996f), 0x7bff);
  EXPECT_EQ(f16_from_f32(65520.0f), 0x7c00);
  EXPECT_EQ(f16_from_f32(-HUGE_VALF), 0xfc00);
  EXPECT_EQ(f32_from_f16(0x3c01), 1.0f + 0x1p-10f);
  EXPECT_EQ(f32_from_f16(0x8001), -0x1p-24f);
  EXPECT_TRUE(std::isnan(f32_from_f16(f16_from_f32(std::nanf("")))));
}

TEST(Half, Bf16RoundsToNearestEven) {
  check_rounding(bf16_from_f32, f32_from_bf16, 0x7f7f);
  EXPECT_EQ(bf16_from_f32(0x1.fffffep127f), 0x7f80);
  EXPECT_EQ(f32_from_bf16(0x3f81), 1.0f + 0x1p-7f);
  EXPECT_TRUE(std::isnan(f32_from_bf16(bf16_from_f32(std::nanf("")))));
  EXPECT_TRUE(std::isnan(f32_from_bf16(bf16_from_f32(std::bit_cast<float>(0x7f80'0001u)))));
}

class Ops : public ::testing::TestWithParam<std::string_view> {
 protected:
  const ScopedIsa isa_{GetParam()};
  const ElementKernels& reference_ = isa::scalar_kernels<ElementKernels>();
};

TEST_P(Ops, WidenEveryHalf) {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    std::vector<std::uint16_t> from(0x10000);
    for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::uint16_t>(i);
    std::vector<float> actual(from.size());
    ops::convert({from.data(), from.size(), dtype}, {actual.data(), actual.size()});
    for (std::size_t i = 0; i < from.size(); ++i) {
      const float expected = dtype == DType::f16 ? f32_from_f16(from[i]) : f32_from_bf16(from[i]);
      ASSERT_EQ(std::bit_cast<std::uint32_t>(actual[i]), std::bit_cast<std::uint32_t>(expected)) << i;
    }
  }
}

TEST_P(Ops, NarrowLikeTheScalarCode) {
  std::vector<float> from;
  std::mt19937 engine(2);
  for (int i = 0; i < 200'000; ++i) from.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(engine())));
  for (std::uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const float middle =
        midpoint(f32_from_f16(static_cast<std::uint16_t>(bits)), f32_from_f16(static_cast<std::uint16_t>(bits + 1)));
    for (const float v : {middle, -middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f)})
      from.push_back(v);
  }
  for (const std::uint32_t bits : {0x7f80'0000u, 0xff80'0000u, 0x7f80'0001u, 0xffff'ffffu, 0x7fc0'0000u, 0x477f'efffu,
                                   0x477f'f000u, 0x3380'0000u, 0x3300'0000u, 0x3300'0001u, 0x0000'0001u, 0x8000'0000u})
    from.push_back(std::bit_cast<float>(bits));
  for (const DType dtype : {DType::f16, DType::bf16}) {
    std::vector<std::uint16_t> actual(from.size());
    ops::convert({from.data(), from.size()}, {actual.data(), actual.size(), dtype});
    for (std::size_t i = 0; i < from.size(); ++i) {
      const float value = saturate(from[i], dtype);
      const std::uint16_t expected = dtype == DType::f16 ? f16_from_f32(value) : bf16_from_f32(value);
      ASSERT_EQ(actual[i], expected) << std::bit_cast<std::uint32_t>(from[i]) << " to " << name(dtype);
    }
  }
}

const std::size_t kCounts[] = {0, 1, 15, 16, 17, 31, 127, 1009};

TEST_P(Ops, ConvertBetweenAllDtypes) {
  for (const std::size_t count : kCounts)
    for (const DType from : kDTypes)
      for (const DType to : kDTypes) {
        const Values x(mixed_gradients(count, 1), from, count % 3);
        Values actual(count, to, count % 5);
        Values expected(count, to, count % 5);
        ops::convert(x.tensor(), actual.tensor());
        for (std::size_t i = 0; i < count; ++i) expected.set(i, x.get(i));
        ASSERT_EQ(actual.bytes(), expected.bytes());
      }
}

TEST_P(Ops, ScaleAdd) {
  for (const std::size_t count : kCounts)
    for (const DType dtype : kDTypes) {
      const Values x(mixed_gradients(count, 2), dtype, count % 3);
      const std::vector<float> addend = mixed_gradients(count, 3);
      std::vector<float> sum(count);
      std::vector<float> product(count);
      ops::scale_add(x.tensor(), 0.3f, addend.data(), sum.data());
      ops::scale_add(x.tensor(), 0.3f, nullptr, product.data());
      for (std::size_t i = 0; i < count; ++i) {
        const volatile float scaled = x.get(i) * 0.3f;  // no fused multiply-add
        ASSERT_EQ(product[i], scaled);
        ASSERT_EQ(sum[i], scaled + addend[i]);
      }
      if (dtype != DType::f32) continue;
      std::vector<float> in_place = x.floats();
      ops::scale_add({in_place.data(), count}, 0.3f, addend.data(), in_place.data());
      ASSERT_EQ(in_place, sum);
    }
}

TEST_P(Ops, Add) {
  for (const std::size_t count : kCounts) {
    const std::vector<float> x = mixed_gradients(count, 4);
    const std::vector<float> before = mixed_gradients(count, 5);
    std::vector<float> y = before;
    ops::add(x.data(), y.data(), count);
    for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(y[i], before[i] + x[i]);
  }
}

TEST_P(Ops, AllFiniteSeesEveryPlace) {
  for (const DType dtype : kDTypes) {
    for (const std::size_t count : kCounts)
      EXPECT_TRUE(ops::all_finite(Values(mixed_gradients(count, 6), dtype).tensor()));
    for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF})
      for (std::size_t where = 0; where < 67; ++where) {
        Values x(mixed_gradients(67, 6), dtype);
        x.set(where, bad);
        ASSERT_FALSE(ops::all_finite(x.tensor())) << bad << " at " << where;
      }
  }
}

TEST_P(Ops, SumSquaresIsTheSameEverywhereAndRight) {
  for (const std::size_t count : {0u, 1u, 16u, 17u, 1009u, 1040u, 100'003u}) {
    const std::vector<float> x = normal_gradients(count, 7);
    const double actual = ops::sum_squares(x.data(), count);
    EXPECT_EQ(actual, reference_.sum_squares(x.data(), count)) << count;
    double expected = 0;
    for (const float v : x) expected += static_cast<double>(v) * static_cast<double>(v);
    EXPECT_NEAR(actual, expected, 1e-12 * expected);
  }
}

TEST_P(Ops, CastsEqualTheReference) {
  for (const std::size_t count : kCounts)
    for (const DType from : kDTypes)
      for (const DType to : kDTypes) {
        std::vector<float> values = mixed_gradients(count, 8);
        for (std::size_t i = 0; i < count; i += 3) values[i] *= 0x1p100f;  // beyond f16
        Values x(values, from, count % 3);
        for (std::size_t i = 0; i < count; ++i)
          if (!std::isfinite(x.get(i))) x.set(i, -7.0f);
        std::vector<std::byte> payloads[2];
        Values residuals[2] = {Values(count, DType::f32, 1), Values(count, DType::f32, 1)};
        for (const bool is_reference : {false, true}) {
          const ElementKernels& table = is_reference ? reference_ : isa::kernels<ElementKernels>();
          payloads[is_reference].resize(count * size_of(to) + 1);
          auto* const residual = static_cast<float*>(residuals[is_reference].tensor().data);
          ASSERT_TRUE(table.cast_encode({x.tensor(), payloads[is_reference].data(), to, residual}));
        }
        ASSERT_EQ(payloads[0], payloads[1]);
        ASSERT_EQ(residuals[0].bytes(), residuals[1].bytes());
      }
}

INSTANTIATE_TEST_SUITE_P(Isas, Ops, ::testing::ValuesIn(isa::list()),
                         [](const auto& isa) { return std::string(isa.param); });

}  // namespace
}  // namespace gradwire::testing
