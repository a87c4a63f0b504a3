// Every instruction set gives the reference's bytes.
#include <fmt/format.h>

#include "compress/kernels.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

constexpr std::uint64_t kFirstElements[] = {0, 1, (std::uint64_t{1} << 33) - 70, 0xffff'ffff'ffff'fff0u};

struct QuantizeCase {
  QuantizeParams params;
  DType dtype;
  std::size_t count;
  std::size_t shift;

  [[nodiscard]] std::string describe() const {
    return fmt::format("bits={} bucket={} norm={} round={} levels={} packing={} clip={} {} count={} shift={}",
                       params.bits, params.bucket, static_cast<int>(params.norm), static_cast<int>(params.round),
                       static_cast<int>(params.levels), static_cast<int>(params.packing), params.clip, name(dtype),
                       count, shift);
  }
};

/// Null unless levels are learned: then some that nobody would learn.
const float* codebook_for(const QuantizeParams& params) {
  static constexpr float kTwo[4] = {-0.4f, 0, 0.4f, 0};
  static constexpr float kThree[8] = {-0.9f, -0.4f, -0.1f, 0, 0.1f, 0.4f, 0.9f, 0};
  static constexpr float kFour[16] = {-1,     -0.9f, -0.8f,  -0.3f, -0.125f, -0.01f, -0.001f, 0,
                                      0.001f, 0.01f, 0.125f, 0.3f,  0.8f,    0.9f,   1,       0};
  if (params.levels != Levels::learned) return nullptr;
  return params.bits == 2 ? kTwo : params.bits == 3 ? kThree : kFour;
}

struct QuantizeResult {
  std::size_t encoded;
  std::vector<std::byte> payload;
  Values residual;
  std::vector<Values> decoded;
};

/// Encodes with the residual and without, in place and not, and decodes in all ways.
QuantizeResult run(const QuantizeKernels& table, const QuantizeCase& c, const Values& x) {
  const std::size_t payload_bytes = QuantizeLayout{c.params, c.count}.payload_bytes();
  const RandomKey key{7, 11, ParamId{13}, kFirstElements[c.count % 4]};
  QuantizeResult result{
      0, std::vector<std::byte>(payload_bytes, std::byte{0x77}), Values(c.count, DType::f32, c.shift), {}};
  auto* const residual = static_cast<float*>(result.residual.tensor().data);
  const float* const codebook = codebook_for(c.params);
  result.encoded = table.encode({c.params, x.tensor(), result.payload.data(), residual, key, codebook});

  std::vector<std::byte> again(payload_bytes, std::byte{0x11});
  table.encode({c.params, x.tensor(), again.data(), nullptr, key, codebook});
  EXPECT_EQ(again, result.payload) << c.describe();
  if (c.dtype == DType::f32) {
    Values in_place = x;
    auto* const data = static_cast<float*>(in_place.tensor().data);
    table.encode({c.params, in_place.tensor(), again.data(), data, key, codebook});
    EXPECT_EQ(again, result.payload) << c.describe();
    EXPECT_EQ(in_place.bytes(), result.residual.bytes()) << c.describe();
  }
  for (const Write write : {Write::assign, Write::add}) {
    Values y(mixed_gradients(c.count, 99), c.dtype, c.shift);
    table.decode({c.params, result.payload.data(), y.tensor(), write});
    result.decoded.push_back(y);
  }
  return result;
}

void compare_with_reference(const QuantizeCase& c) {
  const Values x(mixed_gradients(c.count, static_cast<unsigned>(c.count + c.params.bits)), c.dtype, c.shift);
  const QuantizeResult expected = run(isa::scalar_kernels<QuantizeKernels>(), c, x);
  ASSERT_EQ(expected.encoded, c.count) << c.describe();
  for (const std::string_view isa : isa::list()) {
    SCOPED_TRACE(fmt::format("{} {}", isa, c.describe()));
    const QuantizeResult actual = run(isa::kernels_of<QuantizeKernels>(isa), c, x);
    ASSERT_EQ(actual.encoded, expected.encoded);
    ASSERT_EQ(actual.payload, expected.payload);
    ASSERT_EQ(actual.residual.bytes(), expected.residual.bytes());
    for (std::size_t i = 0; i < 2; ++i) ASSERT_EQ(actual.decoded[i].bytes(), expected.decoded[i].bytes());
  }
}

std::vector<std::size_t> counts_for(std::size_t bucket) {
  return {0, 1, 15, 16, 17, 31, 113, bucket - 1, bucket, bucket + 1, 2 * bucket + 1009};
}

class QuantizeKernelsByBucket : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(QuantizeKernelsByBucket, EqualTheReferenceForEverySpecAndDtype) {
  for (const std::uint32_t bits : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u})
    for (const Norm norm : {Norm::linf, Norm::l2, Norm::minmax})
      for (const Rounding round : {Rounding::nearest, Rounding::stochastic})
        for (const DType dtype : kDTypes)
          for (const std::size_t count : counts_for(GetParam())) {
            compare_with_reference({{bits, GetParam(), norm, round}, dtype, count, count % 4});
            if (HasFatalFailure()) return;
          }
}

INSTANTIATE_TEST_SUITE_P(Buckets, QuantizeKernelsByBucket, ::testing::Values(32, 64, 96, 128, 160, 512, 1024),
                         ::testing::PrintToStringParamName());

/// Signs, ternary codes and levels that are not equally spaced.
std::vector<QuantizeParams> other_schemes(std::uint32_t bucket) {
  std::vector<QuantizeParams> all{{1, bucket, Norm::mean, Rounding::nearest}};
  for (const Packing packing : {Packing::planes, Packing::trits})
    for (const float clip : {0.0f, 1.0f, 2.5f})
      all.push_back(
          {2, bucket, clip == 0 ? Norm::linf : Norm::clipped, Rounding::stochastic, Levels::ternary, packing, clip});
  for (const std::uint32_t bits : {2u, 3u, 4u, 5u, 6u, 7u, 8u})
    for (const Norm norm : {Norm::linf, Norm::l2})
      for (const Rounding round : {Rounding::nearest, Rounding::stochastic})
        all.push_back({bits, bucket, norm, round, Levels::exponential});
  for (const std::uint32_t bits : {2u, 3u, 4u})
    all.push_back({bits, bucket, Norm::linf, Rounding::nearest, Levels::learned});
  return all;
}

TEST_P(QuantizeKernelsByBucket, EqualTheReferenceForOtherLevels) {
  for (const QuantizeParams& params : other_schemes(GetParam()))
    for (const DType dtype : kDTypes)
      for (const std::size_t count : counts_for(GetParam())) {
        compare_with_reference({params, dtype, count, count % 4});
        if (HasFatalFailure()) return;
      }
}

TEST(QuantizeKernelsLarge, EqualTheReferenceForOtherLevels) {
  for (const std::uint32_t bucket : {544u, 8160u, 8192u})
    for (const QuantizeParams& params : other_schemes(bucket)) {
      compare_with_reference({params, DType::f32, std::size_t{bucket} * 5 + 17, 0});
      if (HasFatalFailure()) return;
    }
}

/// Bytes that no encoder writes decode alike, too.
TEST(QuantizeKernelsGarbage, DecodesAlike) {
  std::mt19937 engine(3);
  for (const QuantizeParams& params : other_schemes(96)) {
    constexpr std::size_t kCount = 1009;
    const QuantizeLayout layout{params, kCount};
    std::vector<std::byte> payload(layout.payload_bytes());
    for (std::byte& byte : payload) byte = static_cast<std::byte>(engine());
    for (std::size_t i = 0; i < layout.plane_offset(8); i += sizeof(float)) {  // scales without NaN: signs may differ
      const float scale = static_cast<float>(i) * 0.25f;
      std::memcpy(payload.data() + i, &scale, sizeof scale);
    }
    Values expected(mixed_gradients(kCount, 1), DType::f32);
    Values actual = expected;
    isa::scalar_kernels<QuantizeKernels>().decode({params, payload.data(), expected.tensor(), Write::assign});
    for (const std::string_view isa : isa::list()) {
      isa::kernels_of<QuantizeKernels>(isa).decode({params, payload.data(), actual.tensor(), Write::assign});
      ASSERT_EQ(actual.bytes(), expected.bytes())
          << isa << " " << QuantizeCase{params, DType::f32, kCount, 0}.describe();
    }
  }
}

TEST(QuantizeKernelsLarge, EqualTheReference) {
  for (const std::uint32_t bucket : {544u, 8160u, 8192u})
    for (const std::uint32_t bits : {3u, 4u, 8u})
      for (const Norm norm : {Norm::linf, Norm::l2, Norm::minmax})
        for (const Rounding round : {Rounding::nearest, Rounding::stochastic})
          for (const std::size_t count : {std::size_t{bucket} - 1, std::size_t{5} * bucket + 17}) {
            compare_with_reference({{bits, bucket, norm, round}, count % 2 == 0 ? DType::f32 : DType::bf16, count, 0});
            if (HasFatalFailure()) return;
          }
}

/// Around the norm below which l2 buckets are flat: further down, squares lose bits and codes would need a clamp.
TEST(QuantizeKernelsSmallSquares, L2IsFlatBeforeSquaresLoseBits) {
  std::vector<float> x(600);
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = (i % 3 == 0 ? 1.0f : -1.0f) * std::exp2(-80.0f + static_cast<float>(i) * 0.05f);
  for (const std::uint32_t bits : {1u, 2u, 4u, 8u})
    for (const Rounding round : {Rounding::nearest, Rounding::stochastic}) {
      for (const std::size_t count : {1u, 16u, 33u, 600u}) {
        const QuantizeCase c{{bits, 32, Norm::l2, round}, DType::f32, count, 0};
        const Values values(std::vector<float>(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(count)), DType::f32);
        const QuantizeResult expected = run(isa::scalar_kernels<QuantizeKernels>(), c, values);
        for (const std::string_view isa : isa::list()) {
          const QuantizeResult actual = run(isa::kernels_of<QuantizeKernels>(isa), c, values);
          ASSERT_EQ(actual.payload, expected.payload) << isa << " " << c.describe();
          ASSERT_EQ(actual.residual.bytes(), expected.residual.bytes()) << isa << " " << c.describe();
        }
      }
    }
}

TEST(QuantizeKernelsRefuse, TheSameBucketForTheSameReason) {
  constexpr float kHuge = 0x1.8p126f;
  for (const float bad : {std::nanf(""), -std::nanf(""), HUGE_VALF, -HUGE_VALF, kHuge})
    for (const Norm norm : {Norm::linf, Norm::l2, Norm::minmax, Norm::mean, Norm::clipped})
      for (const std::size_t where : {0u, 7u, 31u, 32u, 63u, 64u, 96u, 100u}) {
        Values x(normal_gradients(101, 5), DType::f32);
        x.set(where, bad);
        std::vector<std::byte> payload(4096);
        if (norm == Norm::mean && bad == kHuge) continue;  // 1/32 of it has an inverse
        const QuantizeParams params = norm == Norm::mean ? QuantizeParams{1, 32, norm, Rounding::nearest}
                                      : norm == Norm::clipped
                                          ? QuantizeParams{2, 32, norm, Rounding::stochastic, Levels::ternary, {}, 2.5f}
                                          : QuantizeParams{4, 32, norm, Rounding::nearest};
        const kernels::QuantizeEncode job{params, x.tensor(), payload.data(), nullptr, {}};
        for (const std::string_view isa : isa::list())
          EXPECT_EQ(isa::kernels_of<QuantizeKernels>(isa).encode(job), where / 32 * 32)
              << isa << " " << bad << " at " << where;
      }
}

}  // namespace
}  // namespace gradwire::testing
