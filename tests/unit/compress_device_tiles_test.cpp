// What the threads of the device kernels of quantisers and integer coders do, run one after another on the host: the
// reference's bytes.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "compress/device/grid.hpp"
#include "compress/device/integer_codes_tile.hpp"
#include "compress/device/quantize_tile.hpp"
#include "compress/kernels.hpp"
#include "compress/sparse/selection.hpp"
#include "unit/compress_support.hpp"

#include "gradwire/buffer.hpp"

namespace gradwire::testing {
namespace {

/// The scale of a bucket that `threads` have seen; false where it has none.
bool settle(const kernels::QuantizeEncode& job, std::size_t bucket, const std::vector<device::BucketNorms>& threads,
            BucketScale& scale) {
  const QuantizeLayout layout{job.params, job.x.count};
  device::BucketNorms all;
  for (const device::BucketNorms& norms : threads) all.join(norms);
  float sums[QuantizeLayout::kRow] = {};
  for (std::size_t column = 0; device::needs_sums(job.params.norm) && column < QuantizeLayout::kRow; ++column)
    sums[column] = device::column_sum(layout, job.x, bucket, column);
  const bool found = device::find_scale(job.params, all, sums, device::bucket_size(layout, bucket), scale);
  device::store_scale(layout, bucket, scale, job.payload);
  return found;
}

/// As the two kernels do it: a warp a bucket looks for its scale, then a thread a tile packs codes; in any order.
std::size_t encode_in_two(const kernels::QuantizeEncode& job) {
  const QuantizeLayout layout{job.params, job.x.count};
  std::vector<BucketScale> scales(layout.buckets());
  std::size_t bad = layout.buckets();
  for (std::size_t bucket = layout.buckets(); bucket-- > 0;) {
    std::vector<device::BucketNorms> lanes;
    for (std::size_t lane = device::kBucketLanes; lane-- > 0;)
      lanes.push_back(device::lane_norms(layout, job.x, bucket, lane));
    if (!settle(job, bucket, lanes, scales[bucket])) bad = bucket;
  }
  if (bad < layout.buckets()) return bad * job.params.bucket;
  for (std::size_t tile = device::QuantizeTile::count(layout); tile-- > 0;)
    device::encode_tile(job, tile, scales.data());
  return job.x.count;
}

/// As the one kernel does it for whole tiles: the threads of a bucket keep their tiles' values.
std::size_t encode_in_one(const device::QuantizeSum& sum, const device::SumMessages& messages) {
  const kernels::QuantizeEncode& job = sum.own;
  const QuantizeLayout layout{job.params, job.x.count};
  const std::size_t threads = device::tiles_a_bucket(job.params);
  for (std::size_t bucket = 0; bucket < layout.buckets(); ++bucket) {
    std::vector<device::TileValues> values;
    std::vector<device::BucketNorms> norms;
    for (std::size_t place = 0; place < threads; ++place) {
      const auto tile = device::QuantizeTile::at(bucket * threads + place);
      values.push_back(device::sum_tile(sum, messages, tile));
      norms.push_back(device::tile_norms(layout, tile, values.back()));
    }
    BucketScale scale;
    if (!settle(job, bucket, norms, scale)) return bucket * job.params.bucket;
    for (std::size_t place = threads; place-- > 0;) {
      device::pack_tile(job, device::QuantizeTile::at(bucket * threads + place), values[place],
                        [&](std::size_t) { return scale; });
    }
  }
  return job.x.count;
}

std::size_t encode(const kernels::QuantizeEncode& job) {
  if (job.codebook != nullptr) {
    const QuantizeLayout layout{job.params, job.x.count};
    std::memcpy(job.payload, job.codebook, layout.scale_offset());
  }
  return device::has_whole_tiles(job.params) ? encode_in_one({job, {}, 0}, {}) : encode_in_two(job);
}

void decode(const kernels::QuantizeDecode& job) {
  const std::size_t tiles = device::QuantizeTile::count(QuantizeLayout{job.params, job.y.count});
  for (std::size_t tile = tiles; tile-- > 0;) device::decode_tile(job, tile);
}

struct Case {
  QuantizeParams params;
  DType dtype;
  std::size_t count;

  [[nodiscard]] std::string describe() const {
    return fmt::format("bits={} bucket={} norm={} round={} levels={} {} count={}", params.bits, params.bucket,
                       static_cast<int>(params.norm), static_cast<int>(params.round), static_cast<int>(params.levels),
                       name(dtype), count);
  }
};

void compare(const Case& c) {
  SCOPED_TRACE(c.describe());
  static constexpr float kBook[8] = {-0.9f, -0.4f, -0.1f, 0, 0.1f, 0.4f, 0.9f, 0};
  const float* const codebook = c.params.levels == Levels::learned ? kBook : nullptr;
  const QuantizeKernels& reference = isa::scalar_kernels<QuantizeKernels>();
  const QuantizeLayout layout{c.params, c.count};
  const RandomKey key{7, 11, ParamId{13}, (std::uint64_t{1} << 33) - 70};
  const Values x(mixed_gradients(c.count, static_cast<unsigned>(c.count + c.params.bits)), c.dtype, c.count % 4);

  std::vector<std::byte> expected(layout.payload_bytes(), std::byte{0x77});
  std::vector<std::byte> actual(layout.payload_bytes(), std::byte{0x11});
  Values owed(c.count, DType::f32, c.count % 4);
  Values owed_here(c.count, DType::f32, c.count % 4);
  ASSERT_EQ(
      reference.encode({c.params, x.tensor(), expected.data(), static_cast<float*>(owed.tensor().data), key, codebook}),
      c.count);
  ASSERT_EQ(encode({c.params, x.tensor(), actual.data(), static_cast<float*>(owed_here.tensor().data), key, codebook}),
            c.count);
  ASSERT_EQ(actual, expected);
  ASSERT_EQ(owed_here.bytes(), owed.bytes());
  ASSERT_EQ(encode_in_two({c.params, x.tensor(), actual.data(), nullptr, key, codebook}), c.count);
  ASSERT_EQ(actual, expected);
  if (c.dtype == DType::f32) {  // the residual in the place of x
    Values in_place = x;
    encode({c.params, in_place.tensor(), actual.data(), static_cast<float*>(in_place.tensor().data), key, codebook});
    ASSERT_EQ(actual, expected);
    ASSERT_EQ(in_place.bytes(), owed.bytes());
  }
  for (const Write write : {Write::assign, Write::add}) {
    Values y(mixed_gradients(c.count, 99), c.dtype, c.count % 3);
    Values y_here = y;
    reference.decode({c.params, expected.data(), y.tensor(), write});
    decode({c.params, expected.data(), y_here.tensor(), write});
    ASSERT_EQ(y_here.bytes(), y.bytes());
  }
}

std::vector<std::size_t> counts_for(std::size_t bucket) {
  return {0, 1, 15, 16, 17, 31, 113, bucket - 1, bucket, bucket + 1, 2 * bucket + 1009};
}

class DeviceTiles : public ::testing::TestWithParam<std::uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Buckets, DeviceTiles, ::testing::Values(32, 96, 128, 160, 512, 8192),
                         ::testing::PrintToStringParamName());

TEST_P(DeviceTiles, GiveTheReferencesBytesForUniformLevels) {
  for (const std::uint32_t bits : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u})
    for (const Norm norm : {Norm::linf, Norm::l2, Norm::minmax})
      for (const Rounding round : {Rounding::nearest, Rounding::stochastic})
        for (const DType dtype : kDTypes)
          for (const std::size_t count : counts_for(GetParam())) {
            compare({{bits, GetParam(), norm, round}, dtype, count});
            if (HasFatalFailure()) return;
          }
}

TEST_P(DeviceTiles, GiveTheReferencesBytesForOtherLevels) {
  std::vector<QuantizeParams> all{{1, GetParam(), Norm::mean, Rounding::nearest},
                                  {3, GetParam(), Norm::linf, Rounding::nearest, Levels::learned}};
  for (const float clip : {0.0f, 1.0f, 2.5f})
    all.push_back({2, GetParam(), clip == 0 ? Norm::linf : Norm::clipped, Rounding::stochastic, Levels::ternary,
                   Packing::planes, clip});
  for (const std::uint32_t bits : {2u, 3u, 7u, 8u})
    for (const Norm norm : {Norm::linf, Norm::l2})
      for (const Rounding round : {Rounding::nearest, Rounding::stochastic})
        all.push_back({bits, GetParam(), norm, round, Levels::exponential});
  for (const QuantizeParams& params : all)
    for (const DType dtype : kDTypes)
      for (const std::size_t count : counts_for(GetParam())) {
        compare({params, dtype, count});
        if (HasFatalFailure()) return;
      }
}

/// The owner of a chunk adds the others' frames to its own input, one after another, and encodes the sum.
class DeviceSums : public ::testing::TestWithParam<std::uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Buckets, DeviceSums, ::testing::Values(128, 384, 512, 8192),
                         ::testing::PrintToStringParamName());

TEST_P(DeviceSums, AreEncodedLikeDecodingOneAfterAnother) {
  const QuantizeKernels& reference = isa::scalar_kernels<QuantizeKernels>();
  for (const std::uint32_t bits : {1u, 2u, 3u, 4u, 8u})
    for (const Norm norm : {Norm::linf, Norm::minmax})
      for (const std::size_t count : counts_for(GetParam())) {
        const QuantizeParams params{bits, GetParam(), norm, Rounding::stochastic};
        ASSERT_TRUE(device::has_whole_tiles(params));
        const std::size_t size = QuantizeLayout{params, count}.payload_bytes();
        const std::size_t front = 16 + sizeof(device::FrameStart);  // of each message: what the payload lies behind
        std::vector<std::vector<std::byte>> payloads(3, std::vector<std::byte>(front + size));
        device::QuantizeSum job{};
        device::SumMessages messages;
        Values sum(mixed_gradients(count, 5), DType::f32);
        const Values own = sum;
        for (std::size_t p = 0; p < payloads.size(); ++p) {
          const Values x(mixed_gradients(count, static_cast<unsigned>(10 + p)), DType::f32);
          ASSERT_EQ(reference.encode({params, x.tensor(), payloads[p].data() + front, nullptr, {1, p, {}, 0}}), count);
          reference.decode({params, payloads[p].data() + front, sum.tensor(), Write::add});
          messages.at[messages.count++] = payloads[p].data();
        }
        std::vector<std::byte> expected(size);
        std::vector<std::byte> actual(size, std::byte{0x11});
        Values owed(count, DType::f32);
        Values owed_here(count, DType::f32);
        const RandomKey key{3, 4, ParamId{5}, 6};
        reference.encode({params, sum.tensor(), expected.data(), static_cast<float*>(owed.tensor().data), key});
        job.own = {params, own.tensor(), actual.data(), static_cast<float*>(owed_here.tensor().data), key};
        job.first = 16;
        encode_in_one(job, messages);
        ASSERT_EQ(actual, expected) << bits << ' ' << count;
        ASSERT_EQ(owed_here.bytes(), owed.bytes()) << bits << ' ' << count;
      }
}

TEST(DeviceTilesRefuse, TheFirstBucketWithoutAFiniteScale) {
  for (const float bad : {std::nanf(""), -std::nanf(""), HUGE_VALF, -HUGE_VALF, 0x1.8p126f})
    for (const Norm norm : {Norm::linf, Norm::l2, Norm::minmax, Norm::clipped})
      for (const std::size_t where : {0u, 7u, 31u, 32u, 63u, 64u, 96u, 100u}) {
        Values x(normal_gradients(101, 5), DType::f32);
        x.set(where, bad);
        x.set(100, bad);
        std::vector<std::byte> payload(4096);
        for (const std::uint32_t bucket : {32u, 128u}) {
          const QuantizeParams params{4, bucket, norm, Rounding::nearest, Levels::uniform, Packing::planes, 2};
          const kernels::QuantizeEncode job{params, x.tensor(), payload.data(), nullptr, {}};
          EXPECT_EQ(encode(job), isa::scalar_kernels<QuantizeKernels>().encode(job))
              << bad << " at " << where << ", norm " << static_cast<int>(norm);
          EXPECT_EQ(encode(job), where / bucket * bucket);
        }
      }
}

TEST(DeviceTilesSplit, EachElementIsOneTilesAndEachWordIsWrittenOnce) {
  for (const std::uint32_t bits : {1u, 3u, 4u, 7u, 8u})
    for (const std::size_t count : {1u, 16u, 17u, 127u, 128u, 129u, 1000u}) {
      const QuantizeLayout layout{{bits, 32}, count};
      std::vector<int> elements(count);
      std::vector<int> words(layout.payload_bytes() / 4);
      for (std::size_t index = 0; index < device::QuantizeTile::count(layout); ++index) {
        const auto tile = device::QuantizeTile::at(index);
        for (std::size_t row = 0; row < device::QuantizeTile::kRows; ++row)
          for (std::size_t column = 0; column < device::QuantizeTile::kColumns; ++column)
            if (const std::size_t i = tile.element(row, column); i < count) ++elements[i];
        for (std::size_t width = 8; width != 0; width /= 2)
          for (std::size_t w = 0; layout.has_plane(width) && w < tile.words(layout, width); ++w)
            ++words.at(tile.word_offset(layout, width) / 4 + w * 4);
      }
      EXPECT_EQ(elements, std::vector<int>(count, 1)) << count;
      const std::size_t scales = layout.plane_offset(8) / 4;
      for (std::size_t w = 0; w < words.size(); ++w)
        ASSERT_EQ(words[w], w < scales ? 0 : 1) << "bits " << bits << " count " << count << " word " << w;
    }
}

TEST(DeviceGrid, HasAThreadForEachUpToItsLimit) {
  EXPECT_EQ(device::blocks_for(0), 1u);
  EXPECT_EQ(device::blocks_for(1), 1u);
  EXPECT_EQ(device::blocks_for(device::kBlockThreads), 1u);
  EXPECT_EQ(device::blocks_for(device::kBlockThreads + 1), 2u);
  EXPECT_EQ(device::blocks_for(std::size_t{1} << 40), device::kMostBlocks);
  EXPECT_EQ(device::blocks_for(std::size_t{1} << 40, 7), 7u);
}

TEST(IntegerCodeTiles, ReadAndWriteCodesWhereverTheyAre) {
  for (const DType dtype : {DType::u8, DType::u16, DType::u32}) {
    for (const std::size_t shift : {0u, 1u, 2u, 3u}) {
      Buffer memory(64 * size_of(dtype));
      memory.fill_zero();
      const Tensor codes = Tensor{memory.data(), 64, dtype}.slice(shift, 32);
      for (std::uint32_t first = 0; first < 32; first += 4) {
        const std::uint32_t written[] = {first + 1, 255 - first, first, 7};
        device::store_codes(codes, first, written);
      }
      for (std::uint32_t first = 0; first < 32; first += 4) {
        std::uint32_t read[4];
        device::load_codes(codes, first, read);
        EXPECT_THAT(read, ::testing::ElementsAre(first + 1, 255 - first, first, 7)) << name(dtype) << ' ' << shift;
      }
    }
  }
}

/// All parts and then all strata, in any order: the host's codes and residuals.
TEST(IntegerCodeTiles, DrawTheHostsValues) {
  for (const std::string_view spec : {"randomk(0.1)", "randomk(k=7,scale=unbiased)"}) {
    const Compressor compressor = make_compressor(spec);
    const IntegerCoder& coder = *compressor.integer_coder();
    for (const DType dtype : kDTypes) {
      for (const std::size_t count : {1u, 7u, 101u, 1000u}) {
        const Values values(mixed_gradients(count, 3), dtype);
        const ConstTensor x = values.tensor();
        const CodingKeys keys{{5, 6, ParamId{7}, 0}, {}};
        std::vector<float> expected(coder.codes(count));
        std::vector<float> owed(count);
        coder.encode(x, nullptr, {expected.data(), expected.size()}, {owed.data(), count}, keys, StreamRef::host());
        const device::DrawnValues drawn{count, expected.size(), sparse::place_keys(keys.shared),
                                        compressor.traits().unbiased};
        std::vector<float> codes(expected.size());
        std::vector<float> residual(count);
        std::uint32_t most = 0;
        for (std::size_t part = device::row_parts(count); part-- > 0;)
          most = std::max(most, device::see_values(x, part, residual.data()));
        EXPECT_TRUE(device::can_draw(drawn, most));
        for (std::size_t j = drawn.chosen; j-- > 0;)
          device::draw_value(drawn, x, j, true, codes.data(), residual.data());
        EXPECT_EQ(codes, expected) << spec << ' ' << count;
        EXPECT_EQ(residual, owed) << spec << ' ' << count;
        device::draw_value(drawn, x, 0, false, codes.data(), residual.data());
        EXPECT_TRUE(std::isnan(codes[0]));
      }
    }
  }
  const auto bits = [](float value) { return std::bit_cast<std::uint32_t>(value); };
  EXPECT_FALSE(device::can_draw({10, 2, {}, false}, bits(HUGE_VALF)));
  EXPECT_FALSE(device::can_draw({10, 2, {}, false}, bits(std::nanf(""))));
  EXPECT_TRUE(device::can_draw({10, 2, {}, false}, bits(3e38F)));
  EXPECT_TRUE(device::can_draw({10, 2, {}, true}, bits(6e37F)));
  EXPECT_FALSE(device::can_draw({11, 2, {}, true}, bits(6e37F))) << "six times it";
}

}  // namespace
}  // namespace gradwire::testing
