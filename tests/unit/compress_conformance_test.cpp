// What every compressor promises, for every input dtype and instruction set.
#include <gmock/gmock.h>

#include "support/test_name.hpp"
#include "unit/compress_specs.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

const std::size_t kCounts[] = {0, 1, 2, 15, 16, 17, 31, 33, 511, 512, 513, 1000, 4099};

using Param = std::tuple<std::string, DType, std::string_view>;

class Conformance : public ::testing::TestWithParam<Param> {
 protected:
  const Compressor compressor_ = make_compressor(std::get<0>(GetParam()));
  const DType dtype_ = std::get<1>(GetParam());
  const ScopedIsa isa_{std::get<2>(GetParam())};
  const RandomKey key_{3, 5, ParamId{8}, 4096};

  /// Elements of the dtype, already rounded to it.
  [[nodiscard]] Values input(std::size_t count) const { return {mixed_gradients(count, 21), dtype_}; }
};

std::string param_name(const ::testing::TestParamInfo<Param>& info) {
  return as_test_name(std::get<0>(info.param) + "_" + std::string(name(std::get<1>(info.param))) + "_" +
                      std::string(std::get<2>(info.param)));
}

TEST_P(Conformance, FrameSizeIsAsPromised) {
  for (const std::size_t count : kCounts) {
    const Encoded encoded = encode(compressor_, input(count).tensor(), key_);
    EXPECT_EQ(encoded.frame.size() % 16, 0u);
    const std::size_t most = compressor_.max_frame_size(count, dtype_);
    EXPECT_TRUE(encoded.frame.size() == most || !compressor_.traits().fixed_size)
        << encoded.frame.size() << " " << most;
  }
}

TEST_P(Conformance, TheSameInputGivesTheSameBytes) {
  for (const std::size_t count : kCounts) {
    const Encoded first = encode(compressor_, input(count).tensor(), key_);
    const Encoded second = encode(make_compressor(compressor_.spec()), input(count).tensor(), key_);
    EXPECT_EQ(first.frame, second.frame);
  }
}

TEST_P(Conformance, InputIsDecodedPlusResidual) {
  for (const std::size_t count : kCounts) {
    const Values x = input(count);
    const Encoded encoded = encode(compressor_, x.tensor(), key_);
    const std::vector<float> decoded = decode(compressor_, encoded, count);
    for (std::size_t i = 0; i < count; ++i) {
      ASSERT_EQ(encoded.residual[i], x.get(i) - decoded[i]) << i;
      // The difference and the sum each round once.
      const float larger = std::max(std::fabs(decoded[i]), std::fabs(encoded.residual[i]));
      ASSERT_NEAR(decoded[i] + encoded.residual[i], x.get(i), 0x1p-23 * larger) << i;
      ASSERT_TRUE(decoded[i] == x.get(i) || !compressor_.traits().lossless) << i;
    }
  }
}

/// Only f32 input has room for its residual.
class ConformanceF32 : public Conformance {};

TEST_P(ConformanceF32, ResidualMayReplaceTheInput) {
  for (const std::size_t count : kCounts) {
    const Values x = input(count);
    const Encoded apart = encode(compressor_, x.tensor(), key_);
    std::vector<float> in_place = x.floats();
    std::vector<std::byte> frame(compressor_.max_frame_size(count, dtype_));
    const Tensor both{in_place.data(), count};
    frame.resize(compressor_.encode(both, {frame.data(), frame.size()}, both, key_));
    EXPECT_EQ(frame, apart.frame);
    EXPECT_EQ(in_place, apart.residual);
  }
}

TEST_P(Conformance, ChunksGiveTheValuesOfTheWhole) {
  if (learns_from_pieces(compressor_.spec())) GTEST_SKIP() << "each piece has levels of its own";
  const std::size_t block = compressor_.traits().block_elems;
  if (block == kWholeTensor) GTEST_SKIP() << "is never cut";
  ASSERT_GT(block, 0u);
  const std::size_t cut = std::max(block, 2000 / block * block);
  const std::size_t count = cut + 2099;
  const Values x = input(count);
  const std::vector<float> whole = decode(compressor_, encode(compressor_, x.tensor(), key_), count);
  RandomKey second_key = key_;
  second_key.first_element += cut;
  std::vector<float> parts = decode(compressor_, encode(compressor_, x.tensor().slice(0, cut), key_), cut);
  const std::vector<float> rest =
      decode(compressor_, encode(compressor_, x.tensor().slice(cut, count - cut), second_key), count - cut);
  parts.insert(parts.end(), rest.begin(), rest.end());
  EXPECT_EQ(parts, whole);
}

TEST_P(Conformance, DecodesIntoEveryDtypeRoundedOnce) {
  for (const std::size_t count : kCounts) {
    const Encoded encoded = encode(compressor_, input(count).tensor(), key_);
    const std::vector<float> decoded = decode(compressor_, encoded, count);
    for (const DType to : kDTypes) {
      const Values before(mixed_gradients(count, 77), to);
      Values assigned = before;
      Values added = before;
      compressor_.decode(encoded.bytes(), assigned.tensor(), Write::assign);
      compressor_.decode(encoded.bytes(), added.tensor(), Write::add);
      Values expected_assigned = before;
      Values expected_added = before;
      for (std::size_t i = 0; i < count; ++i) {
        expected_assigned.set(i, decoded[i]);
        expected_added.set(i, before.get(i) + decoded[i]);
        // A sparsifier leaves alone what it did not choose: -0 then stays -0.
        if (compressor_.sparsifier() != nullptr && decoded[i] == 0 && added.get(i) == before.get(i))
          expected_added.set(i, added.get(i));
      }
      ASSERT_EQ(assigned.bytes(), expected_assigned.bytes());
      ASSERT_EQ(added.bytes(), expected_added.bytes());
    }
  }
}

TEST_P(Conformance, NonFiniteElementsAreRefusedByPlace) {
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF})
    for (const std::size_t where : {0u, 15u, 16u, 500u, 512u, 1000u}) {
      Values x = input(1001);
      x.set(where, bad);
      std::string message;
      EXPECT_EQ(code_of([&] { (void)encode(compressor_, x.tensor(), key_); }, &message), Errc::non_finite);
      EXPECT_THAT(message, HasSubstr("element " + std::to_string(where) + " of 1001"));
    }
}

INSTANTIATE_TEST_SUITE_P(All, Conformance,
                         ::testing::Combine(::testing::ValuesIn(conformance_specs()), ::testing::ValuesIn(kDTypes),
                                            ::testing::ValuesIn(isa::list())),
                         param_name);

INSTANTIATE_TEST_SUITE_P(All, ConformanceF32,
                         ::testing::Combine(::testing::ValuesIn(conformance_specs()), ::testing::Values(DType::f32),
                                            ::testing::ValuesIn(isa::list())),
                         param_name);

}  // namespace
}  // namespace gradwire::testing
