// Variables that cannot be read: each is named with its value, and what is accepted.
#include <gmock/gmock.h>

#include <cstdlib>
#include <string>

#include "base/env.hpp"

#include "gradwire/error.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

/// Sets one variable while it lives.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    const char* const before = std::getenv(name);
    if (before != nullptr) before_ = before;
    was_set_ = before != nullptr;
    setenv(name, value, 1);
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
  ~Variable() { was_set_ ? setenv(name_, before_.c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::string before_;
  bool was_set_ = false;
};

std::string complaint_about(const char* name, const char* value) {
  const Variable variable(name, value);
  try {
    (void)read_environment();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_argument);
    return error.what();
  }
  return "none";
}

TEST(Environment, NamesWhatItCannotRead) {
  for (const char* value : {"0", "-1", "86400001", "1s", " 5", "5 ", "1e3", "99999999999999999999", "soon"}) {
    EXPECT_THAT(
        complaint_about("GRADWIRE_TIMEOUT_MS", value),
        HasSubstr(std::string("GRADWIRE_TIMEOUT_MS=") + value + ": expected a whole number from 1 to 86400000"));
  }
  for (const char* value : {"1023", "0", "2147483648", "256K"}) {
    EXPECT_THAT(complaint_about("GRADWIRE_SEGMENT_BYTES", value),
                HasSubstr(std::string("GRADWIRE_SEGMENT_BYTES=") + value + ": expected"));
  }
  for (const char* value : {"2", "yes", "-0"}) {
    EXPECT_THAT(complaint_about("GRADWIRE_CHECK", value), HasSubstr(std::string("GRADWIRE_CHECK=") + value));
  }
  for (const char* value : {"cuda", "Direct", "1"}) {
    EXPECT_THAT(complaint_about("GRADWIRE_MPI_DEVICE", value),
                HasSubstr(std::string("GRADWIRE_MPI_DEVICE=") + value + ": expected auto, staged or direct"));
  }
  for (const char* value : {"verbose", "WARN", "warn "}) {
    EXPECT_THAT(complaint_about("GRADWIRE_LOG_LEVEL", value),
                HasSubstr(std::string("GRADWIRE_LOG_LEVEL=") + value + ": expected trace, debug, info"));
  }
}

TEST(Environment, ReadsWhatItAccepts) {
  const Variable timeout("GRADWIRE_TIMEOUT_MS", "86400000");
  const Variable segment("GRADWIRE_SEGMENT_BYTES", "1024");
  const Variable check("GRADWIRE_CHECK", "1");
  const Variable level("GRADWIRE_LOG_LEVEL", "off");
  const Variable isa("GRADWIRE_FORCE_ISA", "scalar");
  const Variable device("GRADWIRE_MPI_DEVICE", "direct");
  const Environment environment = read_environment();
  EXPECT_EQ(environment.timeout, std::chrono::hours(24));
  EXPECT_EQ(environment.segment_bytes, 1024u);
  EXPECT_TRUE(environment.check);
  EXPECT_EQ(environment.log_level, "off");
  EXPECT_EQ(environment.force_isa, "scalar");
  EXPECT_EQ(environment.mpi_device, MpiDevice::direct);
}

TEST(Environment, EmptyMeansTheDefault) {
  const Variable timeout("GRADWIRE_TIMEOUT_MS", "");
  const Variable check("GRADWIRE_CHECK", "");
  const Environment environment = read_environment();
  EXPECT_EQ(environment.timeout, Environment{}.timeout);
  EXPECT_FALSE(environment.check);
}

}  // namespace
}  // namespace gradwire::testing
