#pragma once
#include <cstddef>

namespace gradwire {

/// Jobs that are done by one call, in order: made one at a time where the callee asks for them, so that nobody has to
/// store them. It refers to what it is made of, and lives no longer than the call.
template <class Job>
class JobList {
 public:
  JobList(const Job& one) noexcept
      : JobList(1, one, [](const void* job, std::size_t) {  // NOLINT: converts on purpose
          return *static_cast<const Job*>(job);
        }) {}
  /// `make(i)` gives job i, the same each time: callees ask as often as they like.
  template <class Make>
  JobList(std::size_t count, const Make& make) noexcept
      : JobList(count, make,
                [](const void* maker, std::size_t i) -> Job { return (*static_cast<const Make*>(maker))(i); }) {}

  [[nodiscard]] std::size_t size() const noexcept { return count_; }
  [[nodiscard]] Job operator[](std::size_t i) const { return make_(context_, i); }

 private:
  template <class Context>
  JobList(std::size_t count, const Context& context, Job (*make)(const void*, std::size_t)) noexcept
      : count_(count), context_(&context), make_(make) {}

  std::size_t count_;
  const void* context_;
  Job (*make_)(const void*, std::size_t);
};

}  // namespace gradwire
