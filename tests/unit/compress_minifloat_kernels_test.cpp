// f8, mx* and nvfp4: every instruction set gives the reference's bytes.
#include <fmt/format.h>

#include "compress/minifloat_kernels.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

constexpr std::uint64_t kFirstElements[] = {0, 1, (std::uint64_t{1} << 33) - 70, 0xffff'ffff'ffff'fff0u};

struct Case {
  MinifloatParams params;
  DType dtype;
  std::size_t count;
  std::size_t shift;

  [[nodiscard]] std::string describe() const {
    return fmt::format("format={} scale={} block={} round={} {} count={} shift={}", static_cast<int>(params.format),
                       static_cast<int>(params.scale), params.block, static_cast<int>(params.round), name(dtype), count,
                       shift);
  }
};

struct Result {
  std::size_t encoded;
  std::vector<std::byte> payload;
  Values residual;
  std::vector<Values> decoded;
};

/// Decodes a payload that ends where its allocation ends, in both ways.
std::vector<Values> decode(const MinifloatKernels& table, const Case& c, const std::vector<std::byte>& payload) {
  std::vector<Values> all;
  for (const Write write : {Write::assign, Write::add}) {
    Values y(mixed_gradients(c.count, 99), c.dtype, c.shift);
    table.decode({c.params, payload.data(), y.tensor(), write});
    all.push_back(y);
  }
  return all;
}

/// Encodes with the residual and without, in place and not.
Result run(const MinifloatKernels& table, const Case& c, const Values& x) {
  const std::size_t payload_bytes = MinifloatLayout{c.params, c.count}.payload_bytes();
  const RandomKey key{7, 11, ParamId{13}, kFirstElements[c.count % 4]};
  Result result{0, std::vector<std::byte>(payload_bytes, std::byte{0x77}), Values(c.count, DType::f32, c.shift), {}};
  auto* const residual = static_cast<float*>(result.residual.tensor().data);
  result.encoded = table.encode({c.params, x.tensor(), result.payload.data(), residual, key});

  std::vector<std::byte> again(payload_bytes, std::byte{0x11});
  table.encode({c.params, x.tensor(), again.data(), nullptr, key});
  EXPECT_EQ(again, result.payload) << c.describe();
  if (c.dtype == DType::f32) {
    Values in_place = x;
    auto* const data = static_cast<float*>(in_place.tensor().data);
    table.encode({c.params, in_place.tensor(), again.data(), data, key});
    EXPECT_EQ(again, result.payload) << c.describe();
    EXPECT_EQ(in_place.bytes(), result.residual.bytes()) << c.describe();
  }
  result.decoded = decode(table, c, result.payload);
  return result;
}

void compare_with_reference(const Case& c, const Values& x) {
  const Result expected = run(isa::scalar_kernels<MinifloatKernels>(), c, x);
  ASSERT_EQ(expected.encoded, c.count) << c.describe();
  for (const std::string_view isa : isa::list()) {
    SCOPED_TRACE(fmt::format("{} {}", isa, c.describe()));
    const Result actual = run(isa::kernels_of<MinifloatKernels>(isa), c, x);
    ASSERT_EQ(actual.encoded, expected.encoded);
    ASSERT_EQ(actual.payload, expected.payload);
    ASSERT_EQ(actual.residual.bytes(), expected.residual.bytes());
    for (std::size_t i = 0; i < 2; ++i) ASSERT_EQ(actual.decoded[i].bytes(), expected.decoded[i].bytes());
  }
}

void compare_with_reference(const Case& c) {
  compare_with_reference(
      c, {mixed_gradients(c.count, static_cast<unsigned>(c.count + c.params.options())), c.dtype, c.shift});
}

/// Every format, kind of scale and rounding that a spec can name, with blocks of `block` where a spec names one.
std::vector<MinifloatParams> all_params(std::uint32_t block) {
  std::vector<MinifloatParams> all;
  for (const Rounding round : {Rounding::nearest, Rounding::stochastic}) {
    for (const MinifloatFormat format : {MinifloatFormat::e4m3, MinifloatFormat::e5m2})
      all.push_back({format, MinifloatScale::f32, block, round});
    for (const MinifloatFormat format : {MinifloatFormat::e2m1, MinifloatFormat::e2m3, MinifloatFormat::e3m2,
                                         MinifloatFormat::e4m3, MinifloatFormat::e5m2})
      all.push_back({format, MinifloatScale::e8m0, MinifloatParams::kMxBlock, round});
    all.push_back({MinifloatFormat::e2m1, MinifloatScale::nvfp4, block, round});
  }
  return all;
}

class MinifloatKernelsByBlock : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(MinifloatKernelsByBlock, EqualTheReferenceForEverySpecAndDtype) {
  const std::size_t block = GetParam();
  for (const MinifloatParams& params : all_params(GetParam()))
    for (const DType dtype : kDTypes)
      for (const std::size_t count :
           {std::size_t{0}, std::size_t{1}, std::size_t{15}, std::size_t{16}, std::size_t{17}, std::size_t{31},
            std::size_t{113}, block - 1, block, block + 1, 2 * block + 1009, 5 * block + 2048}) {
        compare_with_reference({params, dtype, count, count % 4});
        if (HasFatalFailure()) return;
      }
}

INSTANTIATE_TEST_SUITE_P(Blocks, MinifloatKernelsByBlock, ::testing::Values(32, 64, 96, 128, 160, 1024, 8160, 8192),
                         ::testing::PrintToStringParamName());

/// Blocks at both ends of the range that has a scale, and below it.
TEST(MinifloatKernels, EqualTheReferenceForEveryMagnitude) {
  for (const MinifloatParams& params : all_params(32))
    for (int exponent = -149; exponent <= 125; exponent += 3) {
      // Exponents differ from block to block, so that flat blocks lie among others.
      Values x(normal_gradients(1077, 5), DType::f32);
      for (std::size_t i = 0; i < 1077; ++i) {
        const int lower = exponent - 100 * static_cast<int>(i / 32 % 5 == 3);
        x.set(i, std::ldexp(std::clamp(x.get(i), -1.9f, 1.9f), lower));
      }
      compare_with_reference({params, DType::f32, 1077, 0}, x);
      if (HasFatalFailure()) return;
    }
}

/// Any payload is read, and as the reference reads it: NaN apart, whose bits are the processor's.
TEST(MinifloatKernels, DecodeGarbageAsTheReference) {
  std::mt19937 engine(5);
  for (const MinifloatParams& params : all_params(96))
    for (const std::size_t count : {1u, 17u, 40u, 333u, 2100u}) {
      std::vector<std::byte> payload(MinifloatLayout{params, count}.payload_bytes());
      for (std::byte& byte : payload) byte = static_cast<std::byte>(engine());
      const Case c{params, DType::f32, count, 1};
      const std::vector<Values> expected = decode(isa::scalar_kernels<MinifloatKernels>(), c, payload);
      for (const std::string_view isa : isa::list()) {
        const std::vector<Values> actual = decode(isa::kernels_of<MinifloatKernels>(isa), c, payload);
        for (std::size_t way = 0; way < 2; ++way)
          for (std::size_t i = 0; i < count; ++i) {
            const float a = actual[way].get(i);
            const float e = expected[way].get(i);
            ASSERT_TRUE(a == e || (std::isnan(a) && std::isnan(e))) << isa << " " << c.describe() << " " << i;
          }
      }
    }
}

TEST(MinifloatKernels, RefuseTheSameBlock) {
  for (const float bad : {std::nanf(""), -std::nanf(""), HUGE_VALF, -HUGE_VALF, 0x1.8p126f})
    for (const MinifloatParams& params : all_params(32))
      for (const std::size_t where : {0u, 7u, 31u, 32u, 64u, 100u, 511u, 512u, 1300u}) {
        Values x(normal_gradients(1301, 5), DType::f32);
        x.set(where, bad);
        std::vector<std::byte> payload(4096);
        const kernels::MinifloatEncode job{params, x.tensor(), payload.data(), nullptr, {}};
        const bool has_scale = params.scale == MinifloatScale::e8m0 && std::isfinite(bad);
        for (const std::string_view isa : isa::list())
          EXPECT_EQ(isa::kernels_of<MinifloatKernels>(isa).encode(job), has_scale ? 1301 : where / 32 * 32)
              << isa << " " << bad << " at " << where;
      }
}

}  // namespace
}  // namespace gradwire::testing
