#include "idx_file.hpp"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "fail.hpp"

namespace demo {
namespace {

constexpr std::uint32_t kUnsignedBytes = 0x0800;  // IDX: two zero bytes, the element type, the number of dimensions
constexpr std::int64_t kMaxElements = 1 << 28;    // far above any MNIST: a corrupt size must not allocate terabytes

/// A gzip file that knows its name.
class GzipReader {
 public:
  explicit GzipReader(const std::string& path) : path_(path), file_(gzopen(path.c_str(), "rb"), &gzclose) {
    require(file_ != nullptr, "cannot open {}: {}", path, std::strerror(errno));
  }

  /// Up to `size` bytes: fewer only at the end of the file.
  std::size_t read(std::uint8_t* out, std::size_t size) {
    std::size_t done = 0;
    while (done < size) {
      const auto piece = static_cast<unsigned>(std::min<std::size_t>(size - done, 1u << 24));
      const int got = gzread(file_.get(), out + done, piece);
      int code = Z_OK;
      const char* const message = gzerror(file_.get(), &code);
      require(got >= 0 && (code == Z_OK || code == Z_STREAM_END), "cannot read {}", message);
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }

  std::uint32_t read_big_endian() {
    std::uint8_t bytes[4] = {};
    require(read(bytes, 4) == 4, "{} ends within its header", path_);
    return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 | bytes[3];
  }

 private:
  std::string path_;
  std::unique_ptr<gzFile_s, int (*)(gzFile)> file_;
};

}  // namespace

IdxFile read_idx_file(const std::string& path, std::size_t dimensions) {
  GzipReader reader(path);
  const auto expected = kUnsignedBytes | static_cast<std::uint32_t>(dimensions);
  const std::uint32_t magic = reader.read_big_endian();
  require(magic == expected, "{} is no IDX file of bytes in {} dimensions: it starts with {:#010x}, expected {:#010x}",
          path, dimensions, magic, expected);

  IdxFile file;
  std::int64_t count = 1;
  for (std::size_t d = 0; d < dimensions; ++d) {
    const std::int64_t size = reader.read_big_endian();
    require(size >= 1 && size <= kMaxElements / count, "{}: size {} in dimension {} is out of range", path, size, d);
    file.shape.push_back(size);
    count *= size;
  }
  file.values.resize(static_cast<std::size_t>(count));
  const std::size_t got = reader.read(file.values.data(), file.values.size());
  require(got == file.values.size(), "{} holds {} bytes of data, its header says {}", path, got, count);
  std::uint8_t extra = 0;
  require(reader.read(&extra, 1) == 0, "{} goes on after the {} bytes of data that its header says", path, count);
  return file;
}

}  // namespace demo
