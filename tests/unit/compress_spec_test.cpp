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
       {Good{"none", "none"}, Good{"none()", "none"}, Good{"f16", "f16"}, Good{"bf16", "bf16"},
        Good{"quantize", "quantize(bits=4,bucket=512,norm=linf,round=nearest)"},
        Good{"quantize()", "quantize(bits=4,bucket=512,norm=linf,round=nearest)"},
        Good{"q8", "quantize(bits=8,bucket=512,norm=linf,round=nearest)"},
        Good{"q1", "quantize(bits=1,bucket=512,norm=linf,round=nearest)"},
        Good{"q4(bucket=1024,round=stochastic)", "quantize(bits=4,bucket=1024,norm=linf,round=stochastic)"},
        Good{"quantize(norm=minmax,bits=3,bucket=8192)", "quantize(bits=3,bucket=8192,norm=minmax,round=nearest)"},
        Good{"quantize(bits=8,bucket=32,norm=l2,round=stochastic)",
             "quantize(bits=8,bucket=32,norm=l2,round=stochastic)"}}) {
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
        Bad{"f16(bits=4)", "f16", "no options"}, Bad{"none(x=1)", "none", "no options"}));

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
