#include "gradwire/work.hpp"

#include "base/backoff.hpp"
#include "base/fail.hpp"

namespace gradwire {

Completion::~Completion() = default;

void Completion::wait(Deadline deadline) {
  Backoff backoff;
  while (!poll()) {
    if (std::chrono::steady_clock::now() >= deadline) fail(Errc::timeout, "deadline passed in {}", describe());
    backoff.pause();
  }
}

void Completion::before(StreamRef stream) {
  if (!stream.is_host()) fail(Errc::unsupported, "{} completes on the host, not on a device stream", describe());
}

}  // namespace gradwire
