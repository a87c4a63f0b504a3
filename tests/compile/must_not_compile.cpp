// Each section behind its macro must be refused by the compiler; without any, the file compiles.
#include <cstddef>
#include <string_view>
#include <utility>

#include "gradwire/gradwire.hpp"

namespace {

struct Identity {
  [[nodiscard]] std::string_view spec() const noexcept { return "identity"; }
  [[nodiscard]] gradwire::CompressorTraits traits() const noexcept { return {}; }
  [[nodiscard]] std::size_t max_frame_size(std::size_t n, gradwire::DType dtype) const { return n * size_of(dtype); }
  std::size_t encode(gradwire::ConstTensor, gradwire::Bytes, gradwire::Tensor, const gradwire::RandomKey&,
                     gradwire::StreamRef) const {
    return 0;
  }
  std::size_t decode(gradwire::ConstBytes, gradwire::Tensor, gradwire::Write, gradwire::StreamRef) const { return 0; }
  [[nodiscard]] double error_bound(std::size_t) const { return 0; }
};

// Like Identity, but without decode.
struct NoCompressor {
  [[nodiscard]] std::string_view spec() const noexcept { return "none"; }
  [[nodiscard]] gradwire::CompressorTraits traits() const noexcept { return {}; }
  [[nodiscard]] std::size_t max_frame_size(std::size_t n, gradwire::DType dtype) const { return n * size_of(dtype); }
  std::size_t encode(gradwire::ConstTensor, gradwire::Bytes, gradwire::Tensor, const gradwire::RandomKey&,
                     gradwire::StreamRef) const {
    return 0;
  }
  [[nodiscard]] double error_bound(std::size_t) const { return 0; }
};

}  // namespace

int main() {
  void* native = nullptr;
  gradwire::StreamRef stream(native);
  gradwire::Compressor compressor{Identity{}};
  gradwire::Buffer first(16);
  gradwire::Buffer second(std::move(first));
#if defined(STREAM_FROM_ZERO)
  stream = gradwire::StreamRef(0);
#elif defined(STREAM_FROM_NULLPTR)
  stream = gradwire::StreamRef(nullptr);
#elif defined(COMPRESSOR_FROM_ANYTHING)
  compressor = gradwire::Compressor(NoCompressor{});
#elif defined(BUFFER_COPY)
  gradwire::Buffer copy(second);
#elif defined(BUFFER_ASSIGN)
  first = second;
#endif
  static_assert(!gradwire::CompressorImpl<NoCompressor>);
  return stream.is_host() && compressor.spec() == "identity" && second.size() == 16 ? 0 : 1;
}
