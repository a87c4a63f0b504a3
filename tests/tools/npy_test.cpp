#include "tools/npy.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "tools/run_command.hpp"

#include "gradwire/error.hpp"

namespace gradwire::tools {
namespace {

using test::read_file;
using test::write_file;
using ::testing::HasSubstr;

/// A file of format `version` with this header text and so many bytes of data.
std::string npy(const std::string& header, std::size_t data_bytes, char version = 1) {
  std::string bytes = "\x93NUMPY";
  bytes += version;
  bytes += '\0';
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) bytes += static_cast<char>(header.size() >> (8 * i) & 0xff);
  return bytes + header + std::string(data_bytes, '\0');
}

std::string header(const std::string& descr, const std::string& order, const std::string& shape) {
  return "{'descr': " + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}

class Npy : public ::testing::Test {
 protected:
  NpyArray read(const std::string& bytes) {
    write_file(path_, bytes);
    return read_npy(path_);
  }
  /// The message read_npy refuses these bytes with.
  std::string refusal(const std::string& bytes) {
    try {
      static_cast<void>(read(bytes));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::invalid_argument);
      EXPECT_THAT(error.what(), HasSubstr(path_));
      return error.what();
    }
    return "accepted";
  }

  test::TemporaryFolder folder_;
  std::string path_ = folder_ / "x.npy";
};

TEST_F(Npy, WritesTheBytesThatNumPyWrites) {
  // numpy.save of numpy.array([[1, 2], [3, -4]], dtype='<f4')
  std::string expected =
      npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }" + std::string(58, ' ') + "\n", 0);
  const float values[] = {1, 2, 3, -4};
  expected.append(reinterpret_cast<const char*>(values), sizeof values);
  AtomicFile file(path_);
  write_npy(file, {2, 2}, {values, 4});
  file.close();
  file.commit();
  EXPECT_EQ(read_file(path_), expected);
  EXPECT_EQ((expected.size() - sizeof values) % 64, 0U);
}

TEST_F(Npy, RoundTripsShapesAndDtypes) {
  for (const DType dtype : {DType::f32, DType::f16}) {
    for (const std::vector<std::size_t>& shape :
         {std::vector<std::size_t>{}, {0}, {1}, {17}, {3, 0, 2}, {2, 3, 5}, std::vector<std::size_t>(32, 1)}) {
      const std::size_t count = std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
      const Buffer values(count * size_of(dtype));
      for (std::size_t i = 0; i < values.size(); ++i) values.data()[i] = static_cast<std::byte>(7 * i + 1);
      {
        AtomicFile file(path_);
        write_npy(file, shape, values.tensor(count, dtype));
        file.close();
        file.commit();
      }
      const NpyArray array = read_npy(path_);
      EXPECT_EQ(array.shape, shape);
      EXPECT_EQ(array.dtype, dtype);
      ASSERT_EQ(array.count, count);
      ASSERT_EQ(array.data.size(), values.size());
      if (count > 0) {
        EXPECT_EQ(std::memcmp(array.data.data(), values.data(), values.size()), 0) << format_shape(shape);
      }
    }
  }
}

TEST_F(Npy, ReadsAllVersionsKeyOrdersAndSpacings) {
  const std::string text = header("'<f4'", "False", "(2, 3)");
  for (const char version : {'\1', '\2', '\3'}) EXPECT_EQ(read(npy(text, 24, version)).count, 6U);
  EXPECT_EQ(read(npy("{\"shape\":(6,),'fortran_order' :False , 'descr':'<f2'}", 12)).count, 6U);
  EXPECT_EQ(read(npy(header("'<f4'", "False", "(2, 3,)"), 24)).shape, (std::vector<std::size_t>{2, 3}));
}

TEST_F(Npy, ALongShapeTakesFormat2) {
  const std::vector<std::size_t> shape(22000, 1);
  const float value = 3;
  AtomicFile file(path_);
  write_npy(file, shape, {&value, 1});
  file.close();
  file.commit();
  EXPECT_EQ(read_file(path_)[6], '\2');
  EXPECT_EQ(read_npy(path_).shape, shape);
}

TEST_F(Npy, RefusesOtherKindsOfArrays) {
  EXPECT_THAT(refusal(npy(header("'<f4'", "True", "(2, 3)"), 24)), HasSubstr("Fortran order"));
  EXPECT_THAT(refusal(npy(header("'>f4'", "False", "(2, 3)"), 24)), HasSubstr("dtype '>f4'; expected '<f4' or '<f2'"));
  EXPECT_THAT(refusal(npy(header("'<f8'", "False", "(2, 3)"), 48)), HasSubstr("dtype '<f8'"));
  EXPECT_THAT(refusal(npy(header("'|O'", "False", "(2, 3)"), 48)), HasSubstr("dtype '|O'"));
  EXPECT_THAT(refusal(npy(header("[('a', '<f4')]", "False", "(2, 3)"), 24)), HasSubstr("structured dtype"));
}

TEST_F(Npy, RefusesWhatIsNoNpyFile) {
  EXPECT_THAT(refusal(""), HasSubstr("not an npy file: only 0 bytes"));
  EXPECT_THAT(refusal("PK\3\4 a zip archive of arrays"), HasSubstr("wrong magic number"));
  EXPECT_THAT(refusal(npy(header("'<f4'", "False", "(2,)"), 8, 4)), HasSubstr("npy format 4.0"));
}

TEST_F(Npy, RefusesMalformedHeaders) {
  const char* const kMalformed[] = {
      "",
      "{",
      "{}",
      "[]",
      "{'descr': '<f4', 'fortran_order': False}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 1}",
      "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
      "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (2)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': 2}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (2.0,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (2,",
      "{'descr': '<f4, 'fortran_order': False, 'shape': (2,)}",
      "{'descr': <f4, 'fortran_order': False, 'shape': (2,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} 1",
      "{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}",
  };
  for (const char* const text : kMalformed)
    EXPECT_THAT(refusal(npy(text, 8)), HasSubstr("malformed npy header")) << text;
}

TEST_F(Npy, RefusesShapesBeyondMemoryWithoutAllocating) {
  EXPECT_THAT(refusal(npy(header("'<f4'", "False", "(4294967296, 4294967296)"), 8)), HasSubstr("too large"));
  EXPECT_THAT(refusal(npy(header("'<f4'", "False", "(1000000000000000,)"), 8)), HasSubstr("truncated"));
  EXPECT_EQ(read(npy(header("'<f4'", "False", "(4294967296, 4294967296, 0)"), 0)).count, 0U);
}

TEST_F(Npy, RefusesEveryTruncationAndAnythingAfterTheData) {
  const std::string whole = npy(header("'<f4'", "False", "(2, 3)"), 24);
  ASSERT_EQ(read(whole).count, 6U);
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_NE(refusal(whole.substr(0, size)), "accepted") << size;
  EXPECT_THAT(refusal(whole.substr(0, whole.size() - 1)), HasSubstr("needs 24 bytes of data, the file has 23"));
  EXPECT_THAT(refusal(whole + "x"), HasSubstr("1 bytes follow the data"));
}

TEST_F(Npy, AnyDamagedHeaderByteIsReadSafely) {
  const std::string whole = npy(header("'<f4'", "False", "(2, 3)"), 24);
  std::size_t damages = 0, refused = 0;
  for (std::size_t at = 0; at + 24 < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit, ++damages) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ 1 << bit);
      if (refusal(damaged) != "accepted") {
        ++refused;
        continue;
      }
      // Only where spacing or quoting becomes another: never another meaning of the data.
      EXPECT_EQ(read(damaged).count, 6U) << at << " " << bit;
    }
  }
  EXPECT_GT(refused, damages - 20);
}

TEST_F(Npy, NamesMissingAndUnreadableFiles) {
  EXPECT_THROW(static_cast<void>(read_npy(folder_ / "none.npy")), Error);
  EXPECT_THROW(static_cast<void>(read_npy(folder_ / "")), Error);
}

}  // namespace
}  // namespace gradwire::tools
