// Sparse frames: their bytes by hand, their size against the entropy of the places, and bytes that are no frames.
#include <fmt/format.h>

#include <memory>
#include <numeric>

#include "compress/sparse/frame.hpp"
#include "compress/sparse/index_coding.hpp"
#include "compress/sparse/rice.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

using sparse::IndexCoding;

/// Ascending places, each with probability `density`.
std::vector<std::uint32_t> random_places(std::size_t units, double density, unsigned seed) {
  std::mt19937 engine(seed);
  std::bernoulli_distribution chosen(density);
  std::vector<std::uint32_t> places;
  for (std::size_t i = 0; i < units; ++i)
    if (chosen(engine)) places.push_back(static_cast<std::uint32_t>(i));
  return places;
}

std::vector<std::uint32_t> read(const sparse::IndexPlan& plan, const std::byte* data, std::size_t count,
                                std::size_t units) {
  const sparse::IndexSection section{plan, data, count, units, "test"};
  sparse::check_index_section(section);
  std::vector<std::uint32_t> places(count);
  sparse::read_places(section, places.data());
  return places;
}

/// Writes with the shortest coding, checks its size and that it reads back.
IndexCoding round_trip(const std::vector<std::uint32_t>& places, std::size_t units) {
  const sparse::Places all{places.data(), places.size(), units};
  const sparse::IndexPlan plan = sparse::plan_indices(all);
  EXPECT_LE(plan.bytes, sparse::max_index_bytes(places.size(), units)) << places.size() << " of " << units;
  std::vector<std::byte> bytes(plan.bytes + 16, std::byte{0xEE});
  sparse::write_indices(plan, all, bytes.data());
  for (std::size_t i = plan.bytes; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], std::byte{0xEE});
  EXPECT_EQ(read(plan, bytes.data(), places.size(), units), places) << static_cast<int>(plan.coding);
  return plan.coding;
}

/// Behind the last place.
TEST(SparseIndices, WhatIsLeftOverMustBeZero) {
  const std::vector<std::uint32_t> places = random_places(70'001, 0.0003, 3);
  ASSERT_GT(places.size(), 5u);
  const sparse::Places all{places.data(), places.size(), 70'001};
  for (const IndexCoding coding : {IndexCoding::words, IndexCoding::offsets, IndexCoding::bitmap, IndexCoding::rice}) {
    sparse::IndexPlan plan = sparse::plan_indices(all);
    if (coding != IndexCoding::rice) plan = {coding, 0, sparse::fixed_index_bytes(coding, all.count, all.units)};
    ASSERT_EQ(plan.coding, coding);
    std::vector<std::byte> bytes(plan.bytes);
    sparse::write_indices(plan, all, bytes.data());
    for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      std::vector<std::byte> bad = bytes;
      bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
      std::vector<std::uint32_t> others;
      const Errc code = code_of([&] { others = read(plan, bad.data(), all.count, all.units); });
      ASSERT_TRUE(code == Errc::bad_frame || (code == Errc::ok && others != places)) << static_cast<int>(coding) << bit;
    }
  }
}

TEST(SparseIndices, EachCodingIsShortestSomewhere) {
  EXPECT_EQ(round_trip({}, 0), IndexCoding::words);
  EXPECT_EQ(round_trip({}, 1000), IndexCoding::words);
  EXPECT_EQ(round_trip({0xffff'fffe}, 0xffff'ffff), IndexCoding::words);
  EXPECT_EQ(round_trip({0}, 1), IndexCoding::all);
  std::vector<std::uint32_t> every(5000);
  std::iota(every.begin(), every.end(), 0u);
  EXPECT_EQ(round_trip(every, every.size()), IndexCoding::all);
  EXPECT_EQ(round_trip(every, every.size() + 1), IndexCoding::bitmap);
  EXPECT_EQ(round_trip(random_places(100'000, 0.7, 1), 100'000), IndexCoding::bitmap);
  EXPECT_EQ(round_trip(random_places(100'000, 0.01, 2), 100'000), IndexCoding::rice);
  // Few, far apart and in one block: Rice codes pay for the way there.
  std::vector<std::uint32_t> late;
  for (std::uint32_t i = 0; i < 32; ++i) late.push_back(65536 * 2 - 400 + 7 * i);
  EXPECT_EQ(round_trip(late, 65536 * 2), IndexCoding::rice);
}

TEST(SparseIndices, EveryCodingReadsBackWhateverItsLength) {
  for (const std::size_t units : {1u, 63u, 64u, 65u, 1000u, 65536u, 65537u, 200'000u})
    for (const double density : {0.0005, 0.02, 0.4, 0.9}) {
      const std::vector<std::uint32_t> places = random_places(units, density, static_cast<unsigned>(units));
      round_trip(places, units);
      const sparse::Places all{places.data(), places.size(), units};
      for (const IndexCoding coding : {IndexCoding::words, IndexCoding::offsets, IndexCoding::bitmap}) {
        if (places.empty()) continue;
        const sparse::IndexPlan plan{coding, 0, sparse::fixed_index_bytes(coding, places.size(), units)};
        std::vector<std::byte> bytes(plan.bytes);
        sparse::write_indices(plan, all, bytes.data());
        EXPECT_EQ(read(plan, bytes.data(), places.size(), units), places) << static_cast<int>(coding) << " " << units;
      }
    }
}

/// Any Rice parameter, and gaps that take more than one word.
TEST(SparseIndices, RiceCodesOfEveryParameter) {
  for (const unsigned parameter : {0u, 1u, 5u, 12u, 20u, 31u}) {
    std::mt19937 engine(parameter);
    std::vector<std::uint32_t> values{0, 1, 2, 63, 64, 65, 127, 128, 1000};
    for (int i = 0; i < 2000; ++i)
      values.push_back(static_cast<std::uint32_t>(engine() % (200u << std::min(parameter, 20u))));
    if (parameter >= 20) values.push_back(0xffff'ffff);
    std::uint64_t bits = 0;
    for (const std::uint32_t v : values) bits += (v >> parameter) + 1 + parameter;
    std::vector<std::byte> bytes((bits + 63) / 64 * 8);
    sparse::RiceWriter writer(bytes.data(), parameter);
    for (const std::uint32_t v : values) writer.put(v);
    ASSERT_EQ(writer.finish(), bytes.data() + bytes.size());
    sparse::RiceReader reader(bytes.data(), bytes.size(), parameter);
    for (const std::uint32_t v : values) {
      std::uint64_t value = 0;
      ASSERT_TRUE(reader.next(value));
      ASSERT_EQ(value, v);
    }
    EXPECT_EQ(reader.bit(), bits);
    std::uint64_t value = 0;
    while (reader.next(value)) EXPECT_EQ(value, 0u);  // ends
  }
}

TEST(SparseIndices, AreWithinTenPercentOfTheEntropy) {
  for (const std::size_t units : {100'000u, 1'000'000u})
    for (const double density : {0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5}) {
      const std::vector<std::uint32_t> places = random_places(units, density, 5);
      const auto n = static_cast<double>(places.size());
      const auto d = static_cast<double>(units);
      const double bound = (std::lgamma(d + 1) - std::lgamma(n + 1) - std::lgamma(d - n + 1)) / std::log(2.0);
      const sparse::IndexPlan plan = sparse::plan_indices({places.data(), places.size(), units});
      EXPECT_LE(8 * static_cast<double>(plan.bytes), 1.1 * bound + 128) << units << " at " << density;
    }
}

TEST(SparseIndices, BoundsGrowWithTheNumberOfEntries) {
  for (const std::size_t units : {1u, 17u, 1000u, 70'000u}) {
    std::size_t before = 0;
    for (std::size_t n = 0; n <= units; ++n) {
      const std::size_t bytes = sparse::max_index_bytes(n, units);
      ASSERT_GE(bytes, before) << n << " of " << units;
      before = bytes;
    }
  }
}

std::string hex(const std::vector<std::byte>& bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return text;
}

struct Golden {
  const char* spec;
  std::vector<float> x;
  DType dtype;
  const char* hex;
};

TEST(SparseFrame, GoldenBytes) {
  std::vector<float> blocks(96, 0.0f);
  blocks[70] = 2.0f;
  std::vector<float> spread(40'000, 0.0f);
  float next = 0;
  for (const std::size_t place : {3u,     4u,     70u,    2000u,  2001u,  5000u,  5555u,  9000u,  9100u,  12000u,
                                  15000u, 18000u, 21000u, 25000u, 25001u, 29999u, 33333u, 36000u, 38000u, 39999u})
    spread[place] = ++next;
  // The bytes are from an independent implementation.
  for (const Golden& golden : {Golden{"topk(0.5)",
                                      {},
                                      DType::f32,
                                      "c7010b00000000000000000002000000"
                                      "00000000010000000000000000000000"},
                               // A bitmap would be as long as words: words it is.
                               Golden{"topk(k=2)",
                                      {0, 3, -4, 1},
                                      DType::bf16,
                                      "c7010b02000000000400000004000000"
                                      "02000000010000000100000000000000"
                                      "01000000020000000000000000000000"
                                      "00004040000080c00000000000000000"},
                               Golden{"topk(1)|f16",
                                      {1, -2},
                                      DType::f32,
                                      "c7010b00010000000200000003000000"
                                      "02000000000000000000000000000000"
                                      "003c00c0000000000000000000000000"},
                               // Block 2, of which one element is not zero.
                               Golden{"block_topk(0.1,block=32)|bf16", blocks, DType::f32,
                                      "c7010b00020000006000000007000000"
                                      "01000000010001000100000000000000"
                                      "02000000000000000000000000000000"
                                      "0000000000000000000000000040000000000000000000000000000000000000"
                                      "0000000000000000000000000000000000000000000000000000000000000000"},
                               // Rice codes of parameter 10.
                               Golden{"topk(k=20)", spread, DType::f32,
                                      "c7010b0000000000409c000009000000"
                                      "14000000040a00000200000000000000"
                                      "0708c0204c3c00b4bd8a48d73138356fe7edbc1d3f0f002c1c0ba29a3eaff300"
                                      "0000803f0000004000004040000080400000a0400000c0400000e04000000041"
                                      "0000104100002041000030410000404100005041000060410000704100008041"
                                      "0000884100009041000098410000a041"}}) {
    for (const std::string_view isa : isa::list()) {
      const ScopedIsa scope(isa);
      const Encoded encoded = encode(make_compressor(golden.spec), Values(golden.x, golden.dtype).tensor());
      EXPECT_EQ(hex(encoded.frame), golden.hex) << isa << " " << golden.spec;
    }
  }
}

class SparseBadFrames : public ::testing::TestWithParam<const char*> {
 protected:
  static constexpr std::size_t kCount = 1009;

  /// Decodes bytes that end where their allocation ends, so that a sanitizer sees a read behind them.
  [[nodiscard]] Errc decode(const std::vector<std::byte>& bytes, std::size_t size, std::size_t count = kCount) const {
    const std::unique_ptr<std::byte[]> copy(new std::byte[size]);
    std::copy_n(bytes.begin(), size, copy.get());
    Values y(normal_gradients(count, 3), DType::f32);
    const std::vector<std::byte> before = y.bytes();
    const Errc code = code_of([&] { compressor_.decode({copy.get(), size}, y.tensor(), Write::add); });
    EXPECT_TRUE(code == Errc::ok || y.bytes() == before) << "output of a bad frame was touched";
    return code;
  }

  Compressor compressor_ = make_compressor(GetParam());
  std::vector<std::byte> frame_ = encode(compressor_, Values(normal_gradients(kCount, 1), DType::f32).tensor()).frame;
};

TEST_P(SparseBadFrames, TruncatedAnywhere) {
  EXPECT_EQ(decode(frame_, frame_.size()), Errc::ok);
  for (std::size_t size = 0; size < frame_.size(); ++size) ASSERT_EQ(decode(frame_, size), Errc::bad_frame) << size;
}

TEST_P(SparseBadFrames, AnyFlippedHeaderBitButOfTheDtype) {
  for (std::size_t bit = 0; bit < 256; ++bit) {
    std::vector<std::byte> bad = frame_;
    bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    const Errc code = decode(bad, bad.size());
    // Another number of entries, coding or Rice parameter may fit by chance, as far as a reader can tell.
    const bool may_fit = bit == 24 || bit == 25 || (bit >= 128 && bit < 176);
    ASSERT_TRUE(code == Errc::bad_frame || (may_fit && code == Errc::ok)) << "bit " << bit;
  }
}

/// No two frames mean the same: padding is zero, as docs/wire-format.md says. Frames inside are another's business.
TEST_P(SparseBadFrames, AnyFlippedBitBehindTheHeadersIsRefusedOrMeansSomethingElse) {
  if (frame_[4] == std::byte{3}) GTEST_SKIP() << "values are frames";
  Values expected(kCount, DType::f32);
  compressor_.decode({frame_.data(), frame_.size()}, expected.tensor(), Write::assign);
  for (std::size_t bit = 256; bit < 8 * frame_.size(); ++bit) {
    std::vector<std::byte> bad = frame_;
    bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    Values y(kCount, DType::f32);
    const Errc code = code_of([&] { compressor_.decode({bad.data(), bad.size()}, y.tensor(), Write::assign); });
    ASSERT_TRUE(code == Errc::bad_frame || (code == Errc::ok && y.bytes() != expected.bytes())) << "bit " << bit;
  }
}

TEST_P(SparseBadFrames, OfAnotherCountOrCompressor) {
  EXPECT_EQ(decode(frame_, frame_.size(), kCount - 1), Errc::bad_frame);
  EXPECT_EQ(decode(frame_, frame_.size(), 0), Errc::bad_frame);
  for (const char* other : {"none", "q4", "topk(0.1)|q3", "topk(0.1)|bf16"}) {
    if (std::string_view(GetParam()).ends_with("|bf16") && std::string_view(other).ends_with("|bf16")) continue;
    const Encoded encoded = encode(make_compressor(other), Values(normal_gradients(kCount, 1), DType::f32).tensor());
    EXPECT_EQ(decode(encoded.frame, encoded.frame.size()), Errc::bad_frame) << other;
  }
}

/// Thousands of corruptions: an error, or values; never a read or write out of bounds.
TEST_P(SparseBadFrames, CorruptedAtRandom) {
  std::mt19937 engine(17);
  std::size_t refused = 0;
  constexpr int kTrials = 4000;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::vector<std::byte> bad = frame_;
    const std::size_t changes = 1 + engine() % 4;
    for (std::size_t i = 0; i < changes; ++i) {
      // Mostly behind the first header, whose every bit is checked above.
      const std::size_t at = engine() % 8 == 0 ? engine() % 16 : 16 + engine() % (bad.size() - 16);
      switch (engine() % 3) {
        case 0: bad[at] ^= static_cast<std::byte>(1u << engine() % 8); break;
        case 1: bad[at] = static_cast<std::byte>(engine()); break;
        default: bad[at] = std::byte{0xff}; break;
      }
    }
    const Errc code = decode(bad, bad.size());
    ASSERT_TRUE(code == Errc::ok || code == Errc::bad_frame) << name(code);
    refused += code == Errc::bad_frame ? 1 : 0;
  }
  EXPECT_GT(refused, 100u);
}

INSTANTIATE_TEST_SUITE_P(Codings, SparseBadFrames,
                         ::testing::Values("topk(0.003)", "topk(0.05)", "topk(0.6)", "topk(1)", "topk(0.1)|f16",
                                           "topk(0.2)|q4", "randomk(0.1)", "block_topk(0.3,block=32)",
                                           "block_topk(0.4,block=64)|q8", "threshold(0.5)|bf16"));

}  // namespace
}  // namespace gradwire::testing
