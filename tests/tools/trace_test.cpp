// `gradwire trace`, and `gradwire plan` on traces, as a user runs them.
#include "gradwire/trace.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "base/atomic_file.hpp"
#include "tools/npy.hpp"
#include "tools/run_command.hpp"

#include "gradwire/plan.hpp"

namespace gradwire::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Json = nlohmann::json;

class TraceCommand : public ::testing::Test {
 protected:
  static std::vector<float> values(std::size_t count, float phase) {
    std::vector<float> values;
    for (std::size_t i = 0; i < count; ++i) values.push_back(std::sin(static_cast<float>(i) + phase));
    return values;
  }
  std::string write_array(const std::string& name, const std::vector<std::size_t>& shape, float phase) const {
    std::size_t count = 1;
    for (const std::size_t extent : shape) count *= extent;
    const std::vector<float> x = values(count, phase);
    AtomicFile file(folder_ / name);
    tools::write_npy(file, shape, {x.data(), x.size()});
    file.close();
    file.commit();
    return folder_ / name;
  }
  /// Two steps of a matrix and a vector, and a table.
  void write_trace() const {
    TraceWriter writer(trace_, R"({"rank":0})");
    for (const std::uint64_t step : {10u, 20u}) {
      const std::vector<float> weight = values(5120, static_cast<float>(step));
      const std::vector<float> bias = values(64, static_cast<float>(step));
      writer.sample(step, {"fc/weight", {weight.data(), weight.size()}, {64, 80}}, "q4");
      writer.sample(step, {"fc/bias", {bias.data(), bias.size()}, {64}}, "q8");
    }
    writer.table(20, {{{"fc/weight", 5120, 0, {{"q4", 2600, 0.1}}}}});
  }
  /// Cuts off the last byte.
  void tear_trace() const { std::filesystem::resize_file(trace_, std::filesystem::file_size(trace_) - 1); }
  void expect_failure(const std::vector<std::string>& arguments, int exit_code, const std::string& message) const {
    const std::vector<std::string> before = folder_.files();
    const CommandResult result = run_gradwire(arguments);
    EXPECT_EQ(result.exit_code, exit_code) << result.out;
    EXPECT_THAT(result.err, HasSubstr(message));
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(folder_.files(), before);
  }

  TemporaryFolder folder_;
  std::string trace_ = folder_ / "run.trace";
};

TEST_F(TraceCommand, ImportsWhatItExports) {
  const std::vector<std::string> arrays{write_array("fc.weight.npy", {64, 80}, 0), write_array("scale.npy", {}, 1)};
  const CommandResult made = run_gradwire(
      {"trace", "import", "--out", trace_, "--reference", "q4", "--step", "7", "--in", arrays[0], arrays[1]});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  EXPECT_EQ(made.out, "2 layers\n");
  TraceReader reader(trace_);
  const auto sample = std::get<TraceSample>(reader.next().value());
  EXPECT_EQ(sample.step, 7u);
  EXPECT_EQ(sample.name, "fc.weight");
  EXPECT_EQ(sample.shape, (std::vector<std::size_t>{64, 80}));
  EXPECT_EQ(sample.values, values(5120, 0));
  EXPECT_EQ(sample.reference, "q4");

  const std::string out = folder_ / "out";
  const CommandResult result = run_gradwire({"trace", "export", trace_, "--out", out, "--step", "7"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "2 files\n");
  EXPECT_EQ(read_file(out + "/fc.weight.npy"), read_file(arrays[0]));

  expect_failure({"trace", "import", "--out", trace_, "--reference", "q4", "--in", folder_ / "none.npy"}, 1,
                 "none.npy: no such file");
  expect_failure({"trace", "import", "--out", trace_, "--reference", "huffman", "--in", arrays[0]}, 1, "huffman");
  expect_failure({"trace", "import", "--out", trace_, "--reference", "q4", "--in", arrays[0], arrays[0]}, 1,
                 "two files are named fc.weight");
}

TEST_F(TraceCommand, ImportsReplaceFilesOnly) {
  const std::string array = write_array("fc.weight.npy", {64, 80}, 0);
  ASSERT_EQ(::mkfifo(trace_.c_str(), 0600), 0);
  expect_failure({"trace", "import", "--out", trace_, "--reference", "q4", "--in", array}, 1,
                 "cannot write " + trace_ + ": it exists and is not a regular file");
  EXPECT_TRUE(std::filesystem::is_fifo(trace_));
}

TEST_F(TraceCommand, ExportsEachStep) {
  write_trace();
  const std::string out = folder_ / "out";
  const CommandResult result = run_gradwire({"trace", "export", trace_, "--out", out});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "5 files\n");
  const tools::NpyArray array = tools::read_npy(out + "/step-20/fc_weight.npy");
  EXPECT_EQ(array.shape, (std::vector<std::size_t>{64, 80}));
  EXPECT_EQ(static_cast<const float*>(array.tensor().data)[3], std::sin(23.0f));
  EXPECT_TRUE(std::filesystem::exists(out + "/step-10/fc_bias.npy"));
  EXPECT_EQ(table_from_json(read_file(out + "/step-20/table.json")).layers[0].name, "fc/weight");
  expect_failure({"trace", "export", trace_, "--out", out, "--step", "30"}, 1, "nothing of step 30");
}

/// Layers whose names are one file's, and two samples of a layer in a step.
TEST_F(TraceCommand, ExportsNamesThatAreTakenUnderOthers) {
  {
    TraceWriter writer(trace_);
    const auto write = [&](std::uint64_t step, const char* layer, float value) {
      writer.sample(step, {layer, {&value, 1}}, "q4");
    };
    write(1, "a/b", 1);
    write(1, "a_b", 2);
    write(1, "a/b", 3);
    write(2, "a_b", 4);
    for (const char* const spec : {"q4", "q2"}) writer.table(2, {{{"a/b", 1, 0, {{spec, 8, 0.1}}}}});
  }
  const std::string out = folder_ / "out";
  const CommandResult result = run_gradwire({"trace", "export", trace_, "--out", out});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, fmt::format("{0}/step-1/a_b-2.npy: layer a_b\n"
                                    "{0}/step-1/a_b-3.npy: layer a/b\n"
                                    "{0}/step-2/a_b-2.npy: layer a_b\n"
                                    "6 files\n",
                                    out));
  const auto value = [&](const char* file) {
    return *static_cast<const float*>(tools::read_npy(out + file).tensor().data);
  };
  EXPECT_EQ(value("/step-1/a_b.npy"), 1);
  EXPECT_EQ(value("/step-1/a_b-2.npy"), 2);
  EXPECT_EQ(value("/step-1/a_b-3.npy"), 3);
  EXPECT_EQ(value("/step-2/a_b-2.npy"), 4);
  EXPECT_THAT(read_file(out + "/step-2/table.json"), HasSubstr("q4"));
  EXPECT_THAT(read_file(out + "/step-2/table-2.json"), HasSubstr("q2"));
}

TEST_F(TraceCommand, SaysWhatIsInATrace) {
  write_trace();
  const CommandResult result = run_gradwire({"trace", "info", trace_});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, StartsWith("meta: {\"rank\":0}\nbytes: "));
  EXPECT_THAT(result.out, HasSubstr("(values: 41472)\nrecords: 4 samples, 1 tables\nsteps: 2, 10 to 20\n"));
  EXPECT_THAT(result.out, HasSubstr("  fc/weight  (64, 80)  q4             5120        2  "));
  EXPECT_THAT(result.out, HasSubstr("  fc/bias    (64,)     q8               64        2  "));
  tear_trace();
  const CommandResult torn = run_gradwire({"trace", "info", trace_});
  EXPECT_EQ(torn.exit_code, 0);
  EXPECT_THAT(torn.out, HasSubstr("records: 4 samples, 0 tables\n"));
  EXPECT_THAT(torn.err, HasSubstr("bytes at its end are no whole record, and are left out"));
  write_file(trace_, "something else");
  expect_failure({"trace", "info", trace_}, 1, "gradwire: error (bad_state): " + trace_ + ": no gradwire trace");
  expect_failure({"trace", "info", folder_ / "none"}, 1, "none: cannot open: No such file");
}

TEST_F(TraceCommand, RecordsACommand) {
  write_trace();
  const std::string bytes = read_file(trace_);
  const std::string out = folder_ / "new.trace";
  const auto record = [&](const std::string& script) {
    return run_gradwire({"trace", "record", "--out", out, "--", "sh", "-c", script, "sh", trace_});
  };
  const CommandResult good = record("cd / && cp \"$1\" \"$GRADWIRE_TRACE\" && echo done");
  EXPECT_EQ(good.exit_code, 0) << good.err;
  EXPECT_EQ(good.out, "done\n");
  EXPECT_THAT(good.err, HasSubstr(out + ": 5 records, "));
  EXPECT_EQ(read_file(out), bytes);

  { TraceWriter empty(folder_ / "empty.trace", "{}"); }
  const CommandResult empty = run_gradwire({"trace", "record", "--out", out, "--", "sh", "-c",
                                            "cp \"$1\" \"$GRADWIRE_TRACE\"", "sh", folder_ / "empty.trace"});
  EXPECT_EQ(empty.exit_code, 1);
  EXPECT_THAT(empty.err, HasSubstr("0 records"));
  EXPECT_THAT(empty.err, HasSubstr("not got as far as the samples"));

  const CommandResult none = record("true");
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.err, HasSubstr("no trace was written to " + out + ", which is an older file: "));
  EXPECT_EQ(record("cp \"$1\" \"$GRADWIRE_TRACE\"; exit 9").exit_code, 9);
  EXPECT_EQ(record("exit 9").exit_code, 9);
  const CommandResult killed = run_gradwire({"trace", "record", "--out", out, "--", "sh", "-c", "kill -TERM $$"});
  EXPECT_EQ(killed.exit_code, -1) << "128 + 15";
  EXPECT_THAT(killed.err, HasSubstr("no trace was written"));
  const CommandResult foreign = record("echo something else > \"$GRADWIRE_TRACE\"");
  EXPECT_EQ(foreign.exit_code, 1);
  EXPECT_THAT(foreign.err, HasSubstr("no gradwire trace"));
  expect_failure({"trace", "record", "--out", out, "--", folder_ / "no such command"}, 1, "cannot run ");
  EXPECT_THAT(run_gradwire({"trace", "record", "--out", folder_ / "none.trace", "--", "true"}).err,
              HasSubstr("no trace was written to " + (folder_ / "none.trace") + ": does"));
}

TEST_F(TraceCommand, NeverWritesOverWhatItReads) {
  write_trace();
  const std::string bytes = read_file(trace_);
  const std::string link = folder_ / "link.trace";
  std::filesystem::create_symlink(trace_, link);
  const auto refuse = [&](const std::vector<std::string>& arguments, const std::string& out) {
    expect_failure(arguments, 2, out + " is what is read, and would be lost");
    EXPECT_EQ(read_file(trace_), bytes);
  };
  for (const std::string& out : {trace_, link}) {
    refuse({"plan", "table", "--trace", trace_, "--candidates", "q4", "--out", out}, "--out " + out);
    refuse({"plan", "compare", trace_, "--json", out}, "--json " + out);
  }
  const std::string array = write_array("fc.weight.npy", {64, 80}, 0);
  const std::string before = read_file(array);
  refuse({"trace", "import", "--out", array, "--reference", "q4", "--in", array}, "--out " + array);
  const std::string table = folder_ / "table.json";
  std::filesystem::rename(trace_, table);
  std::filesystem::create_symlink(table, trace_);
  const CommandResult result = run_gradwire({"trace", "export", trace_, "--out", folder_ / "", "--step", "20"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("--out " + table + " is what is read, and would be lost"));
  EXPECT_EQ(read_file(table), bytes);
  EXPECT_EQ(read_file(array), before);
}

TEST_F(TraceCommand, WrongUsageIsExitCode2) {
  const std::vector<std::vector<std::string>> wrong{
      {"trace"},
      {"trace", "bogus"},
      {"trace", "info"},
      {"trace", "import", "--out", trace_},
      {"trace", "export", "--out", folder_ / "out"},
      {"trace", "export", trace_},
      {"trace", "record", "--out", trace_, "true"},
      {"trace", "record", "true"},
      {"trace", "record", "--out", "", "--", "true"},
      {"trace", "import", "--out", "", "--reference", "q4", "--in", trace_},
      {"plan", "table", "--trace", trace_, "--in", trace_, "--candidates", "q4", "--out", "t"},
      {"plan", "table", "--in", trace_, "--step", "1", "--candidates", "q4", "--out", "t"},
      {"plan", "compare"},
      {"plan", "compare", trace_, "--table", trace_},
      {"plan", "compare", "--table", trace_, "--candidates", "q4"},
      {"plan", "compare", trace_, "--policies", "uniform;;lgreco"},
  };
  for (const auto& arguments : wrong) {
    const CommandResult result = run_gradwire(arguments);
    EXPECT_EQ(result.exit_code, 2) << arguments[1];
    EXPECT_THAT(result.err, HasSubstr("gradwire: error: "));
  }
  for (const char* const action : {"--help", "info", "import", "export", "record"}) {
    const CommandResult help = run_gradwire({"trace", action, "--help"});
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_THAT(help.out, HasSubstr("-x GRADWIRE_TRACE"));
  }
}

TEST_F(TraceCommand, TablesAreMeasuredOnTraces) {
  write_trace();
  const std::string out = folder_ / "table.json";
  const std::vector<std::string> question{"plan", "table", "--trace", trace_, "--candidates", "q2,q4,q6", "--out", out};
  const CommandResult result = run_gradwire(question);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "2 layers, up to 4 candidates each\n") << "fc/bias has its own q8";
  const Table both = table_from_json(read_file(out));
  EXPECT_EQ(both.layers[1].candidates[both.layers[1].reference].spec, "q8");
  std::vector<std::string> one = question;
  one.insert(one.end(), {"--step", "20", "--reference", "q2"});
  ASSERT_EQ(run_gradwire(one).exit_code, 0);
  const Table last = table_from_json(read_file(out));
  EXPECT_EQ(last.layers[1].reference, 0u);
  const std::vector<float> x = values(5120, 20);
  EXPECT_EQ(last.layers[0].candidates[0].error,
            measure_layer({"fc/weight", {x.data(), x.size()}}, std::vector<std::string>{"q2"}, 0).candidates[0].error);
  EXPECT_NE(last.layers[0].candidates[0].error, both.layers[0].candidates[0].error);
  tear_trace();
  EXPECT_THAT(run_gradwire(question).err, HasSubstr("are left out"));
  one[9] = "30";
  const CommandResult none = run_gradwire(one);
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.err, HasSubstr(trace_ + ": the trace has no samples of step 30"));
}

TEST_F(TraceCommand, ComparesAllPoliciesOnATrace) {
  write_trace();
  const std::string out = folder_ / "rows.json";
  const CommandResult result = run_gradwire({"plan", "compare", trace_, "--reference", "q4", "--json", out});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("  policy "));
  EXPECT_THAT(result.out, HasSubstr("  lgreco(alpha=1)  "));
  const Json json = Json::parse(read_file(out));
  EXPECT_EQ(json["trace"], trace_);
  std::set<std::string> evaluated;
  const Json* uniform = nullptr;
  for (const Json& row : json["rows"]) {
    const auto policy = row["policy"].get<std::string>();
    evaluated.insert(policy.substr(0, policy.find('(')));
    if (row.contains("reason")) {
      EXPECT_NE(row["reason"], "");
      EXPECT_THAT(result.out, HasSubstr(policy + ": no plan: "));
      continue;
    }
    for (const char* const key : {"bytes", "error", "squared_error", "solver_ms"})
      EXPECT_TRUE(row[key].is_number()) << policy << ' ' << key;
    if (policy == "uniform") uniform = &row;
  }
  for (const PolicyInfo& info : list_policies()) EXPECT_TRUE(evaluated.contains(info.name)) << info.name;
  ASSERT_NE(uniform, nullptr);
  for (const Json& row : json["rows"]) {
    if (row["policy"] == "lgreco(alpha=1)" || row["policy"] == "budget(error=1)") {
      EXPECT_LE(row["bytes"].get<std::uint64_t>(), (*uniform)["bytes"].get<std::uint64_t>()) << row["policy"];
    }
  }
}

TEST_F(TraceCommand, ComparesGivenPoliciesOnATable) {
  const std::string table = folder_ / "table.json";
  write_file(table, R"({"layers":[
      {"name":"embed","count":1000,"reference":0,"candidates":[
        {"spec":"q4","bytes":500,"error":1},{"spec":"q2","bytes":250,"error":3},{"spec":"q8","bytes":1000,"error":0.1}]},
      {"name":"fc","count":100,"reference":0,"candidates":[
        {"spec":"q4","bytes":50,"error":4},{"spec":"q2","bytes":25,"error":9},{"spec":"q8","bytes":100,"error":0.4}]}]})");
  const std::string out = folder_ / "rows.json";
  const CommandResult result = run_gradwire({"plan", "compare", "--table", table, "--json", out, "--policies",
                                             "lgreco; fixed(q2,embed=q8) ;global_topk;budget(bytes=400)"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("policy              bytes  error  squared error  of uniform  solver ms\n"));
  EXPECT_THAT(result.out, HasSubstr("  lgreco                350    3.4           9.16     63.64 %  "));
  EXPECT_THAT(result.out, HasSubstr("  global_topk: no plan: invalid_argument: policy \"global_topk\": no layer has"));
  const Json json = Json::parse(read_file(out));
  EXPECT_EQ(json["table"], table);
  EXPECT_EQ(json["uniform_bytes"], 550);
  ASSERT_EQ(json["rows"].size(), 4u);
  EXPECT_EQ(json["rows"][0]["bytes"], 350);
  EXPECT_EQ(json["rows"][0]["error"], 3.4);
  EXPECT_EQ(json["rows"][1]["policy"], "fixed(q2,embed=q8)");
  EXPECT_EQ(json["rows"][1]["bytes"], 1025);
  EXPECT_FALSE(json["rows"][2].contains("bytes"));
  EXPECT_EQ(json["rows"][3]["limit"], "bytes");
  EXPECT_EQ(json["rows"][3]["budget"], 400.0);

  // Times, where the table has them.
  write_file(table, R"({"layers":[{"name":"fc","count":100,"ready_us":10,"reference":0,"candidates":[
      {"spec":"q4","bytes":50,"error":4,"us":3000},{"spec":"q2","bytes":25,"error":9,"us":1000}]}]})");
  const CommandResult timed = run_gradwire({"plan", "compare", "--table", table, "--json", out});
  ASSERT_EQ(timed.exit_code, 0) << timed.err;
  EXPECT_THAT(timed.out, HasSubstr("  solver ms  exposed ms\n"));
  const Json times = Json::parse(read_file(out));
  const auto exposed = [&](const std::string& policy) {
    for (const Json& row : times["rows"])
      if (row["policy"].get<std::string>().starts_with(policy) && row.contains("exposed_ms"))
        return row["exposed_ms"].get<double>();
    return -1.0;
  };
  EXPECT_EQ(exposed("uniform"), 3.0);
  EXPECT_EQ(exposed("budget(ms="), 3.0);
  EXPECT_EQ(exposed("lgreco(alpha=1,objective=time)"), 3.0);

  EXPECT_EQ(run_gradwire({"plan", "compare", "--table", table, "--policies", "global_topk"}).exit_code, 1)
      << "no plan at all";
  expect_failure({"plan", "compare", "--table", table, "--policies", "lgerco"}, 1, "unknown policy \"lgerco\"");
  expect_failure({"plan", "compare", folder_ / "none.trace"}, 1, "none.trace: cannot open");
}

}  // namespace
}  // namespace gradwire::test
