// What the command prints of names that files hold.
#include "tools/printable.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>

#include "tools/run_command.hpp"

#include "gradwire/trace.hpp"

namespace gradwire::test {
namespace {

using ::testing::HasSubstr;

TEST(Printable, ControlCharactersAreEscapedAndNothingElse) {
  const std::string plain = "fc/weight (64, 80) \\ \"é…€\" \xF0\x9F\x98\x80 \xC2\xA0";
  EXPECT_EQ(tools::printable(plain), plain);
  EXPECT_EQ(tools::printable("a\x1b[2Jb\n\t\r\x07\x7f"), "a\\u001b[2Jb\\u000a\\u0009\\u000d\\u0007\\u007f");
  EXPECT_EQ(tools::printable("\xC2\x9B"
                             "1m\xC2\x80\xC2\x9F"),
            "\\u009b1m\\u0080\\u009f");
  EXPECT_EQ(tools::printable(std::string_view("\0", 1)), "\\u0000");
  EXPECT_EQ(tools::printable("\xC2"), "\xC2");
}

class PrintableOutput : public ::testing::Test {
 protected:
  /// Runs, and expects that nothing of what is printed is a control character, and that `seen` is there.
  static void expect_printable(const std::vector<std::string>& arguments, const std::string& seen) {
    const CommandResult result = run_gradwire(arguments);
    const std::string all = result.out + result.err;
    EXPECT_THAT(all, HasSubstr(seen));
    for (const char c : all) EXPECT_TRUE(c == '\n' || std::iscntrl(static_cast<unsigned char>(c)) == 0) << all;
  }

  TemporaryFolder folder_;
};

TEST_F(PrintableOutput, OfPlans) {
  const std::string a = folder_ / "a.json";
  const std::string b = folder_ / "b.json";
  write_file(a, R"({"policy":"p\u001b[1m","layers":[{"name":"a\u001b[2Jb","spec":"q4\u0007","bytes":5,"error":3}]})");
  write_file(b, R"({"layers":[{"name":"c\u007f\n","spec":"q2","bytes":2,"error":4}]})");
  expect_printable({"plan", "show", a}, "  a\\u001b[2Jb  q4\\u0007      5");
  expect_printable({"plan", "show", a}, "policy: p\\u001b[1m\n");
  expect_printable({"plan", "diff", a, b}, "  c\\u007f\\u000a");
  write_file(b, R"({"layers":[{"name":"a\u001b[2Jb","spec":"q2","bytes":2,"error":-4}]})");
  expect_printable({"plan", "show", b}, "layer 0 (\"a\\u001b[2Jb\"): error is -4");
}

TEST_F(PrintableOutput, OfComparisons) {
  const std::string table = folder_ / "table.json";
  write_file(table,
             R"({"layers":[{"name":"a\u001b[2Jb","count":4,"norm":1,"previous_norm":2,"reference":0,"candidates":[
      {"spec":"q4","bytes":5,"error":3}]},{"name":"b","count":4,"norm":1,"previous_norm":2,"reference":0,"candidates":[
      {"spec":"q4","bytes":5,"error":3},{"spec":"q2","bytes":2,"error":4}]}]})");
  expect_printable({"plan", "compare", "--table", table, "--policies", "lgreco;accordion(low=q2,high=q4)"},
                   R"(layer "a\u001b[2Jb" has the candidate)");
}

TEST_F(PrintableOutput, OfTraces) {
  const std::string trace = folder_ / "run.trace";
  const std::vector<float> x(4, 1.5f);
  TraceWriter writer(trace, "{\"run\":\"\x7f\"}");
  for (int i = 0; i < 2; ++i) writer.sample(3, {"a\n\x1b[2Jb", {x.data(), x.size()}, {2, 2}}, "q4");
  writer.close();
  expect_printable({"trace", "info", trace}, "  a\\u000a\\u001b[2Jb  (2, 2)  q4");
  expect_printable({"trace", "info", trace}, "meta: {\"run\":\"\\u007f\"}\n");
  expect_printable({"trace", "export", trace, "--out", folder_ / "out"}, ": layer a\\u000a\\u001b[2Jb\n2 files\n");
}

}  // namespace
}  // namespace gradwire::test
