#include <cstdio>
#include <new>

#include "command.hpp"
#include "printable.hpp"

#include "gradwire/error.hpp"

namespace gradwire::tools {

int report_failure(const std::exception_ptr& failure) noexcept {
  std::fflush(stdout);
  try {
    std::rethrow_exception(failure);
  } catch (const UsageError& error) {
    std::fprintf(stderr, "gradwire: error: %s (see --help)\n", printable(error.what()).c_str());
    return kExitUsage;
  } catch (const Error& error) {
    std::fprintf(stderr, "gradwire: error (%s): %s\n", name(error.code()).data(), printable(error.what()).c_str());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "gradwire: error (internal): out of memory\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gradwire: error (internal): %s\n", printable(error.what()).c_str());
  } catch (...) {
    std::fprintf(stderr, "gradwire: error (internal): unknown exception\n");
  }
  return kExitFailed;
}

}  // namespace gradwire::tools
