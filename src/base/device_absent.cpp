// A build without CUDA: whatever needs a device says so.
#include "base/device.hpp"
#include "base/fail.hpp"

namespace gradwire::device {
namespace {
[[noreturn]] void refuse() { fail(Errc::unsupported, "no device memory: {}", problem()); }
}  // namespace

std::string problem() { return "this gradwire was built without CUDA"; }
int count() noexcept { return 0; }
int current() { return 0; }
void use(int) {}
int of(const std::byte*) { refuse(); }
Scope::~Scope() = default;
std::string describe() { return problem(); }

std::byte* allocate(std::size_t) { refuse(); }
void release(std::byte*) noexcept {}

Pinned::Pinned(std::size_t) { refuse(); }
Pinned::Pinned(Pinned&&) noexcept = default;
Pinned& Pinned::operator=(Pinned&&) noexcept = default;
Pinned::~Pinned() = default;

void copy(void*, const void*, std::size_t, StreamRef) { refuse(); }
void zero(void*, std::size_t, StreamRef) { refuse(); }
void wait(StreamRef) { refuse(); }
void copy_now(void*, const void*, std::size_t) { refuse(); }

Scratch::Scratch(std::size_t, StreamRef stream) : stream_(stream) { refuse(); }
Scratch::~Scratch() = default;

Event::Event() { refuse(); }
Event::~Event() = default;
void Event::record(StreamRef) { refuse(); }
bool Event::done() const { return event_ == nullptr; }
bool Event::is_surely_done() const noexcept { return done(); }
void Event::before(StreamRef) const { refuse(); }

void Results::record(StreamRef) noexcept {}
Results::~Results() = default;

Stream::Stream(Priority) { refuse(); }
Stream::~Stream() = default;

Range::Range(const char* name) noexcept : is_named_(name != nullptr) {}
Range::~Range() { static_cast<void>(is_named_); }

}  // namespace gradwire::device
