// Several tensors in one launch: the bytes of one call each, in a number of launches that does not grow with them.
#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "compress/vector_ops.hpp"
#include "device/device_support.hpp"
#include "support/test_name.hpp"
#ifdef GRADWIRE_DEVICE_MODEL
#include "device_model/model.hpp"
#endif

namespace gradwire::testing {
namespace {

/// A tensor, its residual, its frame, and what is decoded out of it.
struct Place {
  std::size_t count;
  DType dtype;
  Tensor x;
  Tensor residual;  ///< of every other one; some in the place of x
  Bytes frame;
  Tensor y;
  Write write;
  RandomKey key;
};

/// Tensors of odd sizes and places, one behind another in memory that a batch and single calls each have of their own.
class Bucket {
 public:
  Bucket(const Compressor& compressor, std::span<const std::size_t> counts, StreamRef stream) {
    std::size_t bytes = 0;
    const auto take = [&](std::size_t size, std::size_t alignment) {
      bytes = (bytes + alignment - 1) / alignment * alignment;
      return std::exchange(bytes, bytes + size);
    };
    std::vector<std::size_t> starts;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const DType dtype = kDTypes[i % 3];
      const std::size_t count = counts[i];
      for (const std::size_t size : {count * size_of(dtype), count * sizeof(float)})
        starts.push_back(take(size, i % 5 == 0 ? 16 : sizeof(float)));
      starts.push_back(take(compressor.max_frame_size(count, dtype), 16));
      starts.push_back(take(count * size_of(dtype), i % 2 == 0 ? 16 : size_of(dtype)));
    }
    std::vector<std::byte> host(bytes);
    memory_ = std::make_unique<OnDevice>(bytes);
    std::byte* const first = memory_->data();
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const DType dtype = kDTypes[i % 3];
      const std::size_t* const at = &starts[4 * i];
      Place place{};
      place.count = counts[i];
      place.dtype = dtype;
      place.x = {first + at[0], place.count, dtype, Space::device};
      if (i % 2 == 0) place.residual = {first + at[1], place.count, DType::f32, Space::device};
      if (i % 6 == 0) place.residual = place.x;  // f32, in its place
      place.frame = {first + at[2], compressor.max_frame_size(place.count, dtype), Space::device};
      place.y = {first + at[3], place.count, dtype, Space::device};
      place.write = i % 4 < 2 ? Write::assign : Write::add;
      place.key = {7, i, ParamId{static_cast<std::uint32_t>(i)}, (std::uint64_t{1} << 33) - 70 + i};
      for (const std::size_t start : {at[0], at[3]}) {
        const Values values(mixed_gradients(place.count, static_cast<unsigned>(start + i)), dtype);
        if (place.count > 0) std::memcpy(host.data() + start, values.tensor().data, place.count * size_of(dtype));
      }
      places_.push_back(place);
    }
    device::copy(first, host.data(), bytes, stream);
    device::wait(stream);
  }

  [[nodiscard]] const std::vector<Place>& places() const noexcept { return places_; }
  [[nodiscard]] std::vector<EncodeJob> encodes() const {
    std::vector<EncodeJob> jobs;
    for (const Place& each : places_) jobs.push_back({each.x, each.frame, each.residual, each.key});
    return jobs;
  }
  [[nodiscard]] std::vector<DecodeJob> decodes() const {
    std::vector<DecodeJob> jobs;
    for (const Place& each : places_) jobs.push_back({each.frame, each.y, each.write});
    return jobs;
  }
  [[nodiscard]] std::vector<std::byte> read(StreamRef stream) const { return memory_->read(stream); }

 private:
  std::unique_ptr<OnDevice> memory_;
  std::vector<Place> places_;
};

struct Spec {
  std::string text;
  std::size_t encode_launches = 1;  ///< 2 where scales are found apart
};
void PrintTo(const Spec& spec, std::ostream* out) { *out << spec.text; }  // NOLINT: its name is GoogleTest's
std::string test_name(const ::testing::TestParamInfo<Spec>& info) { return as_test_name(info.param.text); }

class Batches : public DeviceTest, public ::testing::WithParamInterface<Spec> {
 protected:
  /// A batch of such tensors against calls for each of them.
  void expect_the_same(std::span<const std::size_t> counts) const {
    const device::Stream stream;
    const Bucket together(compressor_, counts, stream.ref());
    const Bucket apart(compressor_, counts, stream.ref());
    ASSERT_NE(codec_, nullptr);
    codec_->encode_batch(together.encodes(), stream.ref());
    codec_->decode_batch(together.decodes(), stream.ref());
    for (const Place& each : apart.places()) {
      ASSERT_EQ(compressor_.encode(each.x, each.frame, each.residual, each.key, stream.ref()), each.frame.size);
      ASSERT_EQ(compressor_.decode(each.frame, each.y, each.write, stream.ref()), each.frame.size);
    }
    ASSERT_TRUE(together.read(stream.ref()) == apart.read(stream.ref()));
  }

  const Compressor compressor_ = make_compressor(GetParam().text);
  const BatchCodec* const codec_ = compressor_.batch_codec();
};

constexpr std::size_t kCounts[] = {0, 1, 127, 128, 129, 17, 8191, 512, 0, 41'003, 3, 1000, 8192, 1, 2049};

TEST_P(Batches, GiveTheBytesOfSingleCalls) { expect_the_same(kCounts); }

TEST_P(Batches, OfOneAndOfNone) {
  for (const std::size_t count : {0u, 1u, 1000u}) expect_the_same(std::span(&count, 1));
  const device::Stream stream;
  codec_->encode_batch({}, stream.ref());
  codec_->decode_batch({}, stream.ref());
  expect_the_same(std::vector<std::size_t>(3, 0));
}

/// As many as no launch has room for.
TEST_P(Batches, GoOnInAnotherLaunch) {
  std::vector<std::size_t> counts;
  for (std::size_t i = 0; i < 700; ++i) counts.push_back(i * i % 61);
  expect_the_same(counts);
}

TEST_P(Batches, SpoilOnlyTheTensorWhoseFrameIsNotTheirs) {
  constexpr std::size_t kCount = 1000;
  const device::Stream stream;
  const Bucket bucket(compressor_, std::vector<std::size_t>(5, kCount), stream.ref());
  codec_->encode_batch(bucket.encodes(), stream.ref());
  const std::vector<std::byte> wrong(1, std::byte{0x7f});
  device::copy(bucket.places()[3].frame.data + 9, wrong.data(), 1, stream.ref());
  codec_->decode_batch(bucket.decodes(), stream.ref());
  const std::vector<std::byte> all = bucket.read(stream.ref());
  const auto* const first = static_cast<const std::byte*>(bucket.places().front().x.data);
  for (std::size_t i = 0; i < 5; ++i) {
    const Place& place = bucket.places()[i];
    const std::byte* const y = all.data() + (static_cast<const std::byte*>(place.y.data) - first);
    for (std::size_t k = 0; k < kCount; ++k)
      ASSERT_EQ(std::isnan(load_f32(y, place.dtype, k)), i == 3) << i << ' ' << k;
  }
}

#ifdef GRADWIRE_DEVICE_MODEL
std::uint64_t launches_of(const std::function<void()>& call) {
  const std::uint64_t before = device_model::counters().launches;
  call();
  return device_model::counters().launches - before;
}

TEST_P(Batches, AreOneLaunchOrTwo) {
  const device::Stream stream;
  std::vector<std::uint64_t> launches[2];
  for (const std::size_t tensors : {1u, 2u, 100u}) {
    const Bucket bucket(compressor_, std::vector<std::size_t>(tensors, 300), stream.ref());
    launches[0].push_back(launches_of([&] { codec_->encode_batch(bucket.encodes(), stream.ref()); }));
    launches[1].push_back(launches_of([&] { codec_->decode_batch(bucket.decodes(), stream.ref()); }));
    device::wait(stream.ref());
  }
  EXPECT_EQ(launches[0], std::vector<std::uint64_t>(3, GetParam().encode_launches));
  EXPECT_EQ(launches[1], std::vector<std::uint64_t>(3, 1));
}
#endif

TEST_P(Batches, RefuseWhatSingleCallsRefuse) {
  const device::Stream stream;
  const Bucket bucket(compressor_, std::vector<std::size_t>(3, 100), stream.ref());
  std::vector<EncodeJob> encodes = bucket.encodes();
  encodes[1].out = encodes[1].out.slice(0, 16);
  std::vector<DecodeJob> decodes = bucket.decodes();
  decodes[2].in = decodes[2].in.slice(0, 16);
  EXPECT_EQ(code_of([&] { codec_->encode_batch(encodes, stream.ref()); }), Errc::invalid_argument);
  EXPECT_EQ(code_of([&] { codec_->decode_batch(decodes, stream.ref()); }), Errc::bad_frame);
  EXPECT_EQ(code_of([&] { codec_->encode_batch(bucket.encodes(), StreamRef::host()); }), Errc::invalid_argument);
}

INSTANTIATE_TEST_SUITE_P(All, Batches,
                         ::testing::Values(Spec{"none"}, Spec{"f16"}, Spec{"bf16"}, Spec{"q4"},
                                           Spec{"quantize(bits=3,bucket=384,norm=minmax)"},
                                           Spec{"quantize(bits=5,bucket=8192,norm=l2,round=stochastic)"},
                                           Spec{"quantize(bits=3,bucket=96,norm=l2,round=stochastic)", 2}, Spec{"sign"},
                                           Spec{"ternary(pack=bits)"}, Spec{"ternary(pack=trits)", 2}, Spec{"natural"},
                                           Spec{"f8"}, Spec{"f8(block=96)", 2}, Spec{"mx4"}, Spec{"mx6"}, Spec{"nvfp4"},
                                           Spec{"nvfp4(span=96)", 2}),
                         test_name);

/// Sums of several tensors, whose frames lie at the same places of several messages.
class BatchesOfSums : public Batches {};

TEST_P(BatchesOfSums, GiveTheBytesOfDecodingAndEncoding) {
  constexpr std::size_t kMessages = 3;
  const device::Stream stream;
  const SumEncoder* const encoder = compressor_.sum_encoder();
  ASSERT_NE(encoder, nullptr);
  std::vector<std::size_t> counts(std::begin(kCounts), std::end(kCounts));
  counts.insert(counts.end(), 300, 21);  // more than a launch has room for
  std::size_t size = 16;
  std::vector<std::size_t> places;
  std::vector<std::size_t> firsts;
  std::size_t elems = 0;
  for (const std::size_t count : counts) {
    places.push_back(size);
    firsts.push_back(elems);
    size += compressor_.max_frame_size(count, DType::f32);
    elems += count;
  }
  std::vector<OnDevice> messages;
  std::vector<ConstBytes> views;
  for (unsigned m = 0; m < kMessages; ++m) {
    messages.emplace_back(size);
    const OnDevice x(Values(mixed_gradients(elems, m), DType::f32).tensor(), stream.ref());
    std::vector<EncodeJob> jobs;
    for (std::size_t i = 0; i < counts.size(); ++i)
      jobs.push_back({x.tensor(elems).slice(firsts[i], counts[i]),
                      messages[m].bytes().slice(places[i], compressor_.max_frame_size(counts[i], DType::f32)),
                      {},
                      {m, 1, ParamId{2}, i}});
    codec_->encode_batch(jobs, stream.ref());
    device::wait(stream.ref());
    views.push_back(messages[m].bytes());
  }
  const Values own(mixed_gradients(elems, 99), DType::f32);
  const OnDevice x[] = {OnDevice(own.tensor(), stream.ref()), OnDevice(own.tensor(), stream.ref())};
  const OnDevice out[] = {OnDevice(size), OnDevice(size)};
  const OnDevice owed[] = {OnDevice(elems * sizeof(float)), OnDevice(elems * sizeof(float))};
  for (const OnDevice& each : out) device::zero(each.data(), size, stream.ref());
  std::vector<SumJob> jobs;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const std::size_t bytes = compressor_.max_frame_size(counts[i], DType::f32);
    const RandomKey key{5, 1, ParamId{3}, i};
    jobs.push_back({{x[0].tensor(elems).slice(firsts[i], counts[i]), out[0].bytes().slice(places[i], bytes),
                     owed[0].tensor(elems).slice(firsts[i], counts[i]), key},
                    places[i]});
    const Tensor sum = x[1].tensor(elems).slice(firsts[i], counts[i]);
    for (const ConstBytes& message : views)
      (void)compressor_.decode(message.slice(places[i], bytes), sum, Write::add, stream.ref());
    (void)compressor_.encode(sum, out[1].bytes().slice(places[i], bytes),
                             owed[1].tensor(elems).slice(firsts[i], counts[i]), key, stream.ref());
  }
  encoder->encode_sums(jobs, views, stream.ref());
  ASSERT_TRUE(out[0].read(stream.ref()) == out[1].read(stream.ref()));
  ASSERT_TRUE(owed[0].read(stream.ref()) == owed[1].read(stream.ref()));
  jobs[1].first = size;
  EXPECT_THROW(encoder->encode_sums(jobs, views, stream.ref()), Error);
}

INSTANTIATE_TEST_SUITE_P(All, BatchesOfSums,
                         ::testing::Values(Spec{"q4"},
                                           Spec{"quantize(bits=3,bucket=384,norm=minmax,round=stochastic)"}),
                         test_name);

/// The loops over elements of several tensors.
class ElementBatches : public DeviceTest {};

TEST_F(ElementBatches, CopyBitForBit) {
  const device::Stream stream;
  std::vector<std::byte> bytes(200'000);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * i >> 3);  // NaNs among them
  for (const DType dtype : kDTypes) {
    const OnDevice from(bytes.data(), bytes.size(), stream.ref());
    const OnDevice to(bytes.size());
    std::vector<std::byte> expected(bytes.size(), std::byte{0x5a});
    device::copy(to.data(), expected.data(), expected.size(), stream.ref());
    std::vector<ops::CopyJob> jobs;
    std::size_t at = 0;
    for (std::size_t i = 0; i < 2 * std::size(kCounts); ++i) {
      const std::size_t count = kCounts[i % std::size(kCounts)] / 4;
      const std::size_t source = i % 3 == 0 ? at : at + 3 * size_of(dtype);  // aligned alike, and not
      const Tensor target{to.data() + at, count, dtype, Space::device};
      const bool is_zero = i % 5 == 4;
      jobs.push_back({is_zero ? nullptr : from.data() + source, target});
      if (is_zero) {
        std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(at), target.bytes(), std::byte{0});
      } else {
        std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(source), target.bytes(),
                    expected.begin() + static_cast<std::ptrdiff_t>(at));
      }
      at += target.bytes() + i % 4 * size_of(dtype);
    }
    const auto job_of = [&](std::size_t i) { return jobs[i]; };
    ops::copy_all(JobList<ops::CopyJob>(jobs.size(), job_of), stream.ref());
    ASSERT_TRUE(to.read(stream.ref()) == expected) << name(dtype);
  }
}

/// A flag for each tensor.
TEST_F(ElementBatches, FindWhereNaNIs) {
  constexpr std::size_t kTensors = 300;
  constexpr std::size_t kCount = 1030;
  const device::Stream stream;
  std::vector<float> values = normal_gradients(kTensors * kCount, 3);
  std::vector<std::uint32_t> expected(kTensors);
  for (const std::size_t bad : {0u, 7u, 150u, 299u}) {
    values[bad * kCount + (bad % 2 == 0 ? kCount - 1 : 0)] = bad == 7 ? HUGE_VALF : std::nanf("");
    expected[bad] = 1;
  }
  const OnDevice x(values.data(), values.size() * sizeof(float), stream.ref());
  const OnDevice flags(kTensors * sizeof(std::uint32_t));
  device::zero(flags.data(), kTensors * sizeof(std::uint32_t), stream.ref());
  const auto job_of = [&](std::size_t i) {
    return ops::FindNonFinite{x.tensor(values.size()).slice(i * kCount, kCount),
                              reinterpret_cast<std::uint32_t*>(flags.data()) + i};
  };
  ops::find_non_finite(JobList<ops::FindNonFinite>(kTensors, job_of), stream.ref());
  std::vector<std::uint32_t> found(kTensors);
  device::copy(found.data(), flags.data(), kTensors * sizeof(std::uint32_t), stream.ref());
  device::wait(stream.ref());
  EXPECT_EQ(found, expected);
}

}  // namespace
}  // namespace gradwire::testing
