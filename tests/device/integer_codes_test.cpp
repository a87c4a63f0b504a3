// Codes that add up, on a device: ranges, codes, residuals and sums are the host's, bit for bit.
#include <cstring>

#include "compress/vector_ops.hpp"
#include "device/device_support.hpp"
#include "support/test_name.hpp"

namespace gradwire::testing {
namespace {

constexpr std::size_t kCounts[] = {1, 17, 33, 512, 8191, 17'001};

struct Coded {
  std::string spec;
  int ranks;          ///< whose sums their type has room for
  std::size_t block;  ///< elements that are coded together; 0: drawn ones, each on its own
};

void PrintTo(const Coded& coded, std::ostream* out) { *out << coded.spec; }  // NOLINT: its name is GoogleTest's

class IntegerCodes : public DeviceTest, public ::testing::WithParamInterface<Coded> {
 protected:
  /// Which of `count` elements decode to NaN where one is not finite: its block, or all that are drawn.
  [[nodiscard]] std::vector<bool> spoiled_by(std::size_t bad, std::size_t count) const {
    std::vector<bool> spoiled;
    if (const std::size_t block = GetParam().block; block > 0) {
      for (std::size_t i = 0; i < count; ++i) spoiled.push_back(i / block == bad / block);
      return spoiled;
    }
    std::vector<float> ones(coder_.codes(count), 1.0F);
    std::vector<float> drawn(count);
    coder_.decode(ConstTensor(ones.data(), ones.size()), 1, nullptr, {drawn.data(), count}, keys_.shared,
                  StreamRef::host());
    for (const float value : drawn) spoiled.push_back(value != 0);
    return spoiled;
  }

  const Compressor compressor_ = make_compressor(GetParam().spec);
  const IntegerCoder& coder_ = *compressor_.integer_coder();
  const CodingKeys keys_{{7, 11, ParamId{13}, 64}, {8, 11, ParamId{13}, (std::uint64_t{1} << 33) - 70}};
};

/// Memory of ranges, of which there may be none.
OnDevice floats_there(const std::vector<float>& values, StreamRef stream) {
  OnDevice there((values.size() + 1) * sizeof(float));
  if (!values.empty()) device::copy(there.data(), values.data(), values.size() * sizeof(float), stream);
  return there;
}
float* floats(const OnDevice& there) { return reinterpret_cast<float*>(there.data()); }

TEST_P(IntegerCodes, AreTheHosts) {
  ASSERT_TRUE(coder_.on_device());
  const device::Stream own;
  const StreamRef stream = own.ref();
  const DType sum = coder_.sum_dtype(GetParam().ranks);
  for (const DType dtype : kDTypes) {
    for (const std::size_t count : kCounts) {
      SCOPED_TRACE(fmt::format("{} of {}", count, name(dtype)));
      const Values x(mixed_gradients(count, static_cast<unsigned>(count + 3)), dtype);
      const OnDevice input(x.tensor(), stream, count % 3 * size_of(dtype));
      std::vector<float> ranges(coder_.ranges(count));
      coder_.find_ranges(x.tensor(), ranges.data(), StreamRef::host());
      const OnDevice found = floats_there(std::vector<float>(ranges.size(), -1.0F), stream);
      coder_.find_ranges(input.tensor(count, dtype), floats(found), stream);
      const std::vector<std::byte> bytes = found.read(stream);
      ASSERT_EQ(std::vector(bytes.begin(), bytes.end() - sizeof(float)), bytes_of({ranges.data(), ranges.size()}));

      for (float& range : ranges) range *= 1.25F;  // another rank's is larger
      const OnDevice common = floats_there(ranges, stream);
      const std::size_t codes = coder_.codes(count);
      Buffer on_host(codes * size_of(sum));
      Values owed(count, DType::f32);
      coder_.encode(x.tensor(), ranges.data(), {on_host.data(), codes, sum}, owed.tensor(), keys_, StreamRef::host());
      const OnDevice there(on_host.size(), count % 2 * size_of(sum));
      const OnDevice residual(count * sizeof(float), count % 2 * sizeof(float));
      coder_.encode(input.tensor(count, dtype), floats(common), there.tensor(codes, sum), residual.tensor(count), keys_,
                    stream);
      ASSERT_EQ(there.read(stream), bytes_of({on_host.data(), codes, sum}));
      ASSERT_EQ(residual.read(stream), bytes_of(std::as_const(owed).tensor()));
      for (const DType result : kDTypes) {
        Values y(count, result);
        coder_.decode({on_host.data(), codes, sum}, GetParam().ranks, ranges.data(), y.tensor(), keys_.shared,
                      StreamRef::host());
        const OnDevice output(count * size_of(result), count % 3 * size_of(result));
        coder_.decode(there.tensor(codes, sum), GetParam().ranks, floats(common), output.tensor(count, result),
                      keys_.shared, stream);
        ASSERT_EQ(output.read(stream), bytes_of(std::as_const(y).tensor())) << name(result);
      }
    }
  }
}

/// What hosts refuse decodes to NaN, on the rank itself and, through the ranges or the sum, on all; other blocks do
/// not.
TEST_P(IntegerCodes, KeepNaN) {
  constexpr std::size_t kCount = 5000;
  const device::Stream own;
  const StreamRef stream = own.ref();
  const DType sum = coder_.sum_dtype(GetParam().ranks);
  for (const float bad : {std::nanf(""), -std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    for (const std::size_t where : {std::size_t{0}, std::size_t{2061}, kCount - 1}) {
      std::vector<float> values = normal_gradients(kCount, 5);
      values[where] = bad;
      const OnDevice x(values.data(), kCount * sizeof(float), stream);
      const OnDevice ranges = floats_there(std::vector<float>(coder_.ranges(kCount)), stream);
      const OnDevice codes(coder_.codes(kCount) * size_of(sum));
      const OnDevice residual(kCount * sizeof(float));
      const OnDevice y(kCount * sizeof(float));
      const Tensor coded = codes.tensor(coder_.codes(kCount), sum);
      coder_.find_ranges(x.tensor(kCount), floats(ranges), stream);
      coder_.encode(x.tensor(kCount), floats(ranges), coded, residual.tensor(kCount), keys_, stream);
      coder_.decode(coded, 1, floats(ranges), y.tensor(kCount), keys_.shared, stream);
      const std::vector<std::byte> bytes = y.read(stream);
      const std::vector<bool> spoiled = spoiled_by(where, kCount);
      for (std::size_t i = 0; i < kCount; ++i)
        ASSERT_EQ(std::isnan(load_f32(bytes.data(), DType::f32, i)), spoiled[i]) << i << ": " << bad << " at " << where;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, IntegerCodes,
                         ::testing::Values(Coded{"thc", 1, 4096}, Coded{"thc(1,block=32)", 255, 32},
                                           Coded{"thc(8,block=512)", 2, 512},
                                           Coded{"thc(8,block=8192,p=0.001)", 300, 8192},
                                           Coded{"thc(3,block=128)", 7, 128}, Coded{"randomk(0.1)", 3, 0},
                                           Coded{"randomk(k=97)", 3, 0}, Coded{"randomk(1)", 3, 0},
                                           Coded{"randomk(k=700,scale=unbiased)", 3, 0}),
                         [](const auto& test) { return as_test_name(test.param.spec); });

class CommonRanges : public DeviceTest {};

TEST_F(CommonRanges, AreTheLargestOfAllRanksAndNaNIsTheLargest) {
  const device::Stream own;
  constexpr std::size_t kPitch = 1000;
  for (const std::size_t rows : {1u, 2u, 3u, 7u}) {
    for (const std::size_t count : {1u, 257u, 997u}) {
      std::vector<float> all(rows * kPitch);
      for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<float>((i * 7919) % 101);
      all[(rows - 1) * kPitch] = std::nanf("");
      const OnDevice there = floats_there(all, own.ref());
      for (const std::size_t place : {std::size_t{0}, rows - 1}) {  // the result in one of the rows
        const std::size_t at = place * kPitch;
        std::vector<float> host = all;
        ops::largest_of_rows(host.data(), rows, kPitch, {host.data() + at, count}, StreamRef::host());
        for (std::size_t i = 1; i < count; ++i) {
          float largest = 0;
          for (std::size_t row = 0; row < rows; ++row) largest = std::max(largest, all[row * kPitch + i]);
          ASSERT_EQ(host[at + i], largest);
        }
        EXPECT_TRUE(std::isnan(host[at]));
        device::copy(there.data(), all.data(), all.size() * sizeof(float), own.ref());
        ops::largest_of_rows(floats(there), rows, kPitch, {floats(there) + at, count, DType::f32, Space::device},
                             own.ref());
        const std::vector<std::byte> bytes = there.read(own.ref());
        ASSERT_EQ(std::memcmp(bytes.data(), host.data(), host.size() * sizeof(float)), 0);
      }
    }
  }
}

}  // namespace
}  // namespace gradwire::testing
