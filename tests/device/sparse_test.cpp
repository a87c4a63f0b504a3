// Sparsifiers on device memory: what the host chooses, sends and owes, bit for bit.
#include "compress/sparse/compressor.hpp"
#include "compress/sparse/frame.hpp"
#include "compress/sparse/selection.hpp"
#include "device/device_support.hpp"
#include "support/test_name.hpp"

namespace gradwire::testing {
namespace {

constexpr RandomKey kKey{7, 11, ParamId{13}, (std::uint64_t{1} << 33) - 70};

bool is_drawn(const std::string& spec) { return spec.starts_with("randomk"); }

struct HostFrame {
  std::vector<std::byte> bytes;  ///< up to the capacity
  std::vector<std::byte> residual;
};

/// What a host writes of the entries that it chooses, with the places coded as devices do.
HostFrame encode_on_host(const std::string& spec, const Values& x, const Compressor& compressor,
                         const RandomKey& key = kKey) {
  const auto bar = spec.find('|');
  const sparse::ValueCoding values =
      bar == std::string::npos ? sparse::ValueCoding() : sparse::ValueCoding(make_compressor(spec.substr(bar + 1)), "");
  const ConstTensor tensor = x.tensor();
  const std::size_t room = compressor.sparsifier()->max_entries(tensor.count);
  std::vector<std::uint32_t> index(room + 1);
  std::vector<float> value(room + 1);
  const Entries entries = compressor.sparsifier()->select(tensor, {index.data(), value.data(), room}, key);
  HostFrame frame;
  frame.bytes.resize(compressor.max_frame_size(tensor.count, tensor.dtype));
  sparse::FrameShape shape{tensor.count, tensor.dtype};
  shape.fixed = true;
  const RandomStream::Keys keys = sparse::place_keys(key);
  if (is_drawn(spec)) shape.seed = &keys;
  if (spec.starts_with("block_topk")) shape.block = spec.find("block=32") != std::string::npos ? 32 : 64;
  (void)sparse::encode_frame(entries, shape, values, {frame.bytes.data(), frame.bytes.size()}, key);
  Values owed(x.floats(), DType::f32);
  for (std::size_t i = 0; i < entries.count; ++i) owed.set(index[i], owed.get(index[i]) - value[i]);
  frame.residual = bytes_of(owed.tensor());
  return frame;
}

/// One encode and its decodes, on both.
void compare(const std::string& spec, const std::vector<float>& data, DType dtype) {
  const std::size_t count = data.size();
  SCOPED_TRACE(fmt::format("{} {} count={}", spec, name(dtype), count));
  const Compressor compressor = make_compressor(spec);
  const Values x(data, dtype);
  const HostFrame expected = encode_on_host(spec, x, compressor);
  const std::size_t room = expected.bytes.size();

  const device::Stream stream;
  const std::size_t shift = count % 3 * size_of(dtype);
  const OnDevice input(x.tensor(), stream.ref(), shift);
  const OnDevice out(room);
  const OnDevice residual(count * sizeof(float), count % 2 * sizeof(float));
  ASSERT_EQ(compressor.encode(input.tensor(count, dtype), out.bytes(), residual.tensor(count), kKey, stream.ref()),
            room);
  ASSERT_EQ(out.read(stream.ref()), expected.bytes);
  ASSERT_EQ(residual.read(stream.ref()), expected.residual);
  (void)compressor.encode(input.tensor(count, dtype), out.bytes(), {}, kKey, stream.ref());
  ASSERT_EQ(out.read(stream.ref()), expected.bytes);
  if (dtype == DType::f32) {  // the residual in the input's place
    const OnDevice both(x.tensor(), stream.ref(), shift);
    (void)compressor.encode(both.tensor(count), out.bytes(), both.tensor(count), kKey, stream.ref());
    ASSERT_EQ(out.read(stream.ref()), expected.bytes);
    ASSERT_EQ(both.read(stream.ref()), expected.residual);
  }
  for (const DType result : kDTypes) {
    if (result != dtype && count != 8191) continue;
    for (const Write write : {Write::assign, Write::add}) {
      Values y(mixed_gradients(count, 99), result);
      const OnDevice output(y.tensor(), stream.ref(), count % 3 * size_of(result));
      (void)compressor.decode({expected.bytes.data(), room}, y.tensor(), write);
      ASSERT_EQ(compressor.decode(out.bytes(), output.tensor(count, result), write, stream.ref()), room);
      ASSERT_EQ(output.read(stream.ref()), bytes_of(y.tensor()));
    }
  }
}

class Sparsifiers : public DeviceTest, public ::testing::WithParamInterface<std::string> {};

TEST_P(Sparsifiers, GiveTheHostsBytes) {
  for (const DType dtype : kDTypes) {
    for (const std::size_t count : {0u, 1u, 17u, 8191u, 17'001u, 100'003u}) {
      if (count > 20'000 && (dtype != DType::f32 || GetParam().find('|') != std::string::npos)) continue;
      compare(GetParam(), normal_gradients(count, static_cast<unsigned>(count + 3)), dtype);
      if (HasFatalFailure()) return;
    }
  }
}

/// Ties, zeros of both signs, denormals.
TEST_P(Sparsifiers, GiveTheHostsBytesOfGradientsOfManyKinds) {
  for (const std::size_t count : {17u, 5000u}) {
    compare(GetParam(), mixed_gradients(count, static_cast<unsigned>(count)), DType::f32);
    compare(GetParam(), std::vector<float>(count, -0.25f), DType::f32);
    if (GetParam().find("|quantize") == std::string::npos) {  // which takes zeros where there is nothing else
      compare(GetParam(), std::vector<float>(count, 0.0f), DType::f16);
      std::vector<float> one(count, -0.0f);
      one[count / 2] = 3e-41f;
      compare(GetParam(), one, DType::f32);
    }
    if (HasFatalFailure()) return;
  }
}

std::vector<float> decode_on_device(const Compressor& compressor, ConstBytes frame, std::size_t count,
                                    const device::Stream& stream) {
  const OnDevice in(frame.data, frame.size, stream.ref());
  const OnDevice y(count * sizeof(float));
  (void)compressor.decode(in.bytes(), y.tensor(count), Write::assign, stream.ref());
  const std::vector<std::byte> bytes = y.read(stream.ref());
  std::vector<float> values(count);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

bool all_nan(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isnan(value); });
}

/// No bit of what stands before the values may take a decoder out of its memory, or make it see what a host does not.
TEST_P(Sparsifiers, GiveNaNForFramesThatAreNotSound) {
  constexpr std::size_t kCount = 70'000;
  const Compressor compressor = make_compressor(GetParam());
  const HostFrame sound = encode_on_host(GetParam(), Values(normal_gradients(kCount, 5), DType::f32), compressor);
  const device::Stream stream;
  const std::vector<float> decoded =
      decode_on_device(compressor, {sound.bytes.data(), sound.bytes.size()}, kCount, stream);
  ASSERT_FALSE(all_nan(decoded));
  std::uint32_t rows = 0;
  std::memcpy(&rows, sound.bytes.data() + 24, sizeof rows);
  const std::size_t index_end = 32 + 16 * std::size_t{rows};
  std::vector<std::size_t> spoilt{0, 1, 2, 4, 8, 11, 12, 13, 16, 17, 19, 20, 21, 22, 23, 24, 25, 28, 31};
  for (std::size_t at = 32; at < index_end; at += 1 + index_end / 16) spoilt.push_back(at);
  for (const std::size_t at : spoilt) {
    std::vector<std::byte> bytes = sound.bytes;
    bytes[at] ^= std::byte{1} << (at % 7);
    std::vector<float> host(kCount);
    bool is_sound = true;
    try {
      (void)compressor.decode({bytes.data(), bytes.size()}, {host.data(), kCount}, Write::assign);
    } catch (const Error&) {
      is_sound = false;
    }
    const std::vector<float> found = decode_on_device(compressor, {bytes.data(), bytes.size()}, kCount, stream);
    if (is_sound) {
      ASSERT_EQ(std::memcmp(found.data(), host.data(), 4 * kCount), 0) << "byte " << at;
    } else {
      // What pads the index section is a host's to check only.
      ASSERT_TRUE(all_nan(found) || (at + 16 > index_end && found == decoded)) << "byte " << at;
    }
  }
}

TEST_P(Sparsifiers, CarryNaNAndInf) {
  constexpr std::size_t kCount = 5000;
  const Compressor compressor = make_compressor(GetParam());
  const device::Stream stream;
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    for (const std::size_t where : {std::size_t{0}, std::size_t{2061}, kCount - 1}) {
      std::vector<float> values = normal_gradients(kCount, 5);
      values[where] = bad;
      const OnDevice x(values.data(), kCount * sizeof(float), stream.ref());
      const OnDevice frame(compressor.max_frame_size(kCount, DType::f32));
      (void)compressor.encode(x.tensor(kCount), frame.bytes(), {}, kKey, stream.ref());
      const std::vector<std::byte> bytes = frame.read(stream.ref());
      const std::vector<float> y = decode_on_device(compressor, {bytes.data(), bytes.size()}, kCount, stream);
      const auto is_bad = [](float value) { return !std::isfinite(value); };
      EXPECT_TRUE(is_drawn(GetParam()) ? std::any_of(y.begin(), y.end(), is_bad) : is_bad(y[where]))
          << bad << " at " << where;
    }
  }
}

class SparseFrames : public DeviceTest {};

/// In two bits an element and less, hosts write Rice codes, which one thread would have to read from end to end.
TEST_F(SparseFrames, WithRiceCodesAreNotForDevices) {
  constexpr std::size_t kCount = 17'001;
  const Compressor compressor = make_compressor("topk(0.01)");
  const Encoded encoded = encode(compressor, Values(normal_gradients(kCount, 5), DType::f32).tensor());
  ASSERT_EQ(encoded.frame[20], std::byte{4});
  std::vector<std::byte> frame = encoded.frame;
  frame.resize(compressor.max_frame_size(kCount, DType::f32));
  EXPECT_TRUE(all_nan(decode_on_device(compressor, {frame.data(), frame.size()}, kCount, device::Stream())));
}

/// Fewer than k elements are not zero, but the values' own frame has k: zeros go along, and nothing is lost.
TEST_F(SparseFrames, OfCodedValuesAreFilledUpWithZeros) {
  constexpr std::size_t kCount = 3000;
  const Compressor compressor = make_compressor("topk(0.1)|quantize(bits=4,norm=minmax)");
  std::vector<float> x(kCount);
  for (std::size_t i = 0; i < 40; ++i) x[i * 70] = static_cast<float>(i) - 7.5f;
  const device::Stream stream;
  const OnDevice input(x.data(), kCount * sizeof(float), stream.ref());
  const OnDevice residual(kCount * sizeof(float));
  const OnDevice out(compressor.max_frame_size(kCount, DType::f32));
  (void)compressor.encode(input.tensor(kCount), out.bytes(), residual.tensor(kCount), kKey, stream.ref());
  const std::vector<std::byte> frame = out.read(stream.ref());
  const std::vector<std::byte> bytes = residual.read(stream.ref());
  std::uint32_t chosen = 0;
  std::memcpy(&chosen, frame.data() + 16, sizeof chosen);
  EXPECT_EQ(chosen, 300u);
  std::vector<float> y(kCount);
  (void)compressor.decode({frame.data(), frame.size()}, {y.data(), kCount}, Write::assign);
  EXPECT_EQ(y, decode_on_device(compressor, {frame.data(), frame.size()}, kCount, stream));
  for (std::size_t i = 0; i < kCount; ++i) {
    float owed = 0;
    std::memcpy(&owed, bytes.data() + i * sizeof owed, sizeof owed);
    ASSERT_EQ(owed, x[i] - y[i]) << i;
  }
}

/// Guesses that let too many pass, or too few, or that are of a value which many have.
TEST_F(SparseFrames, OfSampledChoicesAreTheHosts) {
  for (unsigned seed = 0; seed < 12; ++seed)
    compare("topk(0.016,select=sampled)", normal_gradients(40'000, seed), seed % 4 == 0 ? DType::f16 : DType::f32);
  compare("topk(0.03,select=sampled)", mixed_gradients(40'000, 7), DType::bf16);
  std::vector<float> few(40'000);
  for (std::size_t i = 0; i < few.size(); i += 97) few[i] = static_cast<float>(i % 7);
  compare("topk(0.02,select=sampled)", few, DType::f32);
}

/// One step of a compressor that remembers the steps before, on both, twice.
void compare_step(const Compressor& host, const Compressor& on_device, const std::vector<float>& data,
                  std::uint64_t step) {
  SCOPED_TRACE(step);
  const RandomKey key{7, step, ParamId{13}, 0};
  const std::size_t count = data.size();
  const Values x(data, DType::f32);
  const HostFrame expected = encode_on_host(std::string(host.spec()), x, host, key);
  const device::Stream stream;
  const OnDevice input(x.tensor(), stream.ref());
  const OnDevice residual(count * sizeof(float));
  const OnDevice out(expected.bytes.size());
  for (int repeated = 0; repeated < 2; ++repeated) {
    (void)on_device.encode(input.tensor(count), out.bytes(), residual.tensor(count), key, stream.ref());
    ASSERT_EQ(out.read(stream.ref()), expected.bytes);
    ASSERT_EQ(residual.read(stream.ref()), expected.residual);
  }
}

TEST_F(SparseFrames, OfReusedThresholdsAreTheHosts) {
  for (const std::string spec : {"adaptive_threshold(0.02,refresh=4)", "adaptive_threshold(0.1,refresh=100)|f16"}) {
    SCOPED_TRACE(spec);
    for (const std::size_t count : {0u, 1u, 9000u}) {
      const Compressor host = make_compressor(spec);
      const Compressor before = make_compressor(spec);
      const Compressor after = make_compressor(spec);  // a restart
      constexpr float kScales[] = {1, 1.02f, 1.1f, 0.97f, 1, 3, 3, 2.9f, 0.2f, 0.21f, 0.2f, 0.2f};
      std::uint64_t step = 3;
      for (const float scale : kScales) {
        std::vector<float> x = normal_gradients(count, static_cast<unsigned>(step));
        for (float& value : x) value *= scale;
        if (step == 8) std::fill(x.begin() + static_cast<std::ptrdiff_t>(count / 100), x.end(), 0.0f);
        const bool is_late = scale == 0.21f;
        if (is_late) after.step_memories()[0]->restore(before.step_memories()[0]->save());
        compare_step(host, step < 12 ? before : after, x, step);
        if (HasFatalFailure()) return;
        const Compressor& last = step < 12 ? before : after;
        ASSERT_EQ(last.step_memories()[0]->save(), host.step_memories()[0]->save()) << step;
        ++step;
      }
    }
  }
}

/// Of whole blocks, whose values another compressor codes.
TEST_F(SparseFrames, OfBlocksWithCodedValuesAreTheHosts) {
  for (const std::string spec : {"block_topk(0.1)|q4", "block_topk(0.2,block=32)|quantize(bits=8,bucket=32)"}) {
    compare(spec, normal_gradients(64, 5), DType::f32);
    compare(spec, normal_gradients(6400, 5), DType::bf16);
    compare(spec, normal_gradients(64'000, 5), DType::f32);
  }
}

/// Blocks that differ in the order of their elements only, and their norms by how squares are summed.
TEST_F(SparseFrames, ChooseBlocksByTheHostsNorms) {
  std::mt19937 engine(3);
  std::vector<float> block = normal_gradients(64, 5);
  std::vector<float> x;
  for (int b = 0; b < 100; ++b) {
    std::shuffle(block.begin(), block.end(), engine);
    x.insert(x.end(), block.begin(), block.end());
  }
  compare("block_topk(0.3)", x, DType::f32);
  compare("block_topk(0.1,block=32)", x, DType::f32);
}

/// Blocks whose sums of squares leave f32 are chosen first; hosts refuse them.
TEST_F(SparseFrames, HoldBlocksOfLargeElements) {
  constexpr std::size_t kCount = 1000;
  const Compressor compressor = make_compressor("block_topk(k=1,block=32)");
  std::vector<float> x(kCount, 0x1p40f);
  x[999] = 0x1p100f;  // in a short block
  const device::Stream stream;
  const OnDevice input(x.data(), kCount * sizeof(float), stream.ref());
  const OnDevice out(compressor.max_frame_size(kCount, DType::f32));
  (void)compressor.encode(input.tensor(kCount), out.bytes(), {}, kKey, stream.ref());
  const std::vector<std::byte> frame = out.read(stream.ref());
  const std::vector<float> y = decode_on_device(compressor, {frame.data(), frame.size()}, kCount, stream);
  for (std::size_t i = 0; i < kCount; ++i) ASSERT_EQ(y[i], i < 992 ? 0 : x[i]) << i;
}

void expect_unsupported(const std::string& spec, std::size_t count) {
  const Compressor compressor = make_compressor(spec);
  const device::Stream stream;
  const OnDevice x(count * sizeof(float));
  const OnDevice frame(compressor.max_frame_size(count, DType::f32));
  EXPECT_EQ(code_of([&] { (void)compressor.encode(x.tensor(count), frame.bytes(), {}, kKey, stream.ref()); }),
            Errc::unsupported)
      << spec;
}

TEST_F(SparseFrames, OfWhatDevicesCannotChooseOrCodeAreRefused) {
  expect_unsupported("threshold(0.1)", 1000);
  expect_unsupported("block_topk(0.1)|q4", 1000);
  expect_unsupported("topk(0.1,select=sampled)|q4", 1000);
  expect_unsupported("topk(0.1)|q4|zstd", 1000);
}

std::string test_name(const ::testing::TestParamInfo<std::string>& info) { return as_test_name(info.param); }

INSTANTIATE_TEST_SUITE_P(TopK, Sparsifiers,
                         ::testing::Values("topk(0.01)", "topk(0.3)", "topk(0.05)|f16", "topk(0.2)|bf16", "topk(k=1)",
                                           "topk(1)", "topk(k=100)|f16",
                                           "topk(0.02)|quantize(bits=4,bucket=96,round=stochastic)"),
                         test_name);
INSTANTIATE_TEST_SUITE_P(SampledTopK, Sparsifiers,
                         ::testing::Values("topk(0.01,select=sampled)", "topk(0.05,select=sampled)|f16"), test_name);
INSTANTIATE_TEST_SUITE_P(BlockTopK, Sparsifiers,
                         ::testing::Values("block_topk(0.01)", "block_topk(0.3,block=32)|f16", "block_topk(1)",
                                           "block_topk(0.1,block=32,norm=linf)"),
                         test_name);
INSTANTIATE_TEST_SUITE_P(RandomK, Sparsifiers,
                         ::testing::Values("randomk(0.01)", "randomk(0.3,scale=unbiased)|f16", "randomk(1)",
                                           "randomk(0.05)|quantize(bits=8)"),
                         test_name);

}  // namespace
}  // namespace gradwire::testing
