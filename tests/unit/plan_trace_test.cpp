// Traces: what was written is read, up to the last whole record, and nothing else is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

#include "base/fail.hpp"
#include "support/full_disk.hpp"

#include "gradwire/trace.hpp"

namespace gradwire::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::string number(std::uint64_t value, std::size_t size) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes.substr(0, size);
}

/// A record as docs/trace-format.md describes it, whose checksums are right, whatever else is in it.
std::string record(std::uint32_t type, const std::string& head, const std::string& payload, std::uint64_t raw) {
  const std::string body = head + payload;
  const std::string fields = number(type, 4) + number(head.size(), 4) + number(payload.size(), 8) + number(raw, 8) +
                             number(XXH64(body.data(), body.size(), 0), 8);
  return fields + number(XXH64(fields.data(), fields.size(), 0), 8) + body;
}

std::string zstd(const std::string& bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 1));
  return out;
}

const std::string kStart = std::string("GWTRACE\x01") + record(1, "{}", "", 0);
const std::string kHead = R"({"step":3,"name":"w","count":2,"shape":[2],"reference":"q4"})";

class Trace : public ::testing::Test {
 protected:
  Trace() {
    const ::testing::TestInfo& info = *::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / fmt::format("gradwire-trace-{}-{}", info.name(), ::getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    path_ = folder_ / "run.trace";
  }
  ~Trace() override { fs::remove_all(folder_); }

  /// Three records: a matrix in two steps, and a table.
  void write_example() const {
    TraceWriter writer(path_, R"({"rank": 0, "ranks": 4})");
    std::vector<float> x = kValues;
    writer.sample(7, {"fc.weight", {x.data(), x.size()}, {2, 3}}, "q4");
    for (float& value : x) value *= 2;
    writer.sample(8, {"fc.weight", {x.data(), x.size()}}, "q4");
    writer.table(9, {{{"fc.weight", 6, 1, {{"q2", 16, 0.5}, {"q4", 32, 0.1}}}}});
    EXPECT_EQ(writer.bytes(), fs::file_size(path_)) << "each record is there at once";
    writer.close();
  }

  void write_bytes(const std::string& bytes) const {
    std::ofstream out(path_, std::ios::binary | std::ios::trunc);
    out << bytes;
    ASSERT_TRUE(out.flush());
  }

  struct Found {
    std::vector<std::uint64_t> ends;  ///< where each record ends
    std::uint64_t torn = 0;
    std::string error;
  };
  [[nodiscard]] Found read_all(TraceReader::Torn torn) const {
    Found found;
    try {
      TraceReader reader(path_, torn);
      std::uint64_t end = kStart.size() - 2 + reader.meta().size();
      while (reader.next()) found.ends.push_back(end += reader.record_bytes());
      found.torn = reader.torn_bytes();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::bad_state) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(path_));
      found.error = error.what();
      EXPECT_NE(found.error, "");
    }
    return found;
  }
  /// What is said of a trace with this record behind its meta data.
  [[nodiscard]] std::string refusal(const std::string& record) const {
    write_bytes(kStart + record);
    return read_all(TraceReader::Torn::stop).error;
  }

  static inline const std::vector<float> kValues{1.5f,   -0.0f, std::numeric_limits<float>::infinity(),
                                                 1e-42f, -7,    3e38f};
  fs::path folder_;
  std::string path_;
};

TEST_F(Trace, IsReadAsItWasWritten) {
  write_example();
  TraceReader reader(path_);
  EXPECT_EQ(reader.meta(), R"({"rank":0,"ranks":4})");
  const auto first = std::get<TraceSample>(reader.next().value());
  EXPECT_EQ(first.step, 7u);
  EXPECT_EQ(first.name, "fc.weight");
  EXPECT_EQ(first.shape, (std::vector<std::size_t>{2, 3}));
  EXPECT_EQ(first.reference, "q4");
  ASSERT_EQ(first.values.size(), kValues.size());
  EXPECT_EQ(std::memcmp(first.values.data(), kValues.data(), kValues.size() * sizeof(float)), 0);
  EXPECT_EQ(first.view().values.count, 6u);
  const auto second = std::get<TraceSample>(reader.next().value());
  EXPECT_EQ(second.step, 8u);
  EXPECT_TRUE(second.shape.empty());
  EXPECT_EQ(second.values[0], 3.0f);
  const auto table = std::get<TraceTable>(reader.next().value());
  EXPECT_EQ(table.step, 9u);
  EXPECT_EQ(to_json(table.table), to_json(Table{{{"fc.weight", 6, 1, {{"q2", 16, 0.5}, {"q4", 32, 0.1}}}}}));
  EXPECT_FALSE(reader.next());
  EXPECT_FALSE(reader.next());
  EXPECT_EQ(reader.torn_bytes(), 0u);
}

TEST_F(Trace, CanBeReadWhileItIsWritten) {
  TraceWriter writer(path_);
  TraceReader reader(path_, TraceReader::Torn::stop);
  EXPECT_FALSE(reader.next());
  writer.table(1, {{{"w", 6, 0, {{"q2", 16, 0.5}}}}});
  EXPECT_TRUE(reader.next());
  EXPECT_FALSE(reader.next());
}

TEST_F(Trace, HasOneWriterAtATime) {
  write_example();
  const std::string before = read_bytes(path_);
  {
    const std::vector<float> x = kValues;
    TraceWriter writer(path_);
    writer.sample(1, {"w", {x.data(), x.size()}}, "q4");
    try {
      TraceWriter{path_};
      ADD_FAILURE() << "two writers";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::io);
      EXPECT_THAT(error.what(), HasSubstr(path_ + " is being written by another trace"));
    }
    writer.sample(2, {"w", {x.data(), x.size()}}, "q4");
    EXPECT_EQ(fs::file_size(path_), writer.bytes()) << "the other one has not touched it";
  }
  EXPECT_EQ(read_all(TraceReader::Torn::refuse).ends.size(), 2u);
  write_example();  // the first one is gone
  EXPECT_EQ(read_bytes(path_), before);
  const TraceWriter one("/dev/null");
  const TraceWriter other("/dev/null");  // no file that could be torn
}

TEST_F(Trace, OfAKilledRunIsReadToItsLastWholeRecord) {
  write_example();
  const std::string whole = read_bytes(path_);
  const std::vector<std::uint64_t> ends = read_all(TraceReader::Torn::refuse).ends;
  ASSERT_EQ(ends.size(), 3u);
  ASSERT_EQ(ends.back(), whole.size());
  const std::size_t first = kStart.size() - 2 + std::strlen(R"({"rank":0,"ranks":4})");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write_bytes(whole.substr(0, size));
    const Found stopped = read_all(TraceReader::Torn::stop);
    const Found refused = read_all(TraceReader::Torn::refuse);
    if (size < first) {
      EXPECT_NE(stopped.error, "") << size;
      EXPECT_NE(refused.error, "") << size;
      continue;
    }
    std::vector<std::uint64_t> left;
    std::uint64_t last = first;
    for (const std::uint64_t end : ends) {
      if (end > size) continue;
      left.push_back(end);
      last = end;
    }
    EXPECT_EQ(stopped.error, "") << size;
    EXPECT_EQ(stopped.ends, left) << size;
    EXPECT_EQ(stopped.torn, size - last) << size;
    EXPECT_EQ(refused.error.empty(), size == last) << size;
  }
}

TEST_F(Trace, EveryFlippedByteIsFound) {
  write_example();
  const std::string whole = read_bytes(path_);
  for (std::size_t place = 0; place < whole.size(); ++place) {
    std::string damaged = whole;
    damaged[place] = static_cast<char>(damaged[place] ^ 0x10);
    write_bytes(damaged);
    EXPECT_NE(read_all(TraceReader::Torn::stop).error, "") << place;
  }
}

TEST_F(Trace, ForgedRecordsAreRefused) {
  const std::string two = zstd(std::string(8, '\0'));
  EXPECT_EQ(refusal(record(2, kHead, two, 8)), "");
  EXPECT_EQ(refusal(record(77, "anything", two, 8)), "") << "of a type that is not known";
  EXPECT_THAT(refusal(record(1, "{}", "", 0)), HasSubstr("not the first record"));
  // Sizes that the bytes cannot have: nothing of that size is allocated.
  const auto huge = [](std::uint64_t count) {
    return fmt::format(R"({{"step":3,"name":"w","count":{0},"shape":[{0}],"reference":"q4"}})", count);
  };
  EXPECT_THAT(refusal(record(2, huge(std::uint64_t{1} << 40), two, std::uint64_t{1} << 42)),
              HasSubstr("no zstd frame of 4398046511104 bytes"));
  EXPECT_THAT(refusal(record(2, huge(1000), two, 4000)), HasSubstr("no zstd frame of 4000 bytes"));
  EXPECT_THAT(refusal(record(2, kHead, "not zstd", 8)), HasSubstr("no zstd frame of 8 bytes"));
  EXPECT_THAT(refusal(record(2, kHead, two.substr(0, two.size() - 1), 8)), HasSubstr("libzstd"));
  EXPECT_THAT(refusal(record(2, kHead, two, 12)), HasSubstr("2 elements in 12 bytes"));
  EXPECT_THAT(refusal(record(2, kHead, "", 0)), HasSubstr("2 elements in 0 bytes"));
  const auto with = [&](const char* from, const char* to) {
    std::string head = kHead;
    head.replace(head.find(from), std::strlen(from), to);
    return refusal(record(2, head, two, 8));
  };
  EXPECT_THAT(with("[2]", "[3]"), HasSubstr("its shape has not 2 elements"));
  EXPECT_THAT(with("[2]", "[4294967296,4294967296,2]"), HasSubstr("its shape has not 2 elements"));
  EXPECT_THAT(with("\"w\"", "7"), HasSubstr(": its head: \"name\" is 7; expected a string"));
  for (const char* key : {"step", "count"}) {
    const std::string from = fmt::format("\"{}\":{}", key, key == std::string_view("step") ? 3 : 2);
    for (const char* number : {"1.5", "-1", "1e300", "\"2\""}) {
      EXPECT_THAT(with(from.c_str(), fmt::format("\"{}\":{}", key, number).c_str()),
                  HasSubstr(fmt::format("\"{}\" is ", key)))
          << number;
    }
  }
  EXPECT_THAT(with("[2]", "[100.9,200.2]"), HasSubstr("\"shape\" is [100.9,200.2]; expected a list of whole numbers"));
  EXPECT_THAT(with("[2]", "2"), HasSubstr("\"shape\" is 2; expected a list"));
  EXPECT_THAT(with(",\"shape\":[2]", ""), HasSubstr("\"shape\" is missing"));
  EXPECT_EQ(with("[2]", "[2.0]"), "") << "as some writers have whole numbers";
  EXPECT_THAT(refusal(record(3, R"({"step":1.5})", zstd("{}"), 2)), HasSubstr("\"step\" is 1.5; expected a whole"));
  EXPECT_THAT(refusal(record(3, "7", zstd("{}"), 2)), HasSubstr("expected an object, found 7"));
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  EXPECT_THAT(with("3", deep.c_str()), HasSubstr("nests deeper than"));
  EXPECT_THAT(with("\"w\"", "\"\""), HasSubstr("name"));
  EXPECT_THAT(with("\"step\"", "\"stop\""), HasSubstr("step"));
  EXPECT_THAT(with("}", ""), HasSubstr("record at byte"));
  EXPECT_THAT(refusal(record(3, R"({"step":1})", zstd("{}"), 2)), HasSubstr("\"layers\" is missing"));
  write_bytes("GWTRACE\x02 and what version 2 may have");
  EXPECT_THAT(read_all(TraceReader::Torn::stop).error, HasSubstr("of version 2; this gradwire reads version 1"));
  write_bytes("GWSTATE\x01 and more");
  EXPECT_THAT(read_all(TraceReader::Torn::stop).error, HasSubstr("no gradwire trace"));
}

TEST_F(Trace, WhatCannotBeWrittenIsSaid) {
  const auto failure = [](const auto& action) {
    try {
      action();
    } catch (const Error& error) {
      return fmt::format("{}: {}", name(error.code()), error.what());
    }
    return std::string("no failure");
  };
  const std::string nowhere = folder_ / "none" / "run.trace";
  EXPECT_THAT(failure([&] { TraceWriter{nowhere}; }), HasSubstr("io: " + nowhere + ": cannot open: No such file"));
  EXPECT_THAT(failure([&] { TraceReader{nowhere}; }), HasSubstr("io: " + nowhere + ": cannot open: No such file"));
  EXPECT_THAT(failure([&] { TraceReader{folder_}; }), HasSubstr("io: " + folder_.string() + ": cannot read"));
  EXPECT_THAT(failure([&] { TraceWriter("/dev/full"); }), HasSubstr("io: /dev/full: cannot write: No space"));
  EXPECT_THAT(failure([&] { TraceWriter(path_, "[]"); }), HasSubstr("invalid_argument: " + path_));
  const std::string deep = R"({"a":)" + std::string(200'000, '[') + std::string(200'000, ']') + "}";
  EXPECT_THAT(failure([&] { TraceWriter(path_, deep); }),
              AllOf(HasSubstr("invalid_argument: " + path_), HasSubstr("nests deeper than")));
  EXPECT_FALSE(fs::exists(path_));

  TraceWriter writer(path_);
  std::vector<float> x = kValues;
  const ConstTensor values(x.data(), x.size());
  EXPECT_THAT(failure([&] { writer.sample(1, {"w", values, {7}}, "q4"); }), HasSubstr("layer 'w': its shape has 7"));
  EXPECT_THAT(failure([&] { writer.sample(1, {"w", {x.data(), 6, DType::f16}}, "q4"); }), HasSubstr("f16"));
  EXPECT_THAT(failure([&] { writer.sample(1, {"\xff", values}, "q4"); }), HasSubstr("UTF-8"));
  EXPECT_THAT(failure([&] { writer.sample(1, {"w", values}, ""); }), HasSubstr("reference"));
  EXPECT_THAT(failure([&] { writer.table(1, {}); }), HasSubstr("there are no layers"));
  EXPECT_THAT(failure([&] {
                writer.table(1, {{{"\xff", 6, 0, {{"q2", 16, 0.5}}}}});
              }),
              AllOf(HasSubstr("invalid_argument: "), HasSubstr("UTF-8")));
  EXPECT_EQ(fs::file_size(path_), writer.bytes()) << "nothing of them is in the file";
  writer.sample(1, {"w", values}, "q4");
  writer.close();
  writer.close();
  EXPECT_THAT(failure([&] { writer.sample(1, {"w", values}, "q4"); }), HasSubstr("closed"));
  EXPECT_EQ(read_all(TraceReader::Torn::refuse).ends.size(), 1u);
}

TEST_F(Trace, AWriteThatFailsLeavesTheRecordsBefore) {
  TraceWriter writer(path_);
  const std::vector<float> x(1000, 0.5f);
  const LayerSample sample{"w", {x.data(), x.size()}};
  writer.sample(1, sample, "q4");
  const std::uint64_t before = writer.bytes();
  for (const std::uint64_t more : {0u, 1u, 50u, 100u}) {
    const FullDisk full(before + more);
    try {
      writer.sample(2, sample, "q4");
      ADD_FAILURE() << "written beyond the limit";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::io);
      EXPECT_THAT(error.what(), HasSubstr(path_ + ": cannot write: File too large"));
    }
    EXPECT_EQ(fs::file_size(path_), before);
  }
  writer.sample(3, sample, "q4");
  EXPECT_EQ(read_all(TraceReader::Torn::refuse).ends.size(), 2u);
}

}  // namespace
}  // namespace gradwire::testing
