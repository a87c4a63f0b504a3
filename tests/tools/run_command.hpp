#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace gradwire::test {

/// A folder of its own for each test, removed with all that is in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();

  [[nodiscard]] std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  /// Names of the files in it, sorted.
  [[nodiscard]] std::vector<std::string> files() const;

 private:
  std::filesystem::path path_;
};

struct CommandResult {
  int exit_code = -1;  ///< -1 when a signal ended it
  std::string out;
  std::string err;
};

/// Runs the built `gradwire` with these arguments and no standard input.
[[nodiscard]] CommandResult run_gradwire(const std::vector<std::string>& arguments);

[[nodiscard]] std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& bytes);

}  // namespace gradwire::test
