// The numbers of f8, mx* and nvfp4 against the specifications, on every instruction set.
#include <fmt/format.h>

#include "compress/minifloat_params.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

struct Format {
  MinifloatFormat format;
  const char* spec;  ///< of a compressor whose unit is 1 where a block's largest magnitude is the format's
  int exponent_bits;
  int mantissa_bits;
  float max;
  unsigned numbers;  ///< codes without the sign and without NaN
};

// Sizes and largest numbers as the OCP documents print them.
const Format kFormats[] = {{MinifloatFormat::e2m1, "mx4", 2, 1, 6.0f, 8},
                           {MinifloatFormat::e2m3, "mx6(e2m3)", 2, 3, 7.5f, 32},
                           {MinifloatFormat::e3m2, "mx6(e3m2)", 3, 2, 28.0f, 32},
                           {MinifloatFormat::e4m3, "mx8(e4m3)", 4, 3, 448.0f, 127},
                           {MinifloatFormat::e5m2, "mx8(e5m2)", 5, 2, 57344.0f, 124},
                           {MinifloatFormat::e4m3, "f8(e4m3,32)", 4, 3, 448.0f, 127},
                           {MinifloatFormat::e5m2, "f8(e5m2,32)", 5, 2, 57344.0f, 124}};

/// IEEE 754's formula.
float number(const Format& format, unsigned code) {
  const auto field = static_cast<int>(code >> format.mantissa_bits);
  const auto fraction = static_cast<float>(code & ((1u << format.mantissa_bits) - 1));
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  const float scale = std::ldexp(1.0f, -format.mantissa_bits);
  if (field == 0) return std::ldexp(fraction * scale, 1 - bias);
  return std::ldexp(1.0f + fraction * scale, field - bias);
}

MinifloatParams params_of(const Format& format) {
  const bool f8 = std::string_view(format.spec).starts_with("f8");
  return {format.format, f8 ? MinifloatScale::f32 : MinifloatScale::e8m0, 32, Rounding::nearest};
}

/// The code of an element, as docs/wire-format.md places it.
unsigned code_at(const std::vector<std::byte>& frame, const MinifloatLayout& layout, std::size_t i) {
  unsigned code = 0;
  unsigned code_bit = 0;
  for (const std::size_t width : {8u, 4u, 2u}) {
    if (!layout.has_plane(width)) continue;
    const std::size_t row = i / 16;
    const std::size_t byte = 16 + layout.plane_offset(width) + 16 * (row / (8 / width)) + i % 16;
    const auto part = (static_cast<unsigned>(frame.at(byte)) >> (width * (row % (8 / width)))) & ((1u << width) - 1);
    code |= part << code_bit;
    code_bit += static_cast<unsigned>(width);
  }
  return code;
}

/// Encodes the values in blocks that start with the format's largest number, and calls visit(value, code, decoded).
template <class Visit>
void visit_codes(const Format& format, const std::vector<float>& values, Visit visit) {
  std::vector<float> x;
  for (const float value : values) {
    if (x.size() % 32 == 0) x.push_back(format.max);
    x.push_back(value);
  }
  const MinifloatLayout layout{params_of(format), x.size()};
  const Compressor compressor = make_compressor(format.spec);
  for (const std::string_view isa : isa::list()) {
    const ScopedIsa scope(isa);
    SCOPED_TRACE(fmt::format("{} on {}", format.spec, isa));
    const Encoded encoded = encode(compressor, {x.data(), x.size()});
    const std::vector<float> decoded = decode(compressor, encoded, x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (i % 32 != 0) visit(x[i], code_at(encoded.frame, layout, i), decoded[i]);
      ASSERT_EQ(encoded.residual[i], x[i] - decoded[i]);
    }
  }
}

TEST(Minifloat, ShapesAreTheSpecifications) {
  for (const Format& format : kFormats) {
    const MinifloatShape shape = shape_of(format.format);
    EXPECT_EQ(shape.bits(), 1 + format.exponent_bits + format.mantissa_bits);
    EXPECT_EQ(shape.max(), format.max);
    EXPECT_EQ(shape.top + 1, format.numbers);
    EXPECT_EQ(shape.top_exponent(), std::ilogb(format.max));
    for (unsigned code = 0; code < format.numbers; ++code) EXPECT_EQ(shape.value(code), number(format, code)) << code;
  }
  const float e2m1[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  for (unsigned code = 0; code < 8; ++code) EXPECT_EQ(shape_of(MinifloatFormat::e2m1).value(code), e2m1[code]);
  EXPECT_EQ(shape_of(MinifloatFormat::e4m3).value(0x01), 0x1p-9f);
  EXPECT_EQ(shape_of(MinifloatFormat::e4m3).value(0x08), 0x1p-6f);
  EXPECT_EQ(shape_of(MinifloatFormat::e5m2).value(0x01), 0x1p-16f);
  EXPECT_EQ(shape_of(MinifloatFormat::e5m2).value(0x04), 0x1p-14f);
}

TEST(Minifloat, EveryCodeStandsForItsNumberAndComesBack) {
  for (const Format& format : kFormats) {
    std::vector<float> values;
    for (unsigned code = 0; code < format.numbers; ++code) {
      values.push_back(number(format, code));
      values.push_back(-number(format, code));
    }
    std::size_t i = 0;
    visit_codes(format, values, [&](float value, unsigned code, float decoded) {
      const unsigned sign = i % 2 == 0 ? 0u : 1u << (format.exponent_bits + format.mantissa_bits);
      EXPECT_EQ(code, i / 2 | sign);
      EXPECT_EQ(decoded, value);
      EXPECT_EQ(std::signbit(decoded), sign != 0);
      i = (i + 1) % values.size();
    });
  }
}

TEST(Minifloat, HalfwayGoesToEvenAndTheRestToTheNearest) {
  for (const Format& format : kFormats) {
    std::vector<float> values;
    for (unsigned code = 0; code + 1 < format.numbers; ++code) {
      const float half = 0.5f * (number(format, code) + number(format, code + 1));  // exact
      values.insert(values.end(), {half, std::nextafter(half, 0.0f), std::nextafter(half, HUGE_VALF)});
    }
    std::size_t i = 0;
    visit_codes(format, values, [&](float value, unsigned code, float decoded) {
      const auto low = static_cast<unsigned>(i / 3);
      const unsigned expected[] = {low % 2 == 0 ? low : low + 1, low, low + 1};
      EXPECT_EQ(code, expected[i % 3]) << value;
      EXPECT_EQ(decoded, number(format, expected[i % 3]));
      i = (i + 1) % values.size();
    });
  }
}

TEST(Minifloat, NanCodesAreNeverWritten) {
  for (const Format& format : kFormats) {
    const Compressor compressor = make_compressor(format.spec);
    for (int scale = 0; scale < 64; ++scale) {
      std::vector<float> x = normal_gradients(1024, static_cast<unsigned>(scale));
      for (float& v : x) v *= 1.0f + static_cast<float>(scale) / 64;
      const Encoded encoded = encode(compressor, {x.data(), x.size()});
      const MinifloatLayout layout{params_of(format), x.size()};
      for (std::size_t i = 0; i < x.size(); ++i)
        ASSERT_LT(code_at(encoded.frame, layout, i) & (shape_of(format.format).sign_bit() - 1), format.numbers);
    }
  }
}

TEST(Minifloat, NanCodesReadAsTheNumbersThatTheyContinue) {
  const struct {
    const char* spec;
    unsigned code;
    float value;
  } cases[] = {{"f8(e4m3,32)", 0x7f, 480},   {"f8(e4m3,32)", 0xff, -480},   {"f8(e5m2,32)", 0x7c, 65536},
               {"f8(e5m2,32)", 0x7d, 81920}, {"f8(e5m2,32)", 0xfe, -98304}, {"f8(e5m2,32)", 0x7f, 114688}};
  for (const auto& c : cases) {
    const Compressor compressor = make_compressor(c.spec);
    const std::vector<float> x{compressor.spec().find("e4m3") != std::string_view::npos ? 448.0f : 57344.0f, 0};
    Encoded encoded = encode(compressor, {x.data(), 2});
    encoded.frame[16 + 16 + 1] = static_cast<std::byte>(c.code);
    for (const std::string_view isa : isa::list()) {
      const ScopedIsa scope(isa);
      EXPECT_EQ(decode(compressor, encoded, 2)[1], c.value) << isa << " " << c.spec;
    }
  }
}

TEST(Minifloat, PowerOfTwoScalesAreTheSpecifications) {
  const Compressor mx4 = make_compressor("mx4");
  // floor(log2 7) - 2 = 0: 7 saturates at 6, halves of steps go to even.
  const std::vector<float> x{7, -7, 5, 3.5f, 2.5f, 0.25f, 0.75f, -0.2f};
  Encoded encoded = encode(mx4, {x.data(), x.size()});
  EXPECT_EQ(encoded.frame[16], std::byte{127});
  EXPECT_EQ(decode(mx4, encoded, 8), (std::vector<float>{6, -6, 4, 4, 2, 0, 1, 0}));
  EXPECT_EQ(encoded.residual, (std::vector<float>{1, -1, 1, -0.5f, 0.5f, 0.25f, -0.25f, -0.2f}));

  for (const auto& [byte, unit] : {std::pair{0, 0x1p-127f}, {1, 0x1p-126f}, {254, 0x1p127f}}) {
    encoded.frame[16] = static_cast<std::byte>(byte);
    EXPECT_EQ(decode(mx4, encoded, 8)[6], unit);
  }
  encoded.frame[16] = std::byte{255};
  EXPECT_TRUE(std::isnan(decode(mx4, encoded, 8)[6]));

  const std::vector<float> huge{0x1.fffffep127f, -0x1p127f};  // still has a scale
  const Compressor mx8 = make_compressor("mx8");
  EXPECT_EQ(decode(mx8, encode(mx8, {huge.data(), 2}), 2), (std::vector<float>{0x1.cp127f, -0x1p127f}));
}

TEST(Minifloat, Nvfp4ScalesGroupsWithinTheirSpan) {
  const Compressor nvfp4 = make_compressor("nvfp4(span=32)");
  std::vector<float> x(40, 0.0f);
  x[0] = 2688;  // 448 * 6: the span's unit is 1, this group's 448
  x[1] = -1344;
  x[16] = 6;  // a group of unit 1
  x[17] = 0.5f;
  x[18] = -0.25f;
  x[32] = 0.375f;  // another span
  for (const std::string_view isa : isa::list()) {
    const ScopedIsa scope(isa);
    const Encoded encoded = encode(nvfp4, {x.data(), x.size()});
    const std::vector<float> decoded = decode(nvfp4, encoded, 40);
    EXPECT_EQ(encoded.frame[16 + 16], std::byte{0x7e});  // 448
    EXPECT_EQ(encoded.frame[16 + 17], std::byte{0x38});  // 1
    EXPECT_EQ(encoded.frame[16 + 18], std::byte{0x7e});
    EXPECT_EQ(decoded[0], 2688);
    EXPECT_EQ(decoded[1], -1344);
    EXPECT_EQ(decoded[16], 6);
    EXPECT_EQ(decoded[17], 0.5f);
    EXPECT_EQ(decoded[18], 0);
    EXPECT_EQ(decoded[32], 0.375f);
  }
}

/// A scale that is rounded down makes the group's largest element saturate; rounded up, as stochastic elements need, it
/// does not.
TEST(Minifloat, Nvfp4RoundsScalesUpForStochasticElements) {
  std::vector<float> x(32, 0.0f);
  x[0] = 2688;
  x[16] = 6 * 1.05f;
  const Encoded nearest = encode(make_compressor("nvfp4"), {x.data(), x.size()});
  const Encoded stochastic = encode(make_compressor("nvfp4(round=stochastic)"), {x.data(), x.size()});
  EXPECT_EQ(nearest.frame[16 + 17], std::byte{0x38});     // 1
  EXPECT_EQ(stochastic.frame[16 + 17], std::byte{0x39});  // 1.125
  EXPECT_NEAR(nearest.residual[16], 0.3f, 1e-5f);
}

TEST(Minifloat, StochasticRoundingMeetsTheFraction) {
  const Compressor mx4 = make_compressor("mx4(round=stochastic)");
  for (const auto& [value, low, high] : {std::tuple{2.25f, 2.0f, 3.0f}, {0.1f, 0.0f, 0.5f}, {-5.5f, -6.0f, -4.0f}}) {
    std::vector<float> x(32 * 1000, value);
    for (std::size_t i = 0; i < x.size(); i += 32) x[i] = 6;
    const std::vector<float> y = decode(mx4, encode(mx4, {x.data(), x.size()}), x.size());
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      ASSERT_TRUE(i % 32 == 0 || y[i] == low || y[i] == high) << y[i];
      sum += i % 32 == 0 ? 0 : static_cast<double>(y[i]);
    }
    EXPECT_NEAR(sum / 31000, static_cast<double>(value), 0.02);
  }
}

TEST(Minifloat, BlocksTooSmallForAScaleAreZeroAndOwed) {
  for (const char* spec : {"f8", "mx4", "mx6", "mx8", "nvfp4"}) {
    const std::vector<float> x(100, -0x1p-101f);
    const Encoded encoded = encode(make_compressor(spec), {x.data(), x.size()});
    EXPECT_EQ(encoded.residual, x) << spec;
  }
}

/// What frames hold, by hand from docs/wire-format.md.
TEST(Minifloat, GoldenFrames) {
  const struct {
    const char* spec;
    std::vector<float> x;
    const char* hex;
  } goldens[] = {
      {"f8(block=32)",
       {448, -1, 0.5f},
       "c7010800 03000100 03000000 03000000 0000803f000000000000000000000000"
       "7eb83000000000000000000000000000"},
      {"mx4",
       {6, -1, 0.5f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3},
       "c7010800 00010100 11000000 03000000 7f000000000000000000000000000000 570a0100000000000000000000000000"},
      // 7.5 is code 0x1f, -1 is 0x28: low nibbles in one plane, high pairs in the next.
      {"mx6",
       {7.5f, -1},
       "c7010800 01010100 02000000 04000000 7f000000000000000000000000000000"
       "0f080000000000000000000000000000 01020000000000000000000000000000"},
      {"nvfp4(span=64)",
       {2688, -448},
       "c7010800 00020200 02000000 04000000 0000803f000000000000000000000000"
       "7e000000000000000000000000000000 070a0000000000000000000000000000"}};
  for (const auto& golden : goldens) {
    const Encoded encoded = encode(make_compressor(golden.spec), {golden.x.data(), golden.x.size()});
    std::string hex;
    for (const std::byte byte : encoded.frame) hex += fmt::format("{:02x}", static_cast<unsigned>(byte));
    std::string expected = golden.hex;
    std::erase(expected, ' ');
    EXPECT_EQ(hex, expected) << golden.spec;
  }
}

}  // namespace
}  // namespace gradwire::testing
