// `gradwire plan`, as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>

#include "base/atomic_file.hpp"
#include "tools/npy.hpp"
#include "tools/run_command.hpp"

namespace gradwire::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

class PlanCommand : public ::testing::Test {
 protected:
  PlanCommand() {
    write_file(table_, R"({"layers":[
      {"name":"embed","count":1000,"reference":0,"candidates":[
        {"spec":"q4","bytes":500,"error":1},{"spec":"q2","bytes":250,"error":3},{"spec":"q8","bytes":1000,"error":0.1}]},
      {"name":"fc","count":100,"reference":0,"candidates":[
        {"spec":"q4","bytes":50,"error":4},{"spec":"q2","bytes":25,"error":9},{"spec":"q8","bytes":100,"error":0.4}]}]})");
  }
  CommandResult solve(const std::string& policy, const std::string& out) const {
    return run_gradwire({"plan", "solve", "--table", table_, "--policy", policy, "--out", out});
  }
  /// Runs, expects this failure, and that nothing was written.
  void expect_failure(const std::vector<std::string>& arguments, const std::string& message) const {
    const std::vector<std::string> before = folder_.files();
    const CommandResult result = run_gradwire(arguments);
    EXPECT_EQ(result.exit_code, 1) << result.out;
    EXPECT_THAT(result.err, HasSubstr("gradwire: error (invalid_argument): "));
    EXPECT_THAT(result.err, HasSubstr(message));
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(folder_.files(), before);
  }

  TemporaryFolder folder_;
  std::string table_ = folder_ / "table.json", a_ = folder_ / "a.json", b_ = folder_ / "b.json";
};

/// Two float32 arrays as NumPy writes them, a matrix and a vector.
TEST_F(PlanCommand, MakesATableOfRecordedGradients) {
  const auto write_array = [&](const std::string& name, const std::vector<std::size_t>& shape) {
    std::vector<float> values;
    std::size_t count = 1;
    for (const std::size_t extent : shape) count *= extent;
    for (std::size_t i = 0; i < count; ++i) values.push_back(std::sin(static_cast<float>(i)));
    AtomicFile file(folder_ / name);
    tools::write_npy(file, shape, {values.data(), values.size()});
    file.close();
    file.commit();
  };
  write_array("fc.weight.npy", {64, 80});
  write_array("fc.bias.npy", {64});
  const std::string out = folder_ / "measured.json";
  const CommandResult result =
      run_gradwire({"plan", "table", "--candidates", "q4,topk(0.1),powersgd(rank=2)", "--reference", "topk(0.1)",
                    "--out", out, "--in", folder_ / "fc.weight.npy", folder_ / "fc.bias.npy"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "2 layers, up to 3 candidates each\n");
  const Json table = Json::parse(read_file(out));
  ASSERT_EQ(table["layers"].size(), 2u);
  EXPECT_EQ(table["layers"][0]["name"], "fc.weight");
  EXPECT_EQ(table["layers"][0]["count"], 5120);
  EXPECT_EQ(table["layers"][0]["reference"], 1);
  EXPECT_EQ(table["layers"][0]["candidates"][2]["spec"], "powersgd(rank=2)");
  for (const char* const policy : {"budget(ratio=8)", "spectral(ratio=4)"}) {
    const CommandResult solved = run_gradwire({"plan", "solve", "--table", out, "--policy", policy, "--out", a_});
    EXPECT_EQ(solved.exit_code, 0) << solved.err;
  }

  expect_failure({"plan", "table", "--candidates", "q4", "--out", out, "--in", folder_ / "none.npy"},
                 "none.npy: no such file");
  const CommandResult other = run_gradwire(
      {"plan", "table", "--candidates", "q4", "--reference", "q2", "--out", out, "--in", folder_ / "fc.bias.npy"});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.err, HasSubstr("--reference q2 is none of the candidates"));
}

TEST_F(PlanCommand, SolvesATable) {
  const CommandResult result = solve("lgreco(alpha=1)", a_);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("policy: lgreco(alpha=1)\nbytes: 350\nerror: 3.4 (sum), 9.16 (sum of squares)\n"
                                    "budget: 5 (error)\nsolved in "));
  const Json plan = Json::parse(read_file(a_));
  EXPECT_EQ(plan["layers"], Json::parse(R"([{"name":"embed","spec":"q2","bytes":250,"error":3.0},
                                            {"name":"fc","spec":"q8","bytes":100,"error":0.4}])"));
  EXPECT_EQ(plan["bytes"], 350);
  EXPECT_EQ(plan["error"], 3.4);
  EXPECT_EQ(plan["budget"], 5.0);
  EXPECT_GE(plan["solver_ms"], 0);

  const CommandResult printed = run_gradwire({"plan", "solve", "--table", table_, "--policy", "lgreco(alpha=1)"});
  Json same = Json::parse(printed.out);
  same["solver_ms"] = plan["solver_ms"];
  EXPECT_EQ(same, plan);
}

TEST_F(PlanCommand, ShowsAPlan) {
  ASSERT_EQ(solve("budget(bytes=400)", a_).exit_code, 0);
  const CommandResult result = run_gradwire({"plan", "show", a_});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out,
            "  layer  spec  bytes  % of bytes  error  % of squares\n"
            "  embed  q2      250       71.43      3         98.25\n"
            "  fc     q8      100       28.57    0.4          1.75\n"
            "policy: budget(bytes=400)\n"
            "bytes: 350\n"
            "error: 3.4 (sum), 9.16 (sum of squares)\n"
            "budget: 400 (bytes)\n"
            "no plan has a sum of squares below 9.16: gap 0.0000 %\n");
  write_file(a_, "{\"layers\":[" + std::string(100'000, '[') + std::string(100'000, ']') + "]}");
  expect_failure({"plan", "show", a_}, "plan: this JSON nests deeper than 64");
  const std::string most = std::string(63, '[') + std::string(63, ']');
  write_file(a_, R"({"layers":[{"name":"x","spec":"none","bytes":8,"error":0}],"more":)" + most + "}");  // by hand
  EXPECT_THAT(run_gradwire({"plan", "show", a_}).out,
              HasSubstr("  x      none      8      100.00      0             -\n"));
}

TEST_F(PlanCommand, ShowsWhatIsExposed) {
  write_file(table_, R"({"layers":[
      {"name":"embed","count":1000,"ready_us":90,"reference":0,"candidates":[
        {"spec":"q4","bytes":500,"error":2,"us":40},{"spec":"q2","bytes":250,"error":3,"us":20}]},
      {"name":"fc","count":100,"ready_us":50,"reference":1,"candidates":[
        {"spec":"q4","bytes":50,"error":1,"us":60},{"spec":"q2","bytes":25,"error":4,"us":30}]}]})");
  ASSERT_EQ(solve("budget(ms=0.045)", a_).exit_code, 0);
  EXPECT_THAT(run_gradwire({"plan", "show", a_}).out,
              HasSubstr("policy: budget(ms=0.045)\n"
                        "bytes: 300\n"
                        "error: 4 (sum), 10 (sum of squares)\n"
                        "exposed: 0.04 ms\n"
                        "budget: 0.045 (time)\n"
                        "no plan has a sum of squares below 10: gap 0.0000 %\n"));
  ASSERT_EQ(solve("lgreco(objective=time,alpha=1.2)", b_).exit_code, 0);
  EXPECT_THAT(run_gradwire({"plan", "diff", a_, b_}).out, HasSubstr("exposed ms: 0.04 -> 0.02 (-50.00 %)\n"));
  expect_failure({"plan", "solve", "--table", table_, "--policy", "budget(ms=0.019)"}, "at least 0.02 ms are exposed");
}

TEST_F(PlanCommand, SaysWhatDiffers) {
  ASSERT_EQ(solve("uniform", a_).exit_code, 0);
  ASSERT_EQ(solve("lgreco", b_).exit_code, 0);
  const CommandResult result = run_gradwire({"plan", "diff", a_, b_});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out,
            "  layer  from  to  bytes  error\n"
            "  embed  q4    q2   -250     +2\n"
            "  fc     q4    q8    +50   -3.6\n"
            "2 of 2 layers differ\n"
            "bytes: 550 -> 350 (-36.36 %)\n"
            "error: 5 -> 3.4 (-32.00 %)\n"
            "squared error: 17 -> 9.16 (-46.12 %)\n");
  EXPECT_EQ(run_gradwire({"plan", "diff", a_, a_}).out, "the plans give 2 layers the same\n");

  write_file(a_, R"({"layers":[{"name":"fc","spec":"q8","bytes":101,"error":0.4},
                               {"name":"old","spec":"q4","bytes":7,"error":1}]})");
  const std::string other = run_gradwire({"plan", "diff", a_, b_}).out;
  EXPECT_THAT(other, HasSubstr("  old    q4    -      -7\n"));
  EXPECT_THAT(other, HasSubstr("  embed  -     q2   +250\n"));
  EXPECT_THAT(other, Not(HasSubstr("  fc ")));
  EXPECT_THAT(other, HasSubstr("1 layers keep their spec at other bytes or another error\n"));
}

TEST_F(PlanCommand, RefusesBadInput) {
  const auto solving = [&](const std::string& table, const std::string& policy) {
    return std::vector<std::string>{"plan", "solve", "--table", table, "--policy", policy, "--out", a_};
  };
  expect_failure(solving(folder_ / "none.json", "lgreco"), "none.json: no such file");
  expect_failure(solving(table_, "bogus"), "unknown policy \"bogus\"");
  expect_failure(solving(table_, "budget(bytes=3)"), "the least bytes of all layers sums to 275");
  expect_failure(solving(table_, "lgreco(alpha=0.01)"), "lgreco: no plan");
  for (const char* const bad : {"", "{}", R"({"layers":[]})", R"({"layers":[{"name":"a","count":1,"reference":0,
       "candidates":[{"spec":"q4","bytes":5,"error":NaN}]}]})",
                                R"({"layers":[{"name":"a","count":1,"reference":0,
       "candidates":[{"spec":"q4","bytes":5,"error":-1}]}]})"}) {
    write_file(table_, bad);
    expect_failure(solving(table_, "lgreco"), "table.json: table: ");
  }
  expect_failure({"plan", "show", table_}, "table.json: plan: layer 0: \"spec\" is missing");
  expect_failure({"plan", "diff", folder_ / "none.json", table_}, "none.json: no such file");
}

TEST_F(PlanCommand, NeverWritesOverWhatItReads) {
  const std::string table = read_file(table_);
  const std::vector<std::vector<std::string>> calls{
      {"plan", "solve", "--table", table_, "--policy", "lgreco", "--out", table_},
      {"plan", "compare", "--table", table_, "--json", table_},
      {"plan", "table", "--candidates", "q4", "--in", a_, table_, "--out", table_},
  };
  for (const auto& arguments : calls) {
    const CommandResult result = run_gradwire(arguments);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, HasSubstr(arguments[1] == "compare" ? "error: --json " : "error: --out "));
    EXPECT_THAT(result.err, HasSubstr(table_ + " is what is read, and would be lost"));
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(read_file(table_), table);
    EXPECT_EQ(folder_.files(), std::vector<std::string>{"table.json"});
  }
}

TEST_F(PlanCommand, WrongUsageIsExitCode2) {
  const std::vector<std::vector<std::string>> wrong{
      {"plan"},
      {"plan", "solve"},
      {"plan", "solve", "--table", table_},
      {"plan", "solve", table_},
      {"plan", "show"},
      {"plan", "show", a_, b_},
      {"plan", "diff", a_},
  };
  for (const auto& arguments : wrong) {
    const CommandResult result = run_gradwire(arguments);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, HasSubstr("gradwire: error: "));
    EXPECT_EQ(result.out, "");
  }
}

}  // namespace
}  // namespace gradwire::test
