// The lossless stage: what it saves, what it refuses, and what it passes on.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <memory>

#include "compress/byte_split.hpp"
#include "compress/frame.hpp"
#include "compress/zstd.hpp"
#include "support/allocations.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

TEST(ByteSplit, EqualsTheReferenceAndComesBack) {
  std::mt19937 engine(3);
  for (const std::size_t width : {2u, 4u})
    for (const std::size_t words : {0u, 1u, 15u, 63u, 64u, 65u, 1009u})
      for (const std::size_t shift : {0u, 1u, 3u}) {
        std::vector<std::byte> x(words * width + shift);
        for (std::byte& byte : x) byte = static_cast<std::byte>(engine());
        std::vector<std::byte> expected(words * width + shift + 1, std::byte{7});
        isa::scalar_kernels<ByteSplitKernels>().split({x.data() + shift, expected.data() + shift, words, width});
        for (const std::string_view isa : isa::list()) {
          const auto& kernels = isa::kernels_of<ByteSplitKernels>(isa);
          std::vector<std::byte> split(expected.size(), std::byte{7});
          kernels.split({x.data() + shift, split.data() + shift, words, width});
          ASSERT_EQ(split, expected) << isa << " " << width << " " << words;
          std::vector<std::byte> merged(x.size());
          std::copy_n(x.begin(), shift, merged.begin());
          kernels.merge({split.data() + shift, merged.data() + shift, words, width});
          ASSERT_EQ(merged, x) << isa << " " << width << " " << words;
        }
      }
}

TEST(Zstd, SavesWhereThereIsSomethingToSave) {
  const std::size_t count = 10'000;
  const std::vector<float> zeros(count, 0.0f);
  const std::vector<float> normal = normal_gradients(count, 1);
  const auto size_of_frame = [](const char* spec, const std::vector<float>& x) {
    return encode(make_compressor(spec), {x.data(), x.size()}).frame.size();
  };
  EXPECT_LT(size_of_frame("none|zstd", zeros), 200u);
  EXPECT_LT(size_of_frame("q4|zstd", zeros), 200u);
  // The exponents of floats shrink once they lie side by side.
  EXPECT_LT(size_of_frame("none|zstd", normal), 0.9 * static_cast<double>(size_of_frame("none", normal)));
  EXPECT_LT(size_of_frame("none|zstd", normal),
            0.95 * static_cast<double>(size_of_frame("none|zstd(split=none)", normal)));
  EXPECT_LT(size_of_frame("bf16|zstd", normal), 0.9 * static_cast<double>(size_of_frame("bf16", normal)));
}

TEST(Zstd, CarriesAsItIsWhatDoesNotShrink) {
  std::mt19937 engine(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> noise(8000);
  for (float& v : noise) v = uniform(engine);
  for (const std::size_t count : {0u, 1u, 3u, 8000u}) {
    const ConstTensor x(noise.data(), count);
    const Compressor plain = make_compressor("q8(bucket=8192)");
    const Compressor zstd = make_compressor("q8(bucket=8192)|zstd");
    const Encoded inner = encode(plain, x);
    const Encoded outer = encode(zstd, x);
    ASSERT_EQ(outer.frame.size(), zstd.max_frame_size(count, DType::f32)) << count;
    EXPECT_EQ(outer.frame[28], std::byte{0});
    EXPECT_TRUE(std::equal(inner.frame.begin(), inner.frame.end(), outer.frame.begin() + 32));
    EXPECT_EQ(decode(zstd, outer, count), decode(plain, inner, count));
  }
}

TEST(Zstd, TraitsAndBoundAreTheInnerOnes) {
  for (const char* inner : {"none", "bf16", "q4(round=stochastic)", "nvfp4"}) {
    const Compressor plain = make_compressor(inner);
    const Compressor zstd = make_compressor(std::string(inner) + "|zstd");
    EXPECT_FALSE(zstd.traits().fixed_size);
    EXPECT_EQ(zstd.traits().lossless, plain.traits().lossless);
    EXPECT_EQ(zstd.traits().unbiased, plain.traits().unbiased);
    EXPECT_EQ(zstd.traits().block_elems, plain.traits().block_elems);
    EXPECT_EQ(zstd.error_bound(1000), plain.error_bound(1000));
    EXPECT_EQ(zstd.sparsifier(), nullptr);
    EXPECT_EQ(zstd.max_frame_size(1000, DType::bf16), 32 + plain.max_frame_size(1000, DType::bf16));
  }
}

constexpr std::size_t kCount = 211;

class BadZstdFrames : public ::testing::TestWithParam<const char*> {
 protected:
  /// Decodes bytes that end where their allocation ends, so that a sanitizer sees a read behind them.
  Errc decode_copy(const std::vector<std::byte>& bytes, std::size_t size, std::string* message = nullptr) {
    const std::unique_ptr<std::byte[]> copy(new std::byte[size]);
    std::copy_n(bytes.begin(), size, copy.get());
    Values y(normal_gradients(kCount, 3), DType::f32);
    const std::vector<std::byte> before = y.bytes();
    const Errc code = code_of([&] { compressor_.decode({copy.get(), size}, y.tensor(), Write::assign); }, message);
    EXPECT_TRUE(code == Errc::ok || y.bytes() == before) << "output of a bad frame was touched";
    return code;
  }
  void set(std::vector<std::byte>& frame, std::size_t at, std::uint64_t value, std::size_t bytes) const {
    std::memcpy(frame.data() + at, &value, bytes);
  }

  Compressor compressor_ = make_compressor(GetParam());
  std::vector<std::byte> frame_ = [this] {
    std::vector<float> x = normal_gradients(kCount, 1);
    for (std::size_t i = 0; i < kCount; ++i) x[i] = i < 40 ? x[i] : 0.5f;  // something to shrink
    return encode(compressor_, Values(x, DType::f32).tensor()).frame;
  }();
};

TEST_P(BadZstdFrames, TruncatedAnywhere) {
  EXPECT_EQ(decode_copy(frame_, frame_.size()), Errc::ok);
  for (std::size_t size = 0; size < frame_.size(); ++size)
    ASSERT_EQ(decode_copy(frame_, size), Errc::bad_frame) << size;
}

TEST_P(BadZstdFrames, AnyFlippedBitOfACompressedOne) {
  std::uint64_t stored = 0;
  std::memcpy(&stored, frame_.data() + 16, 8);
  ASSERT_NE(frame_[28], std::byte{0}) << "not compressed";
  Values expected(kCount, DType::f32);
  compressor_.decode({frame_.data(), frame_.size()}, expected.tensor(), Write::assign);
  std::size_t unnoticed = 0;
  for (std::size_t bit = 0; bit < 8 * (32 + stored); ++bit) {
    std::vector<std::byte> bad = frame_;
    bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    const Errc code = decode_copy(bad, bad.size());
    ASSERT_TRUE(code == Errc::bad_frame || code == Errc::ok);
    if (code == Errc::ok) {
      // A few bits mean nothing to libzstd: then the values are the same.
      ++unnoticed;
      Values y(kCount, DType::f32);
      compressor_.decode({bad.data(), bad.size()}, y.tensor(), Write::assign);
      ASSERT_EQ(y.bytes(), expected.bytes()) << "bit " << bit;
      ASSERT_GE(bit, 256u) << "a flipped bit of the headers went unnoticed";
    }
  }
  EXPECT_LE(unnoticed, 8u * 4u);  // a few in each plane
}

TEST_P(BadZstdFrames, AnnouncingWhatIsNotThere) {
  std::string message;
  std::vector<std::byte> bad = frame_;
  set(bad, 24, 0x1000'0000, 4);  // inner frame of 4 GiB
  EXPECT_EQ(decode_copy(bad, bad.size(), &message), Errc::bad_frame);
  EXPECT_THAT(message, HasSubstr("the most is"));
  bad = frame_;
  set(bad, 28, 3, 4);
  EXPECT_EQ(decode_copy(bad, bad.size(), &message), Errc::bad_frame);
  EXPECT_THAT(message, HasSubstr("words of 3 bytes"));
  bad = frame_;
  set(bad, 28, 0, 4);
  EXPECT_EQ(decode_copy(bad, bad.size()), Errc::bad_frame);
  bad = frame_;
  set(bad, 16, ~std::uint64_t{0}, 8);
  EXPECT_EQ(decode_copy(bad, bad.size()), Errc::bad_frame);
}

TEST_P(BadZstdFrames, GarbageNeverHarms) {
  std::mt19937 engine(17);
  for (int round = 0; round < 1000; ++round) {
    std::vector<std::byte> bad = frame_;
    for (std::size_t i = round % 2 == 0 ? 32 : 16; i < bad.size(); ++i) bad[i] = static_cast<std::byte>(engine());
    EXPECT_EQ(decode_copy(bad, bad.size()), Errc::bad_frame);
  }
}

INSTANTIATE_TEST_SUITE_P(Compressors, BadZstdFrames,
                         ::testing::Values("none|zstd", "none|zstd(split=none)", "bf16|zstd", "q4|zstd",
                                           "mx4|zstd(5)"));

/// A frame of another compressor inside is none of ours.
TEST(Zstd, RefusesAnotherInnerFrame) {
  const std::vector<float> x(500, 0.25f);
  const Encoded encoded = encode(make_compressor("q4(bucket=64)|zstd"), {x.data(), x.size()});
  std::vector<float> y(500);
  const Compressor other = make_compressor("q4(bucket=128)|zstd");
  EXPECT_EQ(code_of([&] { other.decode(encoded.bytes(), {y.data(), y.size()}, Write::assign); }), Errc::bad_frame);
}

TEST(Zstd, StagesMayNest) {
  const Compressor twice = ZstdCompressor(make_compressor("none|zstd(split=none)"), {});
  std::vector<float> x(5000, 1.5f);
  for (std::size_t i = 0; i < x.size(); i += 7) x[i] = static_cast<float>(i);
  EXPECT_EQ(decode(twice, encode(twice, {x.data(), x.size()}), x.size()), x);
}

TEST(Zstd, AllocatesNothingOnceWarm) {
  const std::vector<float> x = normal_gradients(20'000, 2);
  std::vector<float> y(x.size());
  for (const char* spec : {"none|zstd", "q4|zstd", "bf16|zstd(split=none)"}) {
    const Compressor compressor = make_compressor(spec);
    std::vector<std::byte> frame(compressor.max_frame_size(x.size(), DType::f32));
    const auto step = [&] {
      compressor.encode({x.data(), x.size()}, {frame.data(), frame.size()}, {y.data(), y.size()}, {});
      compressor.decode({frame.data(), frame.size()}, {y.data(), y.size()}, Write::add);
    };
    step();
    const test::AllocationCount allocations;
    for (int i = 0; i < 10; ++i) step();
    EXPECT_EQ(allocations.value(), 0u) << spec;
  }
}

/// Sends elements of magnitude 1 and above: a count, their places, their values.
class LargeOnes : public Sparsifier {
 public:
  [[nodiscard]] std::size_t max_entries(std::size_t count) const override { return count; }
  [[nodiscard]] Entries select(ConstTensor x, Entries out, const RandomKey&) const override {
    out.count = 0;
    for (std::size_t i = 0; i < x.count; ++i) {
      const float value = load_f32(x.data, x.dtype, i);
      if (std::fabs(value) < 1) continue;
      out.index[out.count] = static_cast<std::uint32_t>(i);
      out.value[out.count++] = value;
    }
    return out;
  }
  [[nodiscard]] std::size_t max_frame_size(std::size_t, std::size_t entries) const override {
    return 32 + frame::align_up(8 * entries);
  }
  std::size_t encode_entries(const Entries& entries, std::size_t count, Bytes out, const RandomKey&) const override {
    const std::size_t size = max_frame_size(count, entries.count);
    std::memset(out.data, 0, size);
    frame::write_header(out.data, {frame::Codec::none, DType::f32, 0, static_cast<std::uint32_t>(count),
                                   static_cast<std::uint32_t>(size / 16)});
    std::memcpy(out.data + 16, &entries.count, sizeof entries.count);
    std::memcpy(out.data + 32, entries.index, 4 * entries.count);
    std::memcpy(out.data + 32 + 4 * entries.count, entries.value, 4 * entries.count);
    return size;
  }
  [[nodiscard]] Compressor with_values(const Compressor& values) const override { return values; }
};

struct LargeOnesCompressor {
  std::shared_ptr<const LargeOnes> facet = std::make_shared<LargeOnes>();

  [[nodiscard]] std::string_view spec() const noexcept { return "large_ones"; }
  [[nodiscard]] CompressorTraits traits() const noexcept {
    CompressorTraits traits;
    traits.block_elems = kWholeTensor;
    return traits;
  }
  [[nodiscard]] std::size_t max_frame_size(std::size_t n, DType) const { return facet->max_frame_size(n, n); }
  std::size_t encode(ConstTensor x, Bytes out, Tensor, const RandomKey& key, StreamRef) const {
    std::vector<std::uint32_t> index(x.count);
    std::vector<float> value(x.count);
    return facet->encode_entries(facet->select(x, {index.data(), value.data(), x.count}, key), x.count, out, key);
  }
  std::size_t decode(ConstBytes in, Tensor y, Write, StreamRef) const {
    std::size_t entries = 0;
    std::memcpy(&entries, in.data + 16, sizeof entries);
    for (std::size_t i = 0; i < y.count; ++i) store_f32(y.data, y.dtype, i, 0);
    for (std::size_t e = 0; e < entries; ++e) {
      std::uint32_t i = 0;
      std::memcpy(&i, in.data + 32 + 4 * e, 4);
      store_f32(y.data, y.dtype, i, load_f32(in.data + 32 + 4 * entries, DType::f32, e));
    }
    return facet->max_frame_size(y.count, entries);
  }
  [[nodiscard]] double error_bound(std::size_t) const { return 1; }
  [[nodiscard]] const Sparsifier* sparsifier() const noexcept { return facet.get(); }
};

/// What sparse_scatter does: choose with the wrapper, write frames of parts of the choice, and read them with the
/// wrapper.
TEST(Zstd, PassesASparsifierOn) {
  const Compressor zstd = ZstdCompressor(LargeOnesCompressor(), {});
  EXPECT_EQ(zstd.traits().block_elems, kWholeTensor);
  const Sparsifier* const facet = zstd.sparsifier();
  ASSERT_NE(facet, nullptr);
  const std::vector<float> x = normal_gradients(4000, 6);
  std::vector<std::uint32_t> index(facet->max_entries(x.size()));
  std::vector<float> value(index.size());
  Entries all = facet->select({x.data(), x.size()}, {index.data(), value.data(), index.size()}, {});
  ASSERT_GT(all.count, 100u);
  std::vector<float> sum(x.size());
  for (std::size_t first = 0; first < all.count; first += all.count / 3 + 1) {
    const Entries part{all.index + first, all.value + first, std::min(all.count - first, all.count / 3 + 1)};
    std::vector<std::byte> frame(facet->max_frame_size(x.size(), part.count));
    const std::size_t size = facet->encode_entries(part, x.size(), {frame.data(), frame.size()}, {});
    EXPECT_LT(size, frame.size());  // ascending places shrink
    std::vector<float> y(x.size());
    EXPECT_EQ(zstd.decode({frame.data(), size}, {y.data(), y.size()}, Write::assign), size);
    for (std::size_t i = 0; i < x.size(); ++i) sum[i] += y[i];
  }
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(sum[i], std::fabs(x[i]) < 1 ? 0 : x[i]);
  EXPECT_EQ(facet->with_values(make_compressor("q4")).spec(),
            "quantize(bits=4,bucket=512,norm=linf,round=nearest)|zstd(level=1,split=bytes)");
}

/// Sums of several ranks' choices have more entries than any rank chooses: up to all of them.
TEST(Zstd, ReadsSparseFramesOfMoreEntriesThanItChooses) {
  for (const char* spec : {"topk(0.01)|zstd", "topk(0.01)|q4|zstd", "randomk(k=3)|f16|zstd"}) {
    const Compressor zstd = make_compressor(spec);
    const Sparsifier& facet = *zstd.sparsifier();
    for (const std::size_t count : {1u, 100u, 5000u}) {
      for (const std::size_t entries : {count / 50, count / 2, count}) {
        std::vector<std::uint32_t> index(entries);
        std::vector<float> value = normal_gradients(entries, 4);
        for (std::size_t i = 0; i < entries; ++i) index[i] = static_cast<std::uint32_t>(i * (count / entries));
        std::vector<std::byte> frame(facet.max_frame_size(count, entries));
        frame.resize(
            facet.encode_entries({index.data(), value.data(), entries}, count, {frame.data(), frame.size()}, {}));
        std::vector<float> y(count);
        ASSERT_EQ(zstd.decode({frame.data(), frame.size()}, {y.data(), count}, Write::assign), frame.size());
        for (std::size_t i = 0; i < entries; ++i) ASSERT_EQ(y[index[i]], value[i]) << spec;
      }
    }
  }
}

}  // namespace
}  // namespace gradwire::testing
