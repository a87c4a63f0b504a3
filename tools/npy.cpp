#include "npy.hpp"

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string_view>
#include <system_error>

#include "base/fail.hpp"

namespace gradwire::tools {
namespace {

constexpr std::string_view kMagic{"\x93NUMPY", 6};
constexpr std::size_t kAlignment = 64;  // NumPy aligns the data so, for memory mapping

struct Header {
  std::string descr;
  bool fortran_order = false;
  std::vector<std::size_t> shape;
};

/// Reads the one kind of Python literal a header may hold: a dict of exactly descr, fortran_order and shape.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  Header parse() {
    Header header;
    bool seen_descr = false, seen_order = false, seen_shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = parse_string();
      expect(':');
      bool* const seen = key == "descr"           ? &seen_descr
                         : key == "fortran_order" ? &seen_order
                         : key == "shape"         ? &seen_shape
                                                  : nullptr;
      if (seen == nullptr || *seen) broken(fmt::format("unexpected key '{}'", key));
      *seen = true;
      if (key == "descr") header.descr = parse_descr();
      if (key == "fortran_order") header.fortran_order = parse_bool();
      if (key == "shape") header.shape = parse_shape();
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) broken("something follows the closing brace");
    if (!seen_descr || !seen_order || !seen_shape) broken("descr, fortran_order or shape is missing");
    return header;
  }

 private:
  [[noreturn]] void broken(std::string_view what) const {
    fail(Errc::invalid_argument, "{}: malformed npy header: {} at character {}", file_, what, at_);
  }
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool accept(char wanted) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }
  void expect(char wanted) {
    if (!accept(wanted)) broken(fmt::format("expected '{}'", wanted));
  }
  bool accept_word(std::string_view word) {
    skip_space();
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  std::string parse_string() {
    skip_space();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') broken("expected a quoted string");
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) broken("unterminated string");
    std::string value(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return value;
  }
  std::string parse_descr() {
    skip_space();
    if (at_ < text_.size() && text_[at_] == '[') {
      fail(Errc::invalid_argument, "{}: a structured dtype; expected '<f4' or '<f2'", file_);
    }
    return parse_string();
  }
  bool parse_bool() {
    if (accept_word("True")) return true;
    if (!accept_word("False")) broken("expected True or False");
    return false;
  }
  std::vector<std::size_t> parse_shape() {
    std::vector<std::size_t> shape;
    expect('(');
    while (!accept(')')) {
      skip_space();
      std::size_t extent = 0;
      const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), extent);
      if (error != std::errc{}) broken("expected a whole number that fits 64 bits");
      at_ = static_cast<std::size_t>(end - text_.data());
      shape.push_back(extent);
      if (accept(',')) continue;
      if (shape.size() == 1) broken("expected ',' (a tuple of one)");
      expect(')');
      break;
    }
    return shape;
  }

  std::string_view text_;
  const std::string& file_;
  std::size_t at_ = 0;
};

DType dtype_of(const Header& header, const std::string& file) {
  require(!header.fortran_order, "{}: Fortran order; expected C order (numpy.ascontiguousarray)", file);
  if (header.descr == "<f4") return DType::f32;
  if (header.descr == "<f2") return DType::f16;
  fail(Errc::invalid_argument,
       "{}: dtype '{}'; expected '<f4' or '<f2': save it as np.save(file, array.astype(np.float32))", file,
       header.descr);
}

std::size_t count_of(const std::vector<std::size_t>& shape, const std::string& file) {
  for (const std::size_t extent : shape) {
    if (extent == 0) return 0;
  }
  std::size_t count = 1;
  for (const std::size_t extent : shape) {
    if (__builtin_mul_overflow(count, extent, &count) || count > SIZE_MAX / sizeof(float)) {
      fail(Errc::invalid_argument, "{}: shape {} is too large", file, format_shape(shape));
    }
  }
  return count;
}

/// An open file of known size that never reads past its end.
class Input {
 public:
  explicit Input(const std::filesystem::path& path) : name(path.string()) {
    std::error_code error;
    const std::filesystem::file_status status = std::filesystem::status(path, error);
    require(std::filesystem::exists(status), "cannot read {}: no such file", name);
    require(std::filesystem::is_regular_file(status), "cannot read {}: not a regular file", name);
    size = std::filesystem::file_size(path, error);
    stream_.open(path, std::ios::binary);
    require(!error && stream_.is_open(), "cannot read {}: {}", name, std::strerror(errno));
  }

  void read(void* into, std::size_t bytes, std::string_view what) {
    require(bytes <= size - at, "{}: truncated: {} needs {} bytes, {} are left", name, what, bytes, size - at);
    stream_.read(static_cast<char*>(into), static_cast<std::streamsize>(bytes));
    require(stream_.good(), "cannot read {}: {}", name, std::strerror(errno));
    at += bytes;
  }

  std::string name;
  std::size_t size = 0;
  std::size_t at = 0;

 private:
  std::ifstream stream_;
};

Header read_header(Input& input) {
  unsigned char start[8];
  require(input.size >= sizeof start, "{}: not an npy file: only {} bytes", input.name, input.size);
  input.read(start, sizeof start, "the start of the header");
  require(std::memcmp(start, kMagic.data(), kMagic.size()) == 0, "{}: not an npy file: wrong magic number", input.name);
  const int major = start[6], minor = start[7];
  require(major >= 1 && major <= 3 && minor == 0, "{}: npy format {}.{}; expected 1.0, 2.0 or 3.0", input.name, major,
          minor);
  unsigned char length[4] = {};
  input.read(length, major == 1 ? 2 : 4, "the header's length");
  std::string text(
      length[0] | std::size_t{length[1]} << 8 | std::size_t{length[2]} << 16 | std::size_t{length[3]} << 24, '\0');
  require(text.size() <= input.size - input.at, "{}: truncated: the header needs {} bytes, {} are left", input.name,
          text.size(), input.size - input.at);
  input.read(text.data(), text.size(), "the header");
  return HeaderParser(text, input.name).parse();
}

}  // namespace

NpyArray read_npy(const std::filesystem::path& path) {
  Input input(path);
  const Header header = read_header(input);
  NpyArray array;
  array.dtype = dtype_of(header, input.name);
  array.shape = header.shape;
  array.count = count_of(header.shape, input.name);
  const std::size_t bytes = array.count * size_of(array.dtype);
  const std::size_t left = input.size - input.at;
  const std::string shape = format_shape(array.shape);
  require(left >= bytes, "{}: truncated: shape {} of {} needs {} bytes of data, the file has {}", input.name, shape,
          header.descr, bytes, left);
  require(left == bytes, "{}: {} bytes follow the data of shape {}", input.name, left - bytes, shape);
  array.data = Buffer(bytes);
  if (bytes > 0) input.read(array.data.data(), bytes, "the data");
  return array;
}

void write_npy(AtomicFile& file, const std::vector<std::size_t>& shape, ConstTensor values) {
  require(values.dtype != DType::bf16, "NumPy has no bf16: only f32 and f16 can be written as npy");
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}",
                                 values.dtype == DType::f32 ? "<f4" : "<f2", format_shape(shape));
  const bool version_1 = text.size() + kAlignment + 16 <= 0xffff;
  const std::size_t prefix = kMagic.size() + 2 + (version_1 ? 2 : 4);
  while ((prefix + text.size() + 1) % kAlignment != 0) text += ' ';
  text += '\n';

  std::string head(kMagic);
  head += version_1 ? '\1' : '\2';
  head += '\0';
  for (int byte = 0; byte < (version_1 ? 2 : 4); ++byte) {
    head += static_cast<char>(text.size() >> (8 * byte) & 0xff);
  }
  head += text;
  file.write(head.data(), head.size());
  file.write(values.data, values.bytes());
}

std::string format_shape(const std::vector<std::size_t>& shape) {
  return fmt::format("({}{})", fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
}

}  // namespace gradwire::tools
