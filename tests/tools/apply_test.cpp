// `gradwire apply`, as a user runs it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/half.hpp"
#include "tools/gaussian.hpp"
#include "tools/npy.hpp"
#include "tools/run_command.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire::tools {
namespace {

using test::CommandResult;
using test::run_gradwire;
using ::testing::HasSubstr;

class Apply : public ::testing::Test {
 protected:
  NpyArray gaussian(const std::vector<std::size_t>& shape, DType dtype = DType::f32) const {
    NpyArray array;
    array.shape = shape;
    array.dtype = dtype;
    array.count = 1;
    for (const std::size_t extent : shape) array.count *= extent;
    array.data = Buffer(array.count * size_of(dtype));
    fill_gaussian(array.tensor(), 3, 0);
    return array;
  }
  void save(const NpyArray& array) const {
    AtomicFile file(x_);
    write_npy(file, array.shape, array.tensor());
    file.close();
    file.commit();
  }
  CommandResult apply(const std::string& compressor, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{"apply", "--compressor", compressor, "--in", x_, "--out", y_, "--residual", r_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_gradwire(arguments);
  }
  /// Runs, expects this failure, and that nothing was written.
  void expect_failure(const std::string& compressor, const std::string& code, const std::string& message) const {
    const std::vector<std::string> before = folder_.files();
    const CommandResult result = apply(compressor);
    EXPECT_EQ(result.exit_code, 1) << result.err;
    EXPECT_THAT(result.err, HasSubstr("gradwire: error (" + code + "): "));
    EXPECT_THAT(result.err, HasSubstr(message));
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(folder_.files(), before);
  }

  test::TemporaryFolder folder_;
  std::string x_ = folder_ / "x.npy", y_ = folder_ / "y.npy", r_ = folder_ / "r.npy";
};

TEST_F(Apply, WritesDecodedAndResidualOfAnyShape) {
  const std::vector<std::vector<std::size_t>> shapes{{}, {1}, {1000}, {3, 5}, {7, 0}, {2, 3, 257}};
  for (const DType dtype : {DType::f32, DType::f16}) {
    for (const auto& shape : shapes) {
      const NpyArray x = gaussian(shape, dtype);
      save(x);
      const CommandResult result = apply("q8");
      ASSERT_EQ(result.exit_code, 0) << result.err;
      const std::size_t frame_bytes = make_compressor("q8").max_frame_size(x.count, dtype);
      EXPECT_THAT(result.out, HasSubstr(fmt::format("frame bytes: {}\n", frame_bytes)));
      const NpyArray y = read_npy(y_);
      const NpyArray r = read_npy(r_);
      EXPECT_EQ(y.shape, shape);
      EXPECT_EQ(r.shape, shape);
      EXPECT_EQ(y.dtype, dtype);
      EXPECT_EQ(r.dtype, DType::f32);
      for (std::size_t i = 0; i < x.count; ++i) {
        const float in = load_f32(x.data.data(), dtype, i);
        const float out = load_f32(y.data.data(), dtype, i);
        ASSERT_NEAR(in, out, 0.02) << i;
        ASSERT_EQ(load_f32(r.data.data(), DType::f32, i), in - out) << i;
      }
    }
  }
}

TEST_F(Apply, TheResidualIsTheCompressorsOwn) {
  const NpyArray x = gaussian({40, 25});
  save(x);
  for (const char* const spec : {"none", "f16", "bf16", "q4", "q1", "quantize(bits=3,norm=minmax,round=stochastic)"}) {
    ASSERT_EQ(apply(spec, {"--seed", "11"}).exit_code, 0) << spec;
    const Compressor compressor = make_compressor(spec);
    const Buffer frame(compressor.max_frame_size(x.count, x.dtype));
    const Buffer residual(x.count * sizeof(float));
    compressor.encode(x.tensor(), frame.bytes(), residual.tensor(x.count), {.seed = 11});
    EXPECT_EQ(std::memcmp(read_npy(r_).data.data(), residual.data(), residual.size()), 0) << spec;
  }
}

TEST_F(Apply, TheSeedDecidesStochasticRounding) {
  save(gaussian({1000}));
  const auto run = [&](const std::string& seed) {
    EXPECT_EQ(apply("quantize(bits=4,round=stochastic)", {"--seed", seed}).exit_code, 0);
    return test::read_file(y_);
  };
  const std::string first = run("1");
  EXPECT_EQ(run("1"), first);
  EXPECT_NE(run("2"), first);
}

TEST_F(Apply, PrintsWhatItCostsAndSaves) {
  save(gaussian({100, 100}));
  const CommandResult result = apply("none");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, fmt::format("compressor: none\n"
                                    "input: {} f32 (100, 100), 10000 elements, 40000 bytes\n"
                                    "frame bytes: 40016\n"
                                    "ratio: 0.9996\n"
                                    "relative error: 0\n"
                                    "max error: 0\n",
                                    x_));
  EXPECT_THAT(apply("q4").out, HasSubstr("max error: 0.2"));
}

TEST_F(Apply, MayReplaceItsInput) {
  save(gaussian({64}));
  const std::string before = test::read_file(x_);
  ASSERT_EQ(run_gradwire({"apply", "--compressor", "q2", "--in", x_, "--out", x_}).exit_code, 0);
  EXPECT_NE(test::read_file(x_), before);
  EXPECT_EQ(test::read_file(x_).size(), before.size());
  EXPECT_EQ(folder_.files(), std::vector<std::string>{"x.npy"});
}

TEST_F(Apply, NamesTheFirstNonFiniteElement) {
  for (const DType dtype : {DType::f32, DType::f16}) {
    const NpyArray x = gaussian({2, 3, 4}, dtype);
    store_f32(x.data.data(), dtype, 17, std::numeric_limits<float>::quiet_NaN());
    store_f32(x.data.data(), dtype, 20, std::numeric_limits<float>::infinity());
    save(x);
    expect_failure("q4", "non_finite", "x.npy: element 17 (index [1, 1, 1]) is nan");
    store_f32(x.data.data(), dtype, 17, 0);
    save(x);
    expect_failure("none", "non_finite", "element 20 (index [1, 2, 0]) is inf");
  }
}

/// What the decoded array cannot hold stays in the residual.
TEST_F(Apply, SaturatesADecodedArrayBeyondItsDtype) {
  const NpyArray x = gaussian({512}, DType::f16);
  for (std::size_t i = 0; i < x.count; ++i) store_f32(x.data.data(), DType::f16, i, 60000);
  save(x);
  const CommandResult result = apply("quantize(bits=1,norm=l2)");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const NpyArray y = read_npy(y_);
  EXPECT_EQ(load_f32(y.data.data(), DType::f16, 0), 65504.0f);
  const NpyArray r = read_npy(r_);
  EXPECT_EQ(load_f32(r.data.data(), DType::f32, 0), load_f32(x.data.data(), DType::f16, 0) - 65504.0f);
}

TEST_F(Apply, RefusesBadInput) {
  expect_failure("q4", "invalid_argument", "x.npy: no such file");
  test::write_file(x_, "not an array at all");
  expect_failure("q4", "invalid_argument", "wrong magic number");
  save(gaussian({10}));
  test::write_file(x_, test::read_file(x_).substr(0, 150));
  expect_failure("q4", "invalid_argument", "truncated: shape (10,) of <f4 needs 40 bytes of data, the file has 22");
  save(gaussian({10}));
  expect_failure("q9", "invalid_argument", "q9");
  expect_failure("quantize(bits=4,bogus=1)", "invalid_argument", "bogus");
}

TEST_F(Apply, AnOutputThatCannotBeWrittenLeavesNothing) {
  save(gaussian({10}));
  const CommandResult result =
      run_gradwire({"apply", "--compressor", "q4", "--in", x_, "--out", y_, "--residual", folder_ / "none/r.npy"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("none/r.npy: No such file or directory"));
  EXPECT_EQ(folder_.files(), std::vector<std::string>{"x.npy"});
}

TEST_F(Apply, WrongUsageIsExitCode2) {
  const std::vector<std::vector<std::string>> wrong{
      {"apply"},
      {"apply", "--compressor", "q4", "--in", x_},
      {"apply", "--compressor", "q4", "--in", x_, "--out", y_, "--residual", y_},
      {"apply", "--compressor", "q4", "--in", x_, "--out", y_, "--seed", "-1"},
      {"apply", "--compressor", "q4", "--in", x_, "--out", y_, "extra"},
  };
  for (const auto& arguments : wrong) {
    const CommandResult result = run_gradwire(arguments);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, HasSubstr("gradwire: error: "));
  }
}

}  // namespace
}  // namespace gradwire::tools
