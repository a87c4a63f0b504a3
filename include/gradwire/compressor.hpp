#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "gradwire/export.hpp"
#include "gradwire/types.hpp"

namespace gradwire {

/// What an algorithm may assume of a compressor.
struct CompressorTraits {
  bool fixed_size = true;  ///< frame size depends on count and dtype only, never on the data
  bool additive = false;   ///< the sum of frames is the frame of the sum
  bool unbiased = false;   ///< E[decode(encode(x))] == x
  bool lossless = false;   ///< decode(encode(x)) == x for f32 input
  bool on_host = true;
  bool on_device = false;
  std::size_t block_elems = 1;  ///< elements that share metadata: chunks are cut at multiples of it
};

enum class Write : std::uint8_t { assign, add };

/// Names the random numbers of one encode: element i of the input draws from (seed, step, param, first_element + i),
/// whatever the chunking, the algorithm or the number of threads.
struct RandomKey {
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
  ParamId param{};
  std::uint64_t first_element = 0;
};

/// What a compressor's author implements. Implementations are immutable and safe to share between threads.
template <class C>
concept CompressorImpl = requires(const C& c, std::size_t n, DType dtype, ConstTensor x, Tensor y, Bytes out,
                                  ConstBytes in, const RandomKey& key, Write write, StreamRef stream) {
  // clang-format off
  { c.spec() } noexcept -> std::convertible_to<std::string_view>;
  { c.traits() } noexcept -> std::same_as<CompressorTraits>;
  // clang-format on
  { c.max_frame_size(n, dtype) } -> std::same_as<std::size_t>;
  { c.encode(x, out, y, key, stream) } -> std::same_as<std::size_t>;
  { c.decode(in, y, write, stream) } -> std::same_as<std::size_t>;
};

/// Type-erased compressor: an immutable value, cheap to copy, safe to share between threads.
class GRADWIRE_API Compressor {
 public:
  template <class C>
    requires(!std::same_as<std::remove_cvref_t<C>, Compressor> && CompressorImpl<C>)
  Compressor(C impl) : self_(std::make_shared<const Model<C>>(std::move(impl))) {}  // NOLINT: converts on purpose

  /// Canonical text, accepted by make_compressor: "quantize(bits=4,bucket=512,norm=linf,round=nearest)".
  [[nodiscard]] std::string_view spec() const noexcept { return self_->spec(); }
  [[nodiscard]] CompressorTraits traits() const noexcept { return self_->traits(); }

  /// Bytes that hold any frame of `count` elements of `dtype`: a multiple of 16, and exact when traits().fixed_size.
  [[nodiscard]] std::size_t max_frame_size(std::size_t count, DType dtype) const {
    return self_->max_frame_size(count, dtype);
  }

  /// Writes the self-describing frame of x into `out` (at least max_frame_size bytes) and returns its size, a multiple
  /// of 16. Where residual.data is not null, also writes residual = x - decode(frame) in the same pass; the residual is
  /// f32 of x's count and may be x itself when x is f32.
  /// Throws Errc::non_finite when x holds NaN or Inf (out and residual are then unspecified).
  std::size_t encode(ConstTensor x, Bytes out, Tensor residual, const RandomKey& key,
                     StreamRef stream = StreamRef::host()) const {
    return self_->encode(x, out, residual, key, stream);
  }

  /// Assigns or adds the frame at the start of `in` to y (any dtype, rounded to nearest even, saturating) and returns
  /// the frame's size. Never reads past in.size. Throws Errc::bad_frame for a frame that is truncated, corrupt, of
  /// another compressor or of another count; y is untouched then.
  std::size_t decode(ConstBytes in, Tensor y, Write write, StreamRef stream = StreamRef::host()) const {
    return self_->decode(in, y, write, stream);
  }

 private:
  struct Concept {
    virtual ~Concept() = default;
    [[nodiscard]] virtual std::string_view spec() const noexcept = 0;
    [[nodiscard]] virtual CompressorTraits traits() const noexcept = 0;
    [[nodiscard]] virtual std::size_t max_frame_size(std::size_t, DType) const = 0;
    virtual std::size_t encode(ConstTensor, Bytes, Tensor, const RandomKey&, StreamRef) const = 0;
    virtual std::size_t decode(ConstBytes, Tensor, Write, StreamRef) const = 0;
  };
  template <class C>
  struct Model final : Concept {
    explicit Model(C c) : impl(std::move(c)) {}
    [[nodiscard]] std::string_view spec() const noexcept override { return impl.spec(); }
    [[nodiscard]] CompressorTraits traits() const noexcept override { return impl.traits(); }
    [[nodiscard]] std::size_t max_frame_size(std::size_t n, DType t) const override {
      return impl.max_frame_size(n, t);
    }
    std::size_t encode(ConstTensor x, Bytes out, Tensor r, const RandomKey& k, StreamRef s) const override {
      return impl.encode(x, out, r, k, s);
    }
    std::size_t decode(ConstBytes in, Tensor y, Write w, StreamRef s) const override {
      return impl.decode(in, y, w, s);
    }
    C impl;
  };
  std::shared_ptr<const Concept> self_;
};

/// Parses a text spec: a name, or a name with options, "quantize(bits=4,bucket=512)". Options left out take the
/// defaults that `gradwire info --compressors` lists. Throws Errc::invalid_argument naming the part that is wrong.
[[nodiscard]] GRADWIRE_API Compressor make_compressor(std::string_view spec);

/// One row of `gradwire info --compressors`.
struct CompressorInfo {
  std::string name;     ///< "quantize"
  std::string example;  ///< a spec make_compressor accepts
  std::string options;  ///< "bits=1..8 bucket=32..8192 ..."
  std::string summary;
  std::string source;  ///< paper or repository
};
[[nodiscard]] GRADWIRE_API std::vector<CompressorInfo> list_compressors();

}  // namespace gradwire
