// Text specs, good and bad.
#include <gmock/gmock.h>

#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

struct Good {
  const char* text;
  const char* canonical;
};

TEST(Spec, CanonicalTextIsAcceptedAndStable) {
  for (const Good& good :
       {Good{"none", "none"},
        Good{"none()", "none"},
        Good{"f16", "f16"},
        Good{"bf16", "bf16"},
        Good{"quantize", "quantize(bits=4,bucket=512,norm=linf,round=nearest)"},
        Good{"quantize()", "quantize(bits=4,bucket=512,norm=linf,round=nearest)"},
        Good{"q8", "quantize(bits=8,bucket=512,norm=linf,round=nearest)"},
        Good{"q1", "quantize(bits=1,bucket=512,norm=linf,round=nearest)"},
        Good{"q4(bucket=1024,round=stochastic)", "quantize(bits=4,bucket=1024,norm=linf,round=stochastic)"},
        Good{"quantize(norm=minmax,bits=3,bucket=8192)", "quantize(bits=3,bucket=8192,norm=minmax,round=nearest)"},
        Good{"powersgd", "powersgd(rank=4,iterations=1,rounds=2,start=0,min_ratio=2,fallback=q4,factors=none)"},
        Good{"powersgd(2,rounds=1,min_ratio=1.5,fallback=q8(bucket=64),factors=bf16)",
             "powersgd(rank=2,iterations=1,rounds=1,start=0,min_ratio=1.5,fallback=q8(bucket=64),factors=bf16)"},
        Good{"projection(8,refresh=50)",
             "projection(rank=8,refresh=50,iterations=2,start=0,min_ratio=2,fallback=q4,factors=none)"},
        Good{"quantize(bits=8,bucket=32,norm=l2,round=stochastic)",
             "quantize(bits=8,bucket=32,norm=l2,round=stochastic)"},
        Good{"f8", "f8(format=e4m3,block=128,round=nearest)"},
        Good{"f8(e5m2,64,round=stochastic)", "f8(format=e5m2,block=64,round=stochastic)"},
        Good{"mx4", "mx4(round=nearest)"},
        Good{"mx6(e3m2)", "mx6(format=e3m2,round=nearest)"},
        Good{"mx8", "mx8(format=e4m3,round=nearest)"},
        Good{"nvfp4(96)", "nvfp4(span=96,round=nearest)"},
        Good{"q3(levels=exponential)", "quantize(bits=3,bucket=512,norm=linf,round=nearest,levels=exponential)"},
        Good{"q3(levels=uniform)", "quantize(bits=3,bucket=512,norm=linf,round=nearest)"},
        Good{"sign", "sign(bucket=512)"},
        Good{"sign(1024)", "sign(bucket=1024)"},
        Good{"q4(levels=learned)",
             "quantize(bits=4,bucket=512,norm=linf,round=nearest,levels=learned,refresh=1,sample=4096)"},
        Good{"q2(levels=learned,refresh=20,sample=65536)",
             "quantize(bits=2,bucket=512,norm=linf,round=nearest,levels=learned,refresh=20,sample=65536)"},
        Good{"natural", "natural(round=stochastic)"},
        Good{"natural(nearest)", "natural(round=nearest)"},
        Good{"ternary", "ternary(bucket=512,clip=0,pack=bits)"},
        Good{"ternary(64,clip=2.50,pack=trits)", "ternary(bucket=64,clip=2.5,pack=trits)"},
        Good{"mx8|zstd(3)", "mx8(format=e4m3,round=nearest)|zstd(level=3,split=bytes)"},
        Good{"rotate(q4,clip=-0)",
             "rotate(inner=quantize(bits=4,bucket=512,norm=linf,round=nearest),block=4096,scale=none,clip=0)"},
        Good{"ternary(clip=-0.0)", "ternary(bucket=512,clip=0,pack=bits)"},
        Good{"threshold(-0)", "threshold(t=0)"},
        Good{"f16|zstd(split=none)", "f16|zstd(level=1,split=none)"}}) {
    const Compressor compressor = make_compressor(good.text);
    EXPECT_EQ(compressor.spec(), good.canonical);
    EXPECT_EQ(make_compressor(compressor.spec()).spec(), good.canonical);
  }
}

struct Bad {
  const char* text;
  const char* part;      ///< what the message must name
  const char* accepted;  ///< and offer
};

class BadSpec : public ::testing::TestWithParam<Bad> {};

TEST_P(BadSpec, IsRefusedByName) {
  std::string message;
  EXPECT_EQ(code_of([] { (void)make_compressor(GetParam().text); }, &message), Errc::invalid_argument);
  EXPECT_THAT(message, HasSubstr(GetParam().part));
  EXPECT_THAT(message, HasSubstr(GetParam().accepted));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadSpec,
    ::testing::Values(
        Bad{"", "no valid name", "name(option=value"}, Bad{"int4", "int4", "accepted: none, f16, bf16, quantize, "},
        Bad{"q0", "q0", "q1..q8"}, Bad{"q9", "q9", "q1..q8"}, Bad{"q44", "q44", "q1..q8"}, Bad{"Q4", "Q4", "q1..q8"},
        Bad{"powersgd(rank=0)", "rank is 0", "1..1024"}, Bad{"powersgd(rounds=3)", "rounds is 3", "1..2"},
        Bad{"powersgd(rounds=1,iterations=2)", "iterations=2", "rounds=2"},
        Bad{"powersgd(refresh=3)", "refresh", "rank"}, Bad{"projection(rounds=1)", "rounds", "refresh"},
        Bad{"powersgd(fallback=powersgd)", "fallback", "low rank itself"}, Bad{"powersgd(fallback=q9)", "q9", "q1..q8"},
        Bad{"projection(factors=projection)", "factors is projection", "quantisers"},
        Bad{"powersgd(min_ratio=-1)", "min_ratio is -1", "0..1000000"}, Bad{"q0", "q0", "q1..q8"},
        Bad{"q9", "q9", "q1..q8"}, Bad{"q44", "q44", "q1..q8"}, Bad{"Q4", "Q4", "q1..q8"},
        Bad{" q4", "no valid name", "name"}, Bad{"q4 ", "no valid name", "name"},
        Bad{"(bits=4)", "no valid name", "name"}, Bad{"q4(", "closing parenthesis", "missing"},
        Bad{"q4(bucket=512", "closing parenthesis", "missing"}, Bad{"q4)", "no valid name", "name"},
        Bad{"q4()x", "\"x\" follows", "closing"}, Bad{"q4(bucket=512))", "\")\" follows", "closing"},
        Bad{"quantize(4)", "\"4\" is no option", "name=value"}, Bad{"quantize(bits=)", "bits", "malformed"},
        Bad{"quantize(=4)", "\"=4\"", "option name"}, Bad{"quantize(bits=4,)", "\"\" is no option", "name=value"},
        Bad{"quantize(,bits=4)", "\"\" is no option", "name=value"},
        Bad{"quantize(bits=4,bits=4)", "bits is given twice", ""}, Bad{"quantize(bits=0)", "bits is 0", "1..8"},
        Bad{"quantize(bits=9)", "bits is 9", "1..8"}, Bad{"quantize(bits=-1)", "bits is -1", "1..8"},
        Bad{"quantize(bits=4.0)", "bits is 4.0", "1..8"},
        Bad{"quantize(bits=99999999999)", "bits is 99999999999", "1..8"}, Bad{"quantize(bits= 4)", "bits", "malformed"},
        Bad{"quantize(bucket=31)", "bucket is 31", "multiples of 32 in 32..8192"},
        Bad{"quantize(bucket=48)", "bucket is 48", "multiples of 32"},
        Bad{"quantize(bucket=8224)", "bucket is 8224", "32..8192"},
        Bad{"quantize(bucket=0)", "bucket is 0", "32..8192"},
        Bad{"quantize(norm=l1)", "norm is l1", "linf, l2, minmax"},
        Bad{"quantize(round=up)", "round is up", "nearest, stochastic"},
        Bad{"quantize(size=4)", "size", "bits, bucket, norm, round"}, Bad{"q4(bits=4)", "bits", "bucket, norm, round"},
        Bad{"f16(bits=4)", "f16", "no options"}, Bad{"none(x=1)", "none", "no options"},
        Bad{"f8(e3m4)", "format is e3m4", "e4m3, e5m2"},
        Bad{"f8(block=48)", "block is 48", "multiples of 32 in 32..8192"},
        Bad{"mx4(e2m1)", "\"e2m1\" is no option", ""}, Bad{"mx6(e4m3)", "format is e4m3", "e2m3, e3m2"},
        Bad{"nvfp4(format=e2m1)", "format", "span, round"},
        Bad{"q4(levels=log)", "levels is log", "uniform, exponential, learned"},
        Bad{"q1(levels=exponential)", "levels=exponential", "bits=2..8"},
        Bad{"q4(levels=exponential,norm=minmax)", "levels=exponential", "norm=linf or l2"},
        Bad{"q5(levels=learned)", "levels=learned", "bits=2..4"},
        Bad{"q4(levels=learned,norm=l2)", "levels=learned", "norm=linf only"},
        Bad{"q4(levels=learned,round=stochastic)", "levels=learned", "round=nearest only"},
        Bad{"q4(refresh=2)", "refresh", "levels"}, Bad{"q4(levels=learned,refresh=0)", "refresh is 0", "1..1000000"},
        Bad{"sign(bucket=48)", "bucket is 48", "multiples of 32"}, Bad{"sign(norm=l2)", "norm", "bucket"},
        Bad{"ternary(clip=0.1)", "clip is 0.1", "0, and 0.5..16"}, Bad{"ternary(clip=17)", "clip is 17", "0..16"},
        Bad{"ternary(pack=bytes)", "pack is bytes", "bits, trits"},
        Bad{"quantize(norm=mean)", "mean", "linf, l2, minmax"},
        Bad{"zstd", "zstd stands behind another compressor", "q4|zstd"},
        Bad{"q4|zstd|q4", "nothing can stand behind zstd", ""},
        Bad{"q4|zstd|zstd", "nothing can stand behind zstd", ""}, Bad{"q4|zstd(level=20)", "level is 20", "1..19"},
        Bad{"q4|zstd(split=words)", "split is words", "bytes, none"}));

/// "rotate(rotate(...", and the like, so many deep.
std::string nested(const std::string& open, std::size_t depth) {
  std::string text;
  for (std::size_t i = 0; i < depth; ++i) text += open;
  return text + "q4" + std::string(depth, ')');
}

/// Deeper ones would end in an overflow of the stack.
TEST(Spec, DepthIsLimited) {
  for (const char* open : {"rotate(", "powersgd(fallback=", "projection(factors=", "topk(0.1)|rotate("}) {
    for (const std::size_t depth : {17u, 1'000u, 100'000u}) {
      std::string message;
      EXPECT_EQ(code_of([&] { (void)make_compressor(nested(open, depth)); }, &message), Errc::invalid_argument);
      EXPECT_THAT(message, HasSubstr("nest " + std::to_string(depth) + " deep; accepted: up to 16"));
      EXPECT_LT(message.size(), 200u);
    }
    std::string message;
    EXPECT_EQ(code_of([&] { (void)make_compressor(nested(open, 16)); }, &message), Errc::invalid_argument);
    EXPECT_THAT(message, ::testing::Not(HasSubstr("deep")));
    EXPECT_EQ(code_of([&] { (void)make_compressor(std::string(100'000, '(')); }), Errc::invalid_argument);
  }
}

TEST(Spec, EveryListedCompressorIsMakeable) {
  const std::vector<CompressorInfo> rows = list_compressors();
  ASSERT_FALSE(rows.empty());
  for (const CompressorInfo& row : rows) {
    EXPECT_EQ(make_compressor(row.example).spec(), row.example);
    EXPECT_FALSE(row.summary.empty());
  }
}

}  // namespace
}  // namespace gradwire::testing
