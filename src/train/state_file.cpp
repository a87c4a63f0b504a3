#include "train/state_file.hpp"

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <unistd.h>
#include <xxhash.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <set>

#include "base/atomic_file.hpp"
#include "base/fail.hpp"
#include "base/fail_io.hpp"
#include "base/parse_json.hpp"

#include "gradwire/version.hpp"

namespace gradwire {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "state files are little-endian");

// magic, bytes of the JSON text, JSON text, payload, XXH3 (64 bits) of all before it
constexpr std::string_view kMagic{"GWSTATE\x01", 8};
constexpr std::size_t kHead = kMagic.size() + sizeof(std::uint64_t);
constexpr std::size_t kDigest = sizeof(std::uint64_t);
constexpr int kVersion = 2;  // 1 had no plan

template <class T>
std::string_view bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

Json describe(const SavedParam& param, std::string& payload) {
  const auto place = [&payload](const std::string& bytes) {
    const Json where{payload.size(), bytes.size()};
    payload += bytes;
    return where;
  };
  Json vectors = Json::array();
  for (const SavedVector& vector : param.vectors) {
    vectors.push_back({{"name", vector.name},
                       {"kind", static_cast<int>(vector.kind)},
                       {"storage", vector.storage},
                       {"at", place(vector.bytes)}});
  }
  Json memories = Json::array();
  for (const SavedMemory& memory : param.memories) {
    memories.push_back({{"compressor", memory.compressor}, {"set", memory.set}, {"at", place(memory.bytes)}});
  }
  return {{"name", param.name}, {"shape", param.shape}, {"dtype", static_cast<int>(param.dtype)},
          {"rule", param.rule}, {"vectors", vectors},   {"memories", memories}};
}

std::string compose(const SavedState& state, const fs::path& path) {
  std::string payload;
  Json params = Json::array();
  for (const SavedParam& param : state.params) params.push_back(describe(param, payload));
  const Json head{{"version", kVersion},
                  {"gradwire", GRADWIRE_VERSION},
                  {"rank", state.rank},
                  {"ranks", state.ranks},
                  {"step", state.step},
                  {"skipped_steps", state.skipped_steps},
                  {"dense_fallbacks", state.dense_fallbacks},
                  {"average", state.average},
                  {"owner", state.owner},
                  {"numbers", state.numbers},
                  {"plan", state.plan.plan.empty() ? Json() : Json::parse(state.plan.plan)},
                  {"forbidden", state.plan.forbidden},
                  {"params", params}};
  std::string text;
  try {
    text = head.dump();
  } catch (const Json::exception& error) {
    fail(Errc::invalid_argument, "{}: a name cannot be saved, as it is no UTF-8: {}", path.string(), error.what());
  }
  std::string file(kMagic);
  file += bytes_of(std::uint64_t{text.size()});
  file += text;
  file += payload;
  file += bytes_of(std::uint64_t{XXH3_64bits(file.data(), file.size())});
  return file;
}

/// A file that is read.
class Descriptor {
 public:
  explicit Descriptor(const fs::path& path)
      : path_(path.string()), number_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (number_ < 0) fail_io(path_, "open", errno);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { ::close(number_); }
  /// 0 at the end.
  [[nodiscard]] std::size_t read(std::string& into) const {
    for (;;) {
      const ssize_t size = ::read(number_, into.data(), into.size());
      if (size >= 0) return static_cast<std::size_t>(size);
      if (errno != EINTR) fail_io(path_, "read", errno);
    }
  }

 private:
  std::string path_;
  int number_;
};

std::string read_all(const fs::path& path) {
  const Descriptor in(path);
  std::string file;
  std::string block(std::size_t{1} << 20, '\0');
  while (const std::size_t size = in.read(block)) file.append(block, 0, size);
  return file;
}

/// A number as an enumerator of which there are `count`.
template <class Enum>
Enum enumerator(const Json& value, int count) {
  const int number = value.get<int>();
  if (number < 0 || number >= count) throw std::out_of_range(fmt::format("{} is no kind or dtype", number));
  return static_cast<Enum>(number);
}

Json parse_head(std::string_view text, const fs::path& path) {
  try {
    return parse_json<Json>(text);
  } catch (const Error& error) {
    fail(Errc::bad_state, "{}: malformed: {}", path.string(), error.what());
  }
}

SavedParam parse(const Json& row, std::string_view payload) {
  const auto bytes_at = [payload](const Json& where) {
    const auto first = where.at(0).get<std::size_t>();
    const auto size = where.at(1).get<std::size_t>();
    if (first > payload.size() || size > payload.size() - first) throw std::out_of_range("bytes beyond the file");
    return std::string(payload.substr(first, size));
  };
  SavedParam param;
  param.name = row.at("name").get<std::string>();
  param.shape = row.at("shape").get<std::vector<std::size_t>>();
  param.dtype = enumerator<DType>(row.at("dtype"), 3);
  param.rule = row.at("rule").get<std::string>();
  for (const Json& vector : row.at("vectors")) {
    param.vectors.push_back({vector.at("name").get<std::string>(), enumerator<StateKind>(vector.at("kind"), 3),
                             vector.at("storage").get<std::string>(), bytes_at(vector.at("at"))});
  }
  for (const Json& memory : row.at("memories")) {
    param.memories.push_back(
        {memory.at("compressor").get<std::string>(), memory.at("set").get<std::size_t>(), bytes_at(memory.at("at"))});
  }
  return param;
}

}  // namespace

std::string state_file_name(int rank, int ranks) { return fmt::format("rank-{}-of-{}.gradwire", rank, ranks); }

void write_state(const fs::path& path, const SavedState& state) {
  const std::string file = compose(state, path);
  const fs::path folder = path.has_parent_path() ? path.parent_path() : ".";
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(Errc::io, "{}: cannot make the folder: {}", folder.string(), error.message());
  AtomicFile out(path, Sync::yes);
  out.write(file.data(), file.size());
  out.close();
  out.commit();
}

SavedState read_state(const fs::path& path) {
  const std::string file = read_all(path);
  if (!file.starts_with(kMagic)) fail(Errc::bad_state, "{}: no state of a gradwire hook", path.string());
  std::uint64_t text_size = 0;
  std::uint64_t digest = 0;
  const bool long_enough = file.size() >= kHead + kDigest;
  if (long_enough) {
    std::memcpy(&text_size, file.data() + kMagic.size(), sizeof text_size);
    std::memcpy(&digest, file.data() + file.size() - kDigest, sizeof digest);
  }
  if (!long_enough || XXH3_64bits(file.data(), file.size() - kDigest) != digest ||
      text_size > file.size() - kHead - kDigest) {
    fail(Errc::bad_state, "{}: torn or damaged: its checksum is wrong", path.string());
  }
  const std::string_view body = std::string_view(file).substr(0, file.size() - kDigest);
  try {
    const Json head = parse_head(body.substr(kHead, text_size), path);
    const int version = head.at("version").get<int>();
    if (version < 1 || version > kVersion) {
      fail(Errc::bad_state, "{}: version {}, this gradwire ({}) reads versions 1 to {}", path.string(), version,
           GRADWIRE_VERSION, kVersion);
    }
    SavedState state{head.at("rank").get<int>(),
                     head.at("ranks").get<int>(),
                     head.at("step").get<std::uint64_t>(),
                     head.at("skipped_steps").get<std::uint64_t>(),
                     head.at("dense_fallbacks").get<std::uint64_t>(),
                     head.at("average").get<bool>(),
                     {},
                     head.at("owner").get<std::string>(),
                     head.at("numbers").get<std::map<std::string, std::uint64_t>>()};
    if (version > 1) {
      if (!head.at("plan").is_null()) state.plan.plan = head.at("plan").dump();
      state.plan.forbidden = head.at("forbidden").get<std::map<std::string, std::string>>();
    }
    for (const Json& row : head.at("params")) state.params.push_back(parse(row, body.substr(kHead + text_size)));
    return state;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    fail(Errc::bad_state, "{}: malformed: {}", path.string(), error.what());
  }
}

int saved_ranks(const fs::path& folder) {
  std::set<int> counts;
  std::set<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string file = entry->path().filename().string();
    int rank = 0;
    int ranks = 0;
    if (std::sscanf(file.c_str(), "rank-%d-of-%d.gradwire", &rank, &ranks) != 2) continue;
    if (file != state_file_name(rank, ranks) || rank < 0 || rank >= ranks) continue;
    counts.insert(ranks);
    names.insert(file);
  }
  if (error) fail(Errc::io, "{}: cannot list: {}", folder.string(), error.message());
  if (counts.empty()) fail(Errc::io, "{}: no saved state in it (rank-R-of-N.gradwire)", folder.string());
  if (counts.size() > 1) {
    fail(Errc::bad_state, "{}: states of {} and of {} ranks lie in it; keep those that are meant", folder.string(),
         *counts.begin(), *counts.rbegin());
  }
  const int ranks = *counts.begin();
  for (int rank = 0; rank < ranks; ++rank) {
    if (!names.contains(state_file_name(rank, ranks))) {
      fail(Errc::bad_state, "{}: {} is missing", folder.string(), state_file_name(rank, ranks));
    }
  }
  return ranks;
}

}  // namespace gradwire
