// Which instruction set runs.
#include <gmock/gmock.h>

#include <cstdio>
#include <cstdlib>

#include "compress/kernels.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

TEST(Isa, ListEndsWithTheReferenceCode) {
  const std::vector<std::string_view> names = isa::list();
  ASSERT_FALSE(names.empty());
  EXPECT_EQ(names.back(), "scalar");
  for (std::size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(isa::index_of(names[i]), i);
    for (std::size_t j = 0; j < i; ++j) {
      EXPECT_NE(&isa::kernels_at<QuantizeKernels>(i), &isa::kernels_at<QuantizeKernels>(j)) << names[i] << names[j];
    }
  }
  EXPECT_EQ(&isa::kernels_of<QuantizeKernels>("scalar"), &isa::scalar_kernels<QuantizeKernels>());
}

TEST(Isa, SelectSwitchesTheKernels) {
  for (const std::string_view name : isa::list()) {
    const ScopedIsa scope(name);
    EXPECT_EQ(isa::current(), name);
    EXPECT_EQ(&isa::kernels<QuantizeKernels>(), &isa::kernels_of<QuantizeKernels>(name));
  }
}

TEST(Isa, UnknownNamesAreRefusedWithTheList) {
  std::string message;
  const std::string_view before = isa::current();
  EXPECT_EQ(code_of([] { isa::select("avx9000"); }, &message), Errc::invalid_argument);
  EXPECT_THAT(message, HasSubstr("avx9000"));
  for (const std::string_view name : isa::list()) EXPECT_THAT(message, HasSubstr(std::string(name)));
  EXPECT_EQ(isa::current(), before);
}

/// The environment is read once, so each value needs a process of its own.
class ForcedIsa : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

  /// Encodes something and says which instruction set did it, or why none.
  [[noreturn]] static void report(const std::string& forced) {
    setenv("GRADWIRE_FORCE_ISA", forced.c_str(), 1);
    try {
      const std::vector<float> x(100, 1.0f);
      (void)encode(make_compressor("q4"), {x.data(), x.size()});
      std::fprintf(stderr, "used %s.", std::string(isa::current()).c_str());
    } catch (const Error& error) {
      std::fprintf(stderr, "%s: %s", std::string(name(error.code())).c_str(), error.what());
    }
    std::_Exit(0);
  }
};

TEST_F(ForcedIsa, IsUsed) {
  for (const std::string_view name : isa::list())
    EXPECT_EXIT(report(std::string(name)), ::testing::ExitedWithCode(0), "used " + std::string(name) + "\\.");
  EXPECT_EXIT(report(""), ::testing::ExitedWithCode(0), "used " + std::string(isa::list().front()) + "\\.");
}

TEST_F(ForcedIsa, UnknownIsAnErrorThatListsWhatThereIs) {
  EXPECT_EXIT(report("mmx"), ::testing::ExitedWithCode(0), "invalid_argument: .*GRADWIRE_FORCE_ISA.* mmx.*scalar");
}

}  // namespace
}  // namespace gradwire::testing
