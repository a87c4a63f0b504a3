// Files that appear whole or not at all.
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>

#include "base/atomic_file.hpp"
#include "support/full_disk.hpp"

#include "gradwire/error.hpp"

namespace gradwire::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void put(const fs::path& path, const std::string& text, Sync sync) {
  AtomicFile file(path, sync);
  file.write(text.data(), text.size());
  file.close();
  file.commit();
}

class AtomicFiles : public ::testing::TestWithParam<Sync> {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  [[nodiscard]] std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  /// What Errc::io says.
  static std::string failure(const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::io) << error.what();
      return error.what();
    }
    return "no error";
  }

  fs::path folder_ = fs::temp_directory_path() / ("gradwire-atomic-file-" + std::to_string(::getpid()));
  fs::path path_ = folder_ / "x";
};

TEST_P(AtomicFiles, LeaveTheOldOneUntilCommitted) {
  put(path_, "old", GetParam());
  {
    AtomicFile file(path_, GetParam());
    file.write("new", 3);
    file.close();
    EXPECT_EQ(read(path_), "old");
    EXPECT_EQ(read(file.temporary()), "new");
    EXPECT_THAT(file.temporary().string(), StartsWith(path_.string() + ".tmp-" + std::to_string(::getpid()) + "-"));
  }
  EXPECT_EQ(read(path_), "old");
  EXPECT_EQ(files(), 1u);
  put(path_, "new", GetParam());
  EXPECT_EQ(read(path_), "new");
  EXPECT_EQ(files(), 1u);
}

TEST_P(AtomicFiles, ReplaceNothingButFiles) {
  EXPECT_THAT(failure([] { AtomicFile("/dev/null", GetParam()); }),
              HasSubstr("cannot write /dev/null: it exists and is not a regular file"));
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_THAT(failure([&] { AtomicFile(path_, GetParam()); }), HasSubstr("/x: it exists and is not a regular file"));
  EXPECT_TRUE(fs::is_fifo(path_));
  EXPECT_THAT(failure([&] { AtomicFile(folder_, GetParam()); }), HasSubstr("not a regular file"));
  EXPECT_THAT(failure([&] { AtomicFile(folder_ / "none" / "x", GetParam()); }),
              HasSubstr("none/x: No such file or directory"));
  EXPECT_EQ(files(), 1u);
}

TEST_P(AtomicFiles, MayBeRelative) {
  const fs::path before = fs::current_path();
  fs::current_path(folder_);
  EXPECT_EQ(failure([] { put("x", "new", GetParam()); }), "no error");
  fs::current_path(before);
  EXPECT_EQ(read(path_), "new");
}

/// In a container processes have the same few numbers again and again.
TEST_P(AtomicFiles, KeepOffTemporariesThatAKilledProcessLeft) {
  for (int i = 0; i < 100; ++i)
    std::ofstream(path_.string() + ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(i));
  put(path_, "new", GetParam());
  EXPECT_EQ(read(path_), "new");
  EXPECT_EQ(files(), 101u);
}

TEST_P(AtomicFiles, ThatFailLeaveTheOldOne) {
  put(path_, "old", GetParam());
  const std::string large(1 << 20, 'x');
  for (const std::size_t size : {std::size_t{8}, large.size()}) {
    const FullDisk full(4);
    EXPECT_THAT(failure([&] { put(path_, large.substr(0, size), GetParam()); }), HasSubstr("/x: File too large"));
    EXPECT_EQ(read(path_), "old");
    EXPECT_EQ(files(), 1u);
  }
  const std::string late = failure([&] {
    AtomicFile file(folder_ / "late", GetParam());
    file.close();
    fs::create_directories(folder_ / "late");
    file.commit();
  });
  EXPECT_THAT(late, HasSubstr("late: Is a directory"));
  EXPECT_EQ(files(), 2u);
}

INSTANTIATE_TEST_SUITE_P(, AtomicFiles, ::testing::Values(Sync::no, Sync::yes),
                         [](const auto& test) { return std::string(test.param == Sync::yes ? "Synced" : "Plain"); });

}  // namespace
}  // namespace gradwire::testing
