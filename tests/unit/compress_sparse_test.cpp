// What sparsifiers choose.
#include <gmock/gmock.h>

#include <numeric>

#include "support/allocations.hpp"
#include "unit/compress_support.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

struct Chosen {
  std::vector<std::uint32_t> index;
  std::vector<float> value;
};

Chosen select(const Compressor& compressor, const std::vector<float>& x, const RandomKey& key = {}) {
  const std::size_t room = compressor.sparsifier()->max_entries(x.size());
  Chosen chosen{std::vector<std::uint32_t>(room), std::vector<float>(room)};
  const Entries entries =
      compressor.sparsifier()->select({x.data(), x.size()}, {chosen.index.data(), chosen.value.data(), room}, key);
  chosen.index.resize(entries.count);
  chosen.value.resize(entries.count);
  return chosen;
}

Chosen select(const char* spec, const std::vector<float>& x, const RandomKey& key = {}) {
  return select(make_compressor(spec), x, key);
}

/// By sorting: the k largest, ties to the lower index, no zeros.
std::vector<std::uint32_t> largest(const std::vector<float>& x, std::size_t k) {
  std::vector<std::uint32_t> order(x.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return std::fabs(x[a]) > std::fabs(x[b]); });
  order.resize(k);
  std::erase_if(order, [&](std::uint32_t i) { return x[i] == 0; });
  std::sort(order.begin(), order.end());
  return order;
}

/// Inputs on which guesses from a sample go right, and some on which they go wrong.
std::vector<std::vector<float>> large_inputs() {
  constexpr std::size_t kCount = 100'003;
  std::vector<std::vector<float>> all{normal_gradients(kCount, 1), mixed_gradients(kCount, 2),
                                      std::vector<float>(kCount, 0.5f), std::vector<float>(kCount, 0.0f)};
  std::vector<float> few(kCount, 0.0f);
  for (std::size_t i = 0; i < 50; ++i) few[i * 1999] = static_cast<float>(i) - 20.5f;
  all.push_back(few);
  std::vector<float> clustered = normal_gradients(kCount, 3, 1e-3f);
  for (std::size_t i = 1000; i < 1900; ++i) clustered[i] *= 1e6f;
  all.push_back(clustered);
  std::vector<float> rising(kCount);
  std::iota(rising.begin(), rising.end(), -1000.0f);
  all.push_back(rising);
  return all;
}

TEST(TopK, IsExactWithTiesToTheLowerIndex) {
  for (const std::string_view isa : {isa::list().front(), isa::list().back()}) {
    const ScopedIsa scope(isa);
    for (const std::vector<float>& x : large_inputs())
      for (const std::size_t k : {1u, 10u, 100u, 1000u, 12'000u, 60'000u, 100'003u}) {
        const Chosen chosen = select(("topk(k=" + std::to_string(k) + ")").c_str(), x);
        ASSERT_EQ(chosen.index, largest(x, k)) << isa << " " << k;
        for (std::size_t i = 0; i < chosen.index.size(); ++i) ASSERT_EQ(chosen.value[i], x[chosen.index[i]]);
      }
    for (const std::size_t count : {0u, 1u, 2u, 17u, 1000u, 4097u})
      for (const char* spec : {"topk(0.01)", "topk(0.3)", "topk(1)"}) {
        const std::vector<float> x = mixed_gradients(count, 9);
        const std::size_t k = make_compressor(spec).sparsifier()->max_entries(count);
        ASSERT_EQ(select(spec, x).index, largest(x, k)) << spec << " " << count;
      }
  }
}

TEST(TopK, SizesAreRoundedUp) {
  const auto entries = [](const char* spec, std::size_t n) {
    return make_compressor(spec).sparsifier()->max_entries(n);
  };
  EXPECT_EQ(entries("topk(0.01)", 0), 0u);
  EXPECT_EQ(entries("topk(0.01)", 1), 1u);
  EXPECT_EQ(entries("topk(0.01)", 101), 2u);
  EXPECT_EQ(entries("topk(k=7)", 5), 5u);
  EXPECT_EQ(entries("block_topk(0.01,block=32)", 100), 32u);
  EXPECT_EQ(entries("block_topk(0.5,block=64)", 100), 64u);
  EXPECT_EQ(entries("block_topk(1)", 100), 100u);
  EXPECT_EQ(entries("adaptive_threshold(k=100)", 1000), 125u);
  EXPECT_EQ(entries("threshold(1)", 1000), 1000u);
}

TEST(SampledTopK, ChoosesNearlyAsManyAndOnlyTheLargest) {
  for (const std::vector<float>& x : large_inputs())
    for (const std::size_t k : {10u, 1000u, 5000u, 10'000u})
      for (std::uint64_t step = 0; step < 5; ++step) {
        const std::string spec = "topk(k=" + std::to_string(k) + ",select=sampled)";
        const Chosen chosen = select(spec.c_str(), x, {1, step, ParamId{2}, 0});
        const std::vector<std::uint32_t> all = largest(x, k);
        ASSERT_LE(chosen.index.size(), all.size()) << spec;
        ASSERT_GE(5 * chosen.index.size(), 4 * all.size()) << spec;
        ASSERT_EQ(chosen.index, largest(x, chosen.index.size())) << spec;
      }
}

/// DGC cuts surplus off by index. Here the chosen lie evenly: their mean place strays as that of as many uniform ones.
TEST(SampledTopK, HasNoBiasTowardsLowIndices) {
  constexpr std::size_t kCount = 100'000;
  double sum = 0;
  double n = 0;
  for (unsigned draw = 0; draw < 60; ++draw) {
    const Chosen chosen = select("topk(0.01,select=sampled)", normal_gradients(kCount, draw), {draw, 0, ParamId{1}, 0});
    for (const std::uint32_t i : chosen.index) sum += (i + 0.5) / kCount - 0.5;
    n += static_cast<double>(chosen.index.size());
  }
  EXPECT_LT(std::fabs(sum / n), 4 * std::sqrt(1.0 / 12 / n));
}

TEST(Threshold, TakesWhatReachesIt) {
  const std::vector<float> x = mixed_gradients(5000, 4);
  for (const float t : {0.0f, 0.375f, 1.0f, 1e30f}) {
    std::vector<std::uint32_t> expected;
    for (std::size_t i = 0; i < x.size(); ++i)
      if (std::fabs(x[i]) >= t && x[i] != 0) expected.push_back(static_cast<std::uint32_t>(i));
    EXPECT_EQ(select(("threshold(" + std::to_string(t) + ")").c_str(), x).index, expected) << t;
  }
}

TEST(RandomK, DrawsOneInEachStratumUniformly) {
  constexpr std::size_t kCount = 103;
  const std::vector<float> x = normal_gradients(kCount, 6);
  std::vector<double> hits(kCount, 0.0);
  constexpr int kDraws = 20'000;
  const Compressor compressor = make_compressor("randomk(k=10)");
  for (int draw = 0; draw < kDraws; ++draw) {
    const Chosen chosen = select(compressor, x, {1, static_cast<std::uint64_t>(draw), ParamId{2}, 0});
    ASSERT_EQ(chosen.index.size(), 10u);
    for (std::size_t j = 0; j < 10; ++j) {
      ASSERT_GE(chosen.index[j], j * kCount / 10);
      ASSERT_LT(chosen.index[j], (j + 1) * kCount / 10);
      hits[chosen.index[j]] += 1;
    }
  }
  for (std::size_t j = 0; j < 10; ++j)
    for (std::size_t i = j * kCount / 10; i < (j + 1) * kCount / 10; ++i) {
      const auto size = static_cast<double>((j + 1) * kCount / 10 - j * kCount / 10);
      const double mean = kDraws / size;
      EXPECT_NEAR(hits[i], mean, 5 * std::sqrt(mean)) << i;
    }
}

TEST(RandomK, SendsASeedInsteadOfIndices) {
  const std::vector<float> x = normal_gradients(10'000, 6);
  const RandomKey key{5, 6, ParamId{7}, 8};
  for (const char* spec : {"randomk(0.1)", "randomk(0.1,scale=unbiased)"}) {
    const Encoded encoded = encode(make_compressor(spec), {x.data(), x.size()}, key);
    EXPECT_EQ(encoded.frame.size(), 32 + 16 + 4 * 1000u);
    const std::vector<float> y = decode(make_compressor(spec), encoded, x.size());
    const Chosen chosen = select(spec, x, key);
    for (std::size_t i = 0; i < chosen.index.size(); ++i) EXPECT_EQ(y[chosen.index[i]], chosen.value[i]);
  }
}

TEST(RandomK, UnbiasedValuesBeyondF32AreRefused) {
  const std::vector<float> x(100, 3e38f);
  std::string message;
  EXPECT_EQ(code_of([&] { (void)select("randomk(0.1,scale=unbiased)", x); }, &message), Errc::non_finite);
  EXPECT_THAT(message, HasSubstr("times 10"));
  EXPECT_EQ(code_of([&] { (void)select("randomk(0.1)", x); }), Errc::ok);
}

TEST(BlockTopK, TakesWholeBlocksOfLargestNorm) {
  constexpr std::size_t kBlock = 32;
  for (const std::size_t count : {1000u, 1024u, 40'000u, 1'280'005u})  // of the last, norms enough to be sampled
    for (const bool linf : {false, true}) {
      const std::vector<float> x = normal_gradients(count, 8);
      std::vector<float> norms((count + kBlock - 1) / kBlock, 0.0f);
      for (std::size_t i = 0; i < count; ++i) {
        float& norm = norms[i / kBlock];
        norm = linf ? std::max(norm, std::fabs(x[i])) : norm + x[i] * x[i];
      }
      const std::size_t m = (norms.size() + 9) / 10;
      std::vector<std::uint32_t> expected;
      for (const std::uint32_t b : largest(norms, m))
        for (std::size_t i = b * kBlock; i < std::min((b + 1) * kBlock, count); ++i)
          expected.push_back(static_cast<std::uint32_t>(i));
      EXPECT_EQ(select(linf ? "block_topk(0.1,block=32,norm=linf)" : "block_topk(0.1,block=32)", x).index, expected);
    }
}

/// Their sums of squares would all be infinite, and the first blocks chosen.
TEST(BlockTopK, L2RefusesSumsOfSquaresBeyondF32) {
  std::vector<float> x(320, 1e20f);
  x[200] = 3e38f;
  std::string message;
  EXPECT_EQ(code_of([&] { (void)select("block_topk(0.1,block=32)", x); }, &message), Errc::non_finite);
  EXPECT_THAT(message, HasSubstr("elements 0 to 31 is above 2^59"));
  EXPECT_THAT(message, HasSubstr("norm=linf"));
  EXPECT_EQ(select("block_topk(k=1,block=32,norm=linf)", x).index.front(), 192u);
  std::fill(x.begin(), x.end(), 0x1p58f);
  x[200] = 0x1p60f;
  EXPECT_EQ(select("block_topk(k=1,block=32)", x).index.front(), 192u);
}

TEST(BlockTopK, IndexesBlocks) {
  const std::vector<float> x = normal_gradients(64'000, 8);
  const Encoded encoded = encode(make_compressor("block_topk(0.01)"), {x.data(), x.size()});
  EXPECT_LE(encoded.frame.size(), 32 + 32 + 4 * 640u);  // ten blocks of a thousand
}

std::vector<float> scaled(std::vector<float> x, float scale) {
  for (float& v : x) v *= scale;
  return x;
}

TEST(AdaptiveThreshold, ReusesCorrectsAndRefreshes) {
  const Compressor compressor = make_compressor("adaptive_threshold(0.01,refresh=10)");
  constexpr std::size_t kCount = 100'000;
  const auto step = [&](std::uint64_t number, float scale, std::uint64_t seed = 1) {
    const std::vector<float> x = scaled(normal_gradients(kCount, static_cast<unsigned>(number)), scale);
    return std::pair(select(compressor, x, {seed, number, ParamId{4}, 0}).index, largest(x, 1000));
  };
  const auto exact = [](const auto& pair) { return pair.first == pair.second; };
  EXPECT_TRUE(exact(step(0, 1)));  // the first
  for (std::uint64_t number = 1; number < 10; ++number) {
    const auto [chosen, all] = step(number, 1);
    EXPECT_NE(chosen.size(), all.size()) << number;  // reused: a thousand is a coincidence
    EXPECT_GE(chosen.size(), 800u);
    EXPECT_LE(chosen.size(), 1250u);
  }
  EXPECT_TRUE(exact(step(10, 1)));  // refreshed
  EXPECT_FALSE(exact(step(11, 1)));
  EXPECT_TRUE(exact(step(12, 2)));  // too many
  EXPECT_FALSE(exact(step(13, 2)));
  EXPECT_TRUE(exact(step(14, 0.5f)));  // too few
  EXPECT_FALSE(exact(step(15, 0.5f)));
  EXPECT_TRUE(exact(step(14, 0.5f)));     // repeated
  EXPECT_TRUE(exact(step(15, 0.5f, 2)));  // another rank's
  EXPECT_TRUE(exact(step(0, 1)));         // a run begun again
}

TEST(Sparsifier, EncodesAnyEntries) {
  constexpr std::size_t kCount = 5000;
  for (const char* spec : {"topk(0.01)", "topk(0.01)|f16", "topk(0.01)|q8", "randomk(0.01)",
                           "block_topk(0.01,block=32)", "threshold(3)", "adaptive_threshold(0.02)|bf16"}) {
    const Compressor compressor = make_compressor(spec);
    const Sparsifier& sparsifier = *compressor.sparsifier();
    for (const std::size_t stride : {1u, 2u, 3u, 50u, 5000u})
      for (const std::size_t first : {0u, 17u}) {
        Chosen chosen;
        for (std::size_t i = first; i < kCount; i += stride) chosen.index.push_back(static_cast<std::uint32_t>(i));
        chosen.value = normal_gradients(chosen.index.size(), 3);
        const std::vector<float> values = chosen.value;
        const std::vector<std::uint32_t> index = chosen.index;
        std::vector<std::byte> frame(sparsifier.max_frame_size(kCount, chosen.index.size()));
        frame.resize(sparsifier.encode_entries({chosen.index.data(), chosen.value.data(), index.size()}, kCount,
                                               {frame.data(), frame.size()}, {}));
        EXPECT_EQ(chosen.index, index);
        std::vector<float> expected(kCount, 0.0f);
        for (std::size_t i = 0; i < index.size(); ++i) {
          expected[index[i]] = chosen.value[i];
          EXPECT_NEAR(chosen.value[i], values[i], 0.02f * 4) << spec;
        }
        EXPECT_EQ(decode(compressor, {frame, {}}, kCount), expected) << spec << " " << stride;
      }
  }
}

TEST(Sparsifier, FramesDoNotTellHowTheirEntriesWereChosen) {
  const std::vector<float> x = normal_gradients(3000, 2);
  const Encoded encoded = encode(make_compressor("block_topk(0.1,block=32)"), {x.data(), x.size()});
  EXPECT_EQ(decode(make_compressor("topk(0.01)"), encoded, x.size()),
            decode(make_compressor("block_topk(0.1,block=32)"), encoded, x.size()));
}

TEST(Sparsifier, AllocatesNothingInSteadyState) {
  const std::vector<float> x = normal_gradients(100'000, 5);
  std::vector<float> residual(x.size());
  for (const char* spec : {"topk(0.01)", "topk(0.3)", "topk(0.01,select=sampled)|f16", "topk(0.05)|q4", "threshold(2)",
                           "randomk(0.01)", "block_topk(0.01)|q8", "adaptive_threshold(0.01,refresh=3)"}) {
    const Compressor compressor = make_compressor(spec);
    std::vector<std::byte> frame(compressor.max_frame_size(x.size(), DType::f32));
    const auto step = [&](std::uint64_t number) {
      compressor.encode({x.data(), x.size()}, {frame.data(), frame.size()}, {residual.data(), x.size()},
                        {1, number, ParamId{2}, 0});
      compressor.decode({frame.data(), frame.size()}, {residual.data(), x.size()}, Write::add);
    };
    step(0);
    const test::AllocationCount allocations;
    for (std::uint64_t number = 1; number < 8; ++number) step(number);
    EXPECT_EQ(allocations.value(), 0u) << spec;
  }
}

/// Not even for a frame of more entries than any before.
TEST(Sparsifier, DecodingAllocatesByTheTensorAlone) {
  const std::vector<float> x = normal_gradients(100'000, 5);
  std::vector<float> y(x.size());
  const Compressor compressor = make_compressor("topk(0.01)");
  std::vector<Encoded> frames;
  for (const char* spec : {"topk(0.001)", "topk(0.1)", "topk(0.9)", "block_topk(0.3)", "topk(1)"})
    frames.push_back(encode(make_compressor(spec), {x.data(), x.size()}));
  const auto decode = [&](const Encoded& encoded) {
    compressor.decode({encoded.frame.data(), encoded.frame.size()}, {y.data(), y.size()}, Write::assign);
  };
  decode(frames.front());
  const test::AllocationCount allocations;
  for (const Encoded& encoded : frames) decode(encoded);
  EXPECT_EQ(allocations.value(), 0u);
}

TEST(Sparsifier, MisuseIsRefused) {
  const Compressor topk = make_compressor("topk(0.1)");
  std::vector<float> x(100, 1.0f);
  std::uint32_t index[10] = {0, 1, 2, 3, 4, 5, 6, 7, 98, 99};
  float value[10] = {};
  const auto select_code = [&](ConstTensor in, std::size_t room) {
    return code_of([&] { (void)topk.sparsifier()->select(in, {index, value, room}, {}); });
  };
  EXPECT_EQ(select_code({x.data(), 100}, 9), Errc::invalid_argument);
  EXPECT_EQ(select_code({nullptr, 100}, 10), Errc::invalid_argument);
  EXPECT_EQ(select_code({x.data(), 100, DType::u8}, 10), Errc::invalid_argument);
  std::vector<std::byte> frame(topk.sparsifier()->max_frame_size(100, 10));
  const auto encode_code = [&](std::size_t entries, std::size_t bytes) {
    return code_of([&] { topk.sparsifier()->encode_entries({index, value, entries}, 100, {frame.data(), bytes}, {}); });
  };
  EXPECT_EQ(encode_code(10, frame.size() - 1), Errc::invalid_argument);
  EXPECT_EQ(encode_code(10, frame.size()), Errc::ok);
  index[9] = 100;
  EXPECT_EQ(encode_code(10, frame.size()), Errc::invalid_argument);
  EXPECT_EQ(encode_code(9, frame.size()), Errc::ok);
  index[8] = 7;
  EXPECT_EQ(encode_code(9, frame.size()), Errc::invalid_argument);
}

TEST(Sparsifier, ValueCodings) {
  for (const auto& [text, canonical] : std::vector<std::pair<const char*, const char*>>{
           {"topk", "topk(density=0.01,select=exact)"},
           {"topk(0.5)|none", "topk(density=0.5,select=exact)"},
           {"topk(k=3,select=sampled)|f16", "topk(k=3,select=sampled)|f16"},
           {"randomk|q4", "randomk(density=0.01,scale=none)|quantize(bits=4,bucket=512,norm=linf,round=nearest)"},
           {"threshold(1e20)", "threshold(t=1e20)"},
           {"block_topk(1e-5,block=256)", "block_topk(density=1e-05,block=256,norm=l2)"},
           {"adaptive_threshold", "adaptive_threshold(density=0.01,refresh=128)"}}) {
    EXPECT_EQ(make_compressor(text).spec(), canonical);
    EXPECT_EQ(make_compressor(make_compressor(text).spec()).spec(), canonical);
  }
  std::string message;
  EXPECT_EQ(code_of([] { (void)make_compressor("topk(0.1)|topk(0.1)"); }, &message), Errc::unsupported);
  EXPECT_THAT(message, HasSubstr("sparsifier"));
  EXPECT_EQ(code_of([] { (void)make_compressor("topk(0.1)|q4|q4"); }, &message), Errc::unsupported);
  EXPECT_THAT(message, HasSubstr("already"));
  EXPECT_EQ(code_of([] { (void)make_compressor("q4|topk(0.1)"); }), Errc::invalid_argument);
  for (const char* bad : {"topk(0)", "topk(2)", "topk(k=0)", "topk(density=0.1,k=5)", "topk(select=best)", "topk(x=1)",
                          "threshold(-1)", "threshold(nan)", "randomk(scale=2)", "block_topk(block=33)",
                          "block_topk(block=288)", "adaptive_threshold(refresh=0)"})
    EXPECT_EQ(code_of([&] { (void)make_compressor(bad); }), Errc::invalid_argument) << bad;
}

}  // namespace
}  // namespace gradwire::testing
