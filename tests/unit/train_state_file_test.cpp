// The files of saved state: what was written is read, and nothing else is.
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <iterator>

#include "base/fail.hpp"
#include "support/full_disk.hpp"
#include "train/state_file.hpp"

#include "gradwire/version.hpp"

namespace gradwire::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string read_bytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void write_bytes(const fs::path& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << bytes;
  ASSERT_TRUE(out.flush()) << path;
}

/// A file as docs/state-format.md describes it, around any JSON text and payload.
std::string compose(const std::string& json, const std::string& payload = {}) {
  const auto number = [](std::uint64_t value) {
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
  };
  std::string file = std::string("GWSTATE\x01") + number(json.size()) + json + payload;
  return file + number(XXH3_64bits(file.data(), file.size()));
}

class StateFile : public ::testing::Test {
 protected:
  void SetUp() override {
    const ::testing::TestInfo& info = *::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / fmt::format("gradwire-{}-{}", info.name(), ::getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  /// Reads a file of these bytes: Errc::ok for one that is accepted.
  [[nodiscard]] Errc read_as(const std::string& bytes, std::string* message = nullptr) const {
    const fs::path path = folder_ / "made";
    write_bytes(path, bytes);
    return error_of([&] { (void)read_state(path); }, message);
  }

  template <class Action>
  static Errc error_of(Action&& action, std::string* message = nullptr) {
    try {
      action();
    } catch (const Error& error) {
      if (message != nullptr) *message = error.what();
      return error.code();
    }
    return Errc::ok;
  }
  template <class Action>
  static std::string message_of(Errc code, Action&& action) {
    std::string message = "no error";
    EXPECT_EQ(error_of(action, &message), code) << message;
    return message;
  }
  [[nodiscard]] std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  fs::path folder_;
};

SavedState sample() {
  std::string all_bytes;
  for (int i = 0; i < 256; ++i) all_bytes += static_cast<char>(i);
  SavedState state{2, 5, (std::uint64_t{1} << 63) + 7, 11, 13, false, {}};
  state.params.push_back({"layer \"0\"\n\xc3\xa4",
                          {3, 1, 7},
                          DType::bf16,
                          "econtrol(0.01)",
                          {{"residual", StateKind::residual, "quantize(bits=8)", all_bytes},
                           {"estimate", StateKind::share, "f32", std::string(84, '\0')},
                           {"mean estimate", StateKind::replicated, "f32", "x"}},
                          {{"powersgd(rank=2)", 0, "basis"}, {"powersgd(rank=4)", 3, all_bytes}}});
  state.params.push_back({"", {}, DType::f16, "", {}, {}});
  return state;
}

void expect_equal(const SavedState& a, const SavedState& b) {
  EXPECT_EQ(a.rank, b.rank);
  EXPECT_EQ(a.ranks, b.ranks);
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.skipped_steps, b.skipped_steps);
  EXPECT_EQ(a.dense_fallbacks, b.dense_fallbacks);
  EXPECT_EQ(a.average, b.average);
  ASSERT_EQ(a.params.size(), b.params.size());
  for (std::size_t p = 0; p < a.params.size(); ++p) {
    const SavedParam& x = a.params[p];
    const SavedParam& y = b.params[p];
    EXPECT_EQ(x.name, y.name);
    EXPECT_EQ(x.shape, y.shape);
    EXPECT_EQ(x.dtype, y.dtype);
    EXPECT_EQ(x.rule, y.rule);
    ASSERT_EQ(x.vectors.size(), y.vectors.size());
    for (std::size_t v = 0; v < x.vectors.size(); ++v) {
      EXPECT_EQ(x.vectors[v].name, y.vectors[v].name);
      EXPECT_EQ(x.vectors[v].kind, y.vectors[v].kind);
      EXPECT_EQ(x.vectors[v].storage, y.vectors[v].storage);
      EXPECT_EQ(x.vectors[v].bytes, y.vectors[v].bytes);
    }
    ASSERT_EQ(x.memories.size(), y.memories.size());
    for (std::size_t m = 0; m < x.memories.size(); ++m) {
      EXPECT_EQ(x.memories[m].compressor, y.memories[m].compressor);
      EXPECT_EQ(x.memories[m].set, y.memories[m].set);
      EXPECT_EQ(x.memories[m].bytes, y.memories[m].bytes);
    }
  }
}

TEST_F(StateFile, KeepsEveryField) {
  const SavedState state = sample();
  const fs::path path = folder_ / "deep" / "er" / state_file_name(2, 5);
  write_state(path, state);
  EXPECT_EQ(path.filename(), "rank-2-of-5.gradwire");
  expect_equal(read_state(path), state);
  const std::string first = read_bytes(path);
  write_state(path, read_state(path));
  EXPECT_EQ(read_bytes(path), first) << "the same state gives the same bytes";
}

TEST_F(StateFile, KeepsAStateOfNothing) {
  const fs::path path = folder_ / "empty";
  write_state(path, {});
  expect_equal(read_state(path), {});
}

/// A name that JSON cannot carry is refused while saving, not met when it is too late.
TEST_F(StateFile, RefusesNamesThatAreNoText) {
  SavedState state;
  state.params.push_back({"w\xff", {1}, DType::f32, "none", {}, {}});
  const std::string message =
      message_of(Errc::invalid_argument, [&] { write_state(folder_ / "rank-0-of-1.gradwire", state); });
  EXPECT_THAT(message, AllOf(HasSubstr("rank-0-of-1.gradwire"), HasSubstr("UTF-8")));
  EXPECT_EQ(files(), 0u);
}

TEST_F(StateFile, TornAtEveryLengthIsRefused) {
  write_state(folder_ / "whole", sample());
  const std::string whole = read_bytes(folder_ / "whole");
  ASSERT_EQ(read_as(whole), Errc::ok);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    ASSERT_EQ(read_as(whole.substr(0, size)), Errc::bad_state) << size << " of " << whole.size() << " bytes";
  }
  EXPECT_EQ(read_as(whole + '\0'), Errc::bad_state) << "a byte too many";
}

TEST_F(StateFile, EveryDamagedByteIsNoticed) {
  write_state(folder_ / "whole", sample());
  const std::string whole = read_bytes(folder_ / "whole");
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << i % 8));
    ASSERT_EQ(read_as(damaged), Errc::bad_state) << "byte " << i;
  }
}

/// What has a right checksum and is none of ours all the same.
TEST_F(StateFile, ForeignContentIsRefused) {
  write_state(folder_ / "whole", {1, 2, 3, 0, 0, true, {{"w", {2}, DType::f32, "ef", {}, {}}}});
  const std::string whole = read_bytes(folder_ / "whole");
  const std::string json = whole.substr(16, whole.size() - 24);
  ASSERT_EQ(compose(json), whole) << "this test knows the format";
  const auto with = [&](const std::string& what, const std::string& instead) {
    std::string changed = json;
    const std::size_t at = changed.find(what);
    EXPECT_NE(at, std::string::npos) << what;
    return compose(changed.replace(at, what.size(), instead));
  };
  std::string message;
  for (const std::string& text : {std::string(), std::string("["), std::string("[]"), std::string("{}"),
                                  std::string("null"), std::string(100'000, '['), std::string("\xff\xfe")}) {
    EXPECT_EQ(read_as(compose(text), &message), Errc::bad_state) << text.substr(0, 20);
    EXPECT_THAT(message, AllOf(HasSubstr("/made: "), HasSubstr("malformed"))) << text.substr(0, 20);
  }
  const std::string deep = "\"plan\":" + std::string(100'000, '[') + std::string(100'000, ']');
  EXPECT_EQ(read_as(with("\"plan\":null", deep), &message), Errc::bad_state);
  EXPECT_THAT(message, HasSubstr("nests deeper than 64"));
  EXPECT_EQ(read_as(with("\"step\":3", "\"step\":\"x\"")), Errc::bad_state);
  EXPECT_EQ(read_as(with("\"step\":3", "\"stop\":3")), Errc::bad_state);
  EXPECT_EQ(read_as(with("\"shape\":[2]", "\"shape\":2")), Errc::bad_state);
  EXPECT_EQ(read_as(with("\"params\":[{", "\"params\":[7,{")), Errc::bad_state);
  const std::string vector = R"("vectors":[{"at":[FIRST,SIZE],"kind":0,"name":"e","storage":"f32"}])";
  const auto with_bytes = [&](const char* first, const char* size) {
    std::string text = vector;
    text.replace(text.find("FIRST"), 5, first);
    text.replace(text.find("SIZE"), 4, size);
    return with("\"vectors\":[]", text);
  };
  EXPECT_EQ(read_as(with_bytes("0", "0")), Errc::ok);
  for (const char* const size : {"1", "8", "18446744073709551615"}) {
    EXPECT_EQ(read_as(with_bytes("0", size), &message), Errc::bad_state) << size;
    EXPECT_EQ(read_as(with_bytes(size, "1")), Errc::bad_state) << size;
  }
  EXPECT_THAT(message, HasSubstr("bytes beyond the file"));
}

TEST_F(StateFile, OtherKindsAndTypesThanThoseKnownAreRefused) {
  write_state(folder_ / "whole", {0, 1, 3, 0, 0, true, {{"w", {2}, DType::f32, "ef", {{}}, {}}}});
  const std::string whole = read_bytes(folder_ / "whole");
  const std::string json = whole.substr(16, whole.size() - 24);
  for (const char* const field : {"\"dtype\":", "\"kind\":"}) {
    for (const char* const value : {"-1", "3", "256"}) {
      std::string changed = json;
      const std::size_t at = changed.find(field);
      ASSERT_NE(at, std::string::npos) << field;
      changed.replace(at, std::strlen(field) + 1, std::string(field) + value);
      EXPECT_EQ(read_as(compose(changed)), Errc::bad_state) << field << value;
    }
  }
}

TEST_F(StateFile, OtherVersionsAreNamed) {
  write_state(folder_ / "whole", {});
  const std::string whole = read_bytes(folder_ / "whole");
  std::string json = whole.substr(16, whole.size() - 24);
  const std::string version = "\"version\":2";
  const std::size_t at = json.find(version);
  ASSERT_NE(at, std::string::npos);
  std::string message;
  EXPECT_EQ(read_as(compose(json.replace(at, version.size(), "\"version\":3")), &message), Errc::bad_state);
  EXPECT_THAT(message,
              AllOf(HasSubstr("/made: version 3"), HasSubstr("reads versions 1 to 2"), HasSubstr(GRADWIRE_VERSION)));
  EXPECT_EQ(read_as(compose("{\"version\":99}"), &message), Errc::bad_state) << "whatever else a later one has";
  EXPECT_THAT(message, HasSubstr("version 99"));
}

TEST_F(StateFile, PlansComeBackAndVersion1HasNone) {
  SavedState state;
  state.plan.plan = R"({"layers":[{"bytes":10,"error":0.5,"name":"w","spec":"q4"}]})";
  state.plan.forbidden = {{"w", "q2"}};
  write_state(folder_ / "planned", state);
  EXPECT_EQ(read_state(folder_ / "planned").plan, state.plan);

  write_state(folder_ / "whole", {});
  EXPECT_EQ(read_state(folder_ / "whole").plan, SavedPlan{});
  const std::string whole = read_bytes(folder_ / "whole");
  std::string json = whole.substr(16, whole.size() - 24);
  for (const auto& [from, to] :
       {std::pair{"\"plan\":null,", ""}, {"\"forbidden\":{},", ""}, {"\"version\":2", "\"version\":1"}}) {
    const std::size_t at = json.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    json.replace(at, std::strlen(from), to);
  }
  EXPECT_EQ(read_as(compose(json)), Errc::ok);
}

TEST_F(StateFile, WhatIsNoStateIsNamed) {
  std::string message;
  EXPECT_EQ(read_as("", &message), Errc::bad_state);
  EXPECT_THAT(message, AllOf(HasSubstr("/made"), HasSubstr("no state of a gradwire hook")));
  EXPECT_EQ(read_as("PK\x03\x04 something of somebody else's", &message), Errc::bad_state);
  EXPECT_THAT(message, HasSubstr("no state of a gradwire hook"));

  const std::string missing = message_of(Errc::io, [&] { (void)read_state(folder_ / "missing"); });
  EXPECT_THAT(missing, AllOf(HasSubstr("/missing: cannot open"), HasSubstr("No such file")));
  fs::create_directory(folder_ / "folder");
  const std::string folder = message_of(Errc::io, [&] { (void)read_state(folder_ / "folder"); });
  EXPECT_THAT(folder, AllOf(HasSubstr("/folder: cannot read"), HasSubstr("directory")));
}

TEST_F(StateFile, AWriteThatFailsLeavesTheOldFile) {
  const fs::path path = folder_ / state_file_name(0, 1);
  SavedState state = sample();
  write_state(path, state);
  const std::string old = read_bytes(path);
  state.step = 1234;
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, old.size() / 2, old.size() - 100}) {
    const FullDisk full(bytes);
    const std::string message = message_of(Errc::io, [&] { write_state(path, state); });
    EXPECT_THAT(message, AllOf(HasSubstr(path.string()), HasSubstr("cannot write"), HasSubstr("File too large")));
    EXPECT_EQ(read_bytes(path), old) << bytes;
    EXPECT_EQ(files(), 1u) << "no temporary file is left";
  }
  write_state(path, state);
  EXPECT_EQ(read_state(path).step, 1234u);
  EXPECT_EQ(files(), 1u);
}

TEST_F(StateFile, AWriteThatCannotTakeItsPlaceLeavesNothing) {
  fs::create_directories(folder_ / state_file_name(0, 1) / "in the way");
  const std::string rename = message_of(Errc::io, [&] { write_state(folder_ / state_file_name(0, 1), sample()); });
  EXPECT_THAT(rename, HasSubstr("rank-0-of-1.gradwire: it exists and is not a regular file"));
  EXPECT_EQ(files(), 1u);
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  const std::string pipe = message_of(Errc::io, [&] { write_state(folder_ / "pipe", sample()); });
  EXPECT_THAT(pipe, HasSubstr("/pipe: it exists and is not a regular file"));
  EXPECT_TRUE(fs::is_fifo(folder_ / "pipe"));
  EXPECT_EQ(files(), 2u);

  write_bytes(folder_ / "file", "");
  const std::string folder = message_of(Errc::io, [&] { write_state(folder_ / "file" / "state", sample()); });
  EXPECT_THAT(folder, AllOf(HasSubstr("/file: cannot make the folder")));
}

/// `hook.save("checkpoint")` and `hook.save(".")` too.
TEST_F(StateFile, PathsMayBeRelative) {
  const fs::path before = fs::current_path();
  fs::current_path(folder_);
  EXPECT_EQ(error_of([] { write_state(state_file_name(0, 1), {}); }), Errc::ok);
  EXPECT_EQ(error_of([] { write_state(fs::path("some") / state_file_name(0, 1), {}); }), Errc::ok);
  EXPECT_EQ(saved_ranks("."), 1);
  EXPECT_EQ(saved_ranks("some"), 1);
  fs::current_path(before);
}

TEST_F(StateFile, CountsTheRanksOfAFolder) {
  const auto complaint = [this](Errc code) { return message_of(code, [this] { (void)saved_ranks(folder_); }); };
  EXPECT_THAT(complaint(Errc::io), AllOf(HasSubstr(folder_.string()), HasSubstr("no saved state in it")));
  for (const char* const other : {"notes.txt", "rank-0-of-3.gradwire.tmp-77-0", "rank-00-of-3.gradwire",
                                  "rank-0-of-0.gradwire", "rank-3-of-3.gradwire", "rank--1-of-3.gradwire"}) {
    write_bytes(folder_ / other, "");
  }
  EXPECT_THAT(complaint(Errc::io), HasSubstr("no saved state in it")) << "none of these is one";
  for (const int rank : {0, 2}) write_state(folder_ / state_file_name(rank, 3), {});
  EXPECT_THAT(complaint(Errc::bad_state), HasSubstr("rank-1-of-3.gradwire is missing"));
  write_state(folder_ / state_file_name(1, 3), {});
  EXPECT_EQ(saved_ranks(folder_), 3);
  write_state(folder_ / state_file_name(0, 12), {});
  EXPECT_THAT(complaint(Errc::bad_state), HasSubstr("states of 3 and of 12 ranks lie in it"));
  const std::string missing = message_of(Errc::io, [&] { (void)saved_ranks(folder_ / "missing"); });
  EXPECT_THAT(missing, AllOf(HasSubstr("/missing: cannot list"), HasSubstr("No such file")));
}

}  // namespace
}  // namespace gradwire::testing
