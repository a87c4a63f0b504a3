#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
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
  bool unbiased = false;   ///< E[decode(encode(x))] == x
  bool lossless = false;   ///< decode(encode(x)) == x for f32 input
  bool on_device = false;  ///< takes device memory, in builds that have any
  /// Elements that share metadata: chunks are cut at multiples of it. kWholeTensor: never inside a tensor.
  std::size_t block_elems = 1;
};
inline constexpr std::size_t kWholeTensor = ~std::size_t{0};

enum class Write : std::uint8_t { assign, add };

/// Names the random numbers of one encode: element i of the input draws from (seed, step, param, first_element + i),
/// whatever the chunking, the algorithm or the number of threads.
struct RandomKey {
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
  ParamId param{};
  std::uint64_t first_element = 0;
};

class Compressor;

/// Chosen elements of a tensor: ascending places, and their values.
struct Entries {
  std::uint32_t* index = nullptr;
  float* value = nullptr;
  std::size_t count = 0;  ///< in: room; out: how many there are
};

/// What a compressor that sends few of a tensor's elements offers besides encode and decode, for algorithms that split
/// the chosen elements between ranks. Frames hold any ascending places of a tensor, however they were chosen.
class GRADWIRE_API Sparsifier {
 public:
  virtual ~Sparsifier();
  /// The most entries that select() gives for `count` elements.
  [[nodiscard]] virtual std::size_t max_entries(std::size_t count) const = 0;
  /// Chooses from x; `out` has room for max_entries(x.count). Throws Errc::non_finite for NaN or Inf among the chosen
  /// or, at latest, in the sum of squares of x.
  [[nodiscard]] virtual Entries select(ConstTensor x, Entries out, const RandomKey& key) const = 0;
  /// Whether select() gives the max_entries(count) of largest magnitude, ties to the lower place, zeros left out.
  [[nodiscard]] virtual bool takes_largest() const noexcept { return false; }
  /// Bytes that hold any frame of `entries` chosen among `count` elements.
  [[nodiscard]] virtual std::size_t max_frame_size(std::size_t count, std::size_t entries) const = 0;
  /// Writes the frame, which decode() of the same compressor reads, of a tensor of `count` elements that has these and
  /// is zero elsewhere; replaces each value by what decode() will give for it. Returns the frame's size.
  virtual std::size_t encode_entries(const Entries& entries, std::size_t count, Bytes out,
                                     const RandomKey& key) const = 0;
  /// The same choice with another coding of the values: what "topk(0.01)|q4" means.
  /// Throws Errc::unsupported for a compressor that cannot code values, such as another sparsifier.
  [[nodiscard]] virtual Compressor with_values(const Compressor& values) const = 0;
};

/// Random numbers of codes that are summed: what all ranks must draw alike, and what each draws for itself.
struct CodingKeys {
  RandomKey shared;
  RandomKey own;
};

/// What a compressor whose codes can be summed without decoding offers, for the algorithm `integer_sum`. Ranks agree on
/// common ranges first (each the largest of theirs), code against them, add the codes as integers, and decode the sum.
///
/// All of one call is in host memory, or all of it in device memory, in the order of a stream of that device. On a
/// device nothing is waited for and nothing refused: where find_ranges() or encode() would refuse an element, decoding
/// the sum gives NaN in its place or (randomk) in all that were drawn. So ranges may be NaN, which counts as the
/// largest.
class GRADWIRE_API IntegerCoder {
 public:
  virtual ~IntegerCoder();
  /// Whether it takes device memory, in builds that have any.
  [[nodiscard]] virtual bool on_device() const noexcept { return false; }
  /// Ranges that `count` elements have: neighbours share one.
  [[nodiscard]] virtual std::size_t ranges(std::size_t count) const = 0;
  /// What this rank needs each common range to be at least: not negative. Throws Errc::non_finite for an x that
  /// encode() could not code against them.
  virtual void find_ranges(ConstTensor x, float* ranges, StreamRef stream) const = 0;
  /// The narrowest of u8, u16, u32 that holds the sum of `ranks` codes; f32 where codes are values themselves, at
  /// places that all ranks draw alike. Throws Errc::unsupported for too many ranks.
  [[nodiscard]] virtual DType sum_dtype(int ranks) const = 0;
  /// Codes that `count` elements take: a coder may pad.
  [[nodiscard]] virtual std::size_t codes(std::size_t count) const = 0;
  /// Codes of x against the common ranges, as `codes.dtype`; residual (f32) = x - decoded, unless its data is null. It
  /// may not be x.
  virtual void encode(ConstTensor x, const float* ranges, Tensor codes, Tensor residual, const CodingKeys& keys,
                      StreamRef stream) const = 0;
  /// y = what the sum of `ranks` codes each stands for: up to rounding, the sum of what they decode to.
  virtual void decode(ConstTensor codes, int ranks, const float* ranges, Tensor y, const RandomKey& shared,
                      StreamRef stream) const = 0;
};

/// A tensor as a matrix, row after row in memory. {0, 0}: it is none.
struct MatrixView {
  std::size_t rows = 0;
  std::size_t cols = 0;
  [[nodiscard]] bool is_matrix() const noexcept { return rows > 0; }
  bool operator==(const MatrixView&) const = default;
};

/// How a tensor of this shape is viewed: its first dimension by the product of the rest (a convolution's weights OIHW
/// as O x IHW). Scalars, vectors and empty tensors are no matrices, a 1 x n or n x 1 tensor is one.
[[nodiscard]] GRADWIRE_API MatrixView matrix_view(std::span<const std::size_t> shape) noexcept;

/// Parameters of a low-rank scheme, carried out by the algorithm `lowrank`: such a compressor makes no frames.
struct GRADWIRE_API LowRank {
  enum class Kind : std::uint8_t { powersgd, projection };
  Kind kind = Kind::powersgd;
  std::uint32_t rank = 4;        ///< of a matrix with fewer rows or columns: their number
  std::uint32_t iterations = 1;  ///< power iterations of a step (of a step that refreshes the basis)
  std::uint32_t rounds = 2;      ///< powersgd: reductions a step, P and Q, or 1: P and Q by turns
  std::uint32_t start = 0;       ///< steps sent dense before the first low-rank one
  std::uint32_t refresh = 200;   ///< projection: steps between new bases
  double min_ratio = 2;          ///< matrices that would shrink by less go to the fallback
  std::string fallback = "q4";   ///< spec for what is no matrix, or shrinks too little
  std::string factors = "none";  ///< spec of the frames in which factors travel

  /// Whether low rank is worth it: rank * (rows + cols) * min_ratio < rows * cols, and it is a matrix.
  [[nodiscard]] bool pays(MatrixView view) const noexcept;
  /// Columns of the factors of such a matrix: rank, or as many as it has rows or columns.
  [[nodiscard]] std::size_t rank_for(MatrixView view) const noexcept;
  /// What schemes that share a bucket must have in common, in words: kind, iterations, rounds, start and refresh.
  [[nodiscard]] std::string schedule() const;
};

/// The arguments of one encode() and of one decode().
struct EncodeJob {
  ConstTensor x;
  Bytes out;
  Tensor residual{};
  RandomKey key{};
};
struct DecodeJob {
  ConstBytes in;
  Tensor y;
  Write write = Write::assign;
};

/// What a compressor offers that codes several tensors in device memory in one launch, or a few (docs/gpu.md): for
/// messages that carry many small tensors.
class GRADWIRE_API BatchCodec {
 public:
  virtual ~BatchCodec();
  /// Writes what encode() or decode() of each job would, in frames of max_frame_size() bytes. No job may write memory
  /// that another reads or writes. Throws what they throw; memory is then unspecified.
  virtual void encode_batch(std::span<const EncodeJob> jobs, StreamRef stream) const = 0;
  virtual void decode_batch(std::span<const DecodeJob> jobs, StreamRef stream) const = 0;
};

/// A sum to be encoded: `own` (f32) and, added to it, the frame that begins at byte `first` of each message.
struct SumJob {
  EncodeJob own;
  std::size_t first = 0;
};

/// What a compressor offers that adds frames to values and encodes their sum in one pass over them: for the owners in
/// `scatter_reduce`, on devices.
class GRADWIRE_API SumEncoder {
 public:
  virtual ~SumEncoder();
  /// The most messages whose frames encode_sums() adds to `count` elements; 0 where only decode() and encode() do.
  [[nodiscard]] virtual std::size_t max_frames(std::size_t count) const noexcept = 0;
  /// For each job: encode() of its own values plus what its frames hold, added in the order of messages; all as
  /// encode() and decode() have it in device memory. Launched as a BatchCodec's.
  virtual void encode_sums(std::span<const SumJob> jobs, std::span<const ConstBytes> messages,
                           StreamRef stream) const = 0;
};

/// What a compressor has learned of earlier steps and still uses (`refresh`), for saving a run. Only the sender has it:
/// frames are read without.
class GRADWIRE_API StepMemory {
 public:
  virtual ~StepMemory();
  [[nodiscard]] virtual std::string save() const = 0;
  /// Replaces what it has by what save() gave. Throws Errc::bad_state, and changes nothing, for other bytes.
  virtual void restore(std::string_view saved) = 0;
};

/// What a compressor's author implements. Implementations are immutable and safe to share between threads; one that
/// caches what it learned of earlier inputs guards that, and its frames do not need the cache to be read.
///
/// An implementation may also have any of
///
///     const Sparsifier* sparsifier() const noexcept;
///     const IntegerCoder* integer_coder() const noexcept;
///     const LowRank* low_rank() const noexcept;
///     const SumEncoder* sum_encoder() const noexcept;
///     const BatchCodec* batch_codec() const noexcept;
///     void check_device(std::size_t count) const;
///     void add_memories(std::vector<StepMemory*>&) const;
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
  { c.error_bound(n) } -> std::same_as<double>;
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

  /// All of one call is in host memory, or all of it in device memory, in the order of a stream of that device.
  /// On a device nothing is waited for: frames have max_frame_size() bytes, aligned to 16, tensors are aligned to their
  /// elements, and NaN or Inf is not refused but decoded to NaN or Inf, at least in its own place or (randomk, which
  /// may not send it) in all places that were drawn.
  ///
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
  /// another compressor or of another count; y is untouched then. On a device `in` is that frame and nothing more, and
  /// one of another compressor or count makes all of y NaN.
  std::size_t decode(ConstBytes in, Tensor y, Write write, StreamRef stream = StreamRef::host()) const {
    return self_->decode(in, y, write, stream);
  }

  /// The least proven b with E||x - decode(encode(x))||^2 <= b ||x||^2 for all x of `count` elements: omega where
  /// traits().unbiased, 1 - delta where b < 1. Elements too small for the arithmetic (docs/wire-format.md) aside,
  /// and those beyond the format's largest number, which saturate: above 65504 for f16, 2^36 for natural, also where
  /// they code rotated or chosen values.
  [[nodiscard]] double error_bound(std::size_t count) const { return self_->error_bound(count); }

  /// What more it can do; null where it cannot. They live as long as this compressor or a copy of it.
  [[nodiscard]] const Sparsifier* sparsifier() const noexcept { return self_->sparsifier(); }
  [[nodiscard]] const IntegerCoder* integer_coder() const noexcept { return self_->integer_coder(); }
  [[nodiscard]] const LowRank* low_rank() const noexcept { return self_->low_rank(); }
  [[nodiscard]] const SumEncoder* sum_encoder() const noexcept { return self_->sum_encoder(); }
  [[nodiscard]] const BatchCodec* batch_codec() const noexcept { return self_->batch_codec(); }
  /// Throws Errc::unsupported where encode() would, of `count` elements in device memory.
  void check_device(std::size_t count) const { self_->check_device(count); }
  /// Of this compressor and of those it is made of, in an order that its spec decides. Copies share them.
  [[nodiscard]] std::vector<StepMemory*> step_memories() const {
    std::vector<StepMemory*> all;
    self_->add_memories(all);
    return all;
  }

 private:
  struct Concept {
    virtual ~Concept() = default;
    [[nodiscard]] virtual std::string_view spec() const noexcept = 0;
    [[nodiscard]] virtual CompressorTraits traits() const noexcept = 0;
    [[nodiscard]] virtual std::size_t max_frame_size(std::size_t, DType) const = 0;
    virtual std::size_t encode(ConstTensor, Bytes, Tensor, const RandomKey&, StreamRef) const = 0;
    virtual std::size_t decode(ConstBytes, Tensor, Write, StreamRef) const = 0;
    [[nodiscard]] virtual double error_bound(std::size_t) const = 0;
    [[nodiscard]] virtual const Sparsifier* sparsifier() const noexcept = 0;
    [[nodiscard]] virtual const IntegerCoder* integer_coder() const noexcept = 0;
    [[nodiscard]] virtual const LowRank* low_rank() const noexcept = 0;
    [[nodiscard]] virtual const SumEncoder* sum_encoder() const noexcept = 0;
    [[nodiscard]] virtual const BatchCodec* batch_codec() const noexcept = 0;
    virtual void check_device(std::size_t) const = 0;
    virtual void add_memories(std::vector<StepMemory*>&) const = 0;
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
    [[nodiscard]] double error_bound(std::size_t n) const override { return impl.error_bound(n); }
    [[nodiscard]] const Sparsifier* sparsifier() const noexcept override {
      if constexpr (requires { impl.sparsifier(); }) return impl.sparsifier();
      return nullptr;
    }
    [[nodiscard]] const IntegerCoder* integer_coder() const noexcept override {
      if constexpr (requires { impl.integer_coder(); }) return impl.integer_coder();
      return nullptr;
    }
    [[nodiscard]] const LowRank* low_rank() const noexcept override {
      if constexpr (requires { impl.low_rank(); }) return impl.low_rank();
      return nullptr;
    }
    [[nodiscard]] const SumEncoder* sum_encoder() const noexcept override {
      if constexpr (requires { impl.sum_encoder(); }) return impl.sum_encoder();
      return nullptr;
    }
    [[nodiscard]] const BatchCodec* batch_codec() const noexcept override {
      if constexpr (requires { impl.batch_codec(); }) return impl.batch_codec();
      return nullptr;
    }
    void check_device(std::size_t count) const override {
      if constexpr (requires { impl.check_device(count); }) impl.check_device(count);
    }
    void add_memories(std::vector<StepMemory*>& all) const override {
      if constexpr (requires { impl.add_memories(all); }) impl.add_memories(all);
    }
    C impl;
  };
  std::shared_ptr<const Concept> self_;
};

/// Parses a text spec: a name, or a name with options, "quantize(bits=4,bucket=512)". Options left out take the
/// defaults that `gradwire info --compressors` lists; main options may come first without their names, "topk(0.01)"; a
/// value may itself be a spec, "rotate(q4)". "a|b" puts b behind a: a coding of a sparsifier's values, "topk(0.01)|q4",
/// or a lossless stage. Throws Errc::invalid_argument naming the part that is wrong, and where parentheses nest more
/// than 16 deep.
[[nodiscard]] GRADWIRE_API Compressor make_compressor(std::string_view spec);

/// One row of `gradwire info --compressors`.
struct CompressorInfo {
  std::string name;     ///< "quantize"
  std::string example;  ///< a spec make_compressor accepts
  std::string options;  ///< "bits=1..8 bucket=32..8192 ..."
  std::string summary;
  std::string bound;   ///< error_bound() as a formula of B, the block size, and d, the tensor's
  std::string source;  ///< paper or repository
};
[[nodiscard]] GRADWIRE_API std::vector<CompressorInfo> list_compressors();

}  // namespace gradwire
