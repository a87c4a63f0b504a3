// Statistics of tensors in device memory: the host's, up to the order of their sums.
#include <limits>

#include "compress/device/statistics_tile.hpp"
#include "compress/quantize.hpp"
#include "compress/vector_ops.hpp"
#include "device/device_support.hpp"
#include "unit/magnitude_bins.hpp"

namespace gradwire::testing {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
/// Of a sum, of which both sides have other roundings.
constexpr double kOrder = 1e-12;

struct Case {
  std::string name;
  std::vector<float> x;
};
/// Sizes around what threads, warps and blocks have; values of all sizes.
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::size_t count : {1u, 3u, 511u, 4096u, 4097u, 100'003u})
    all.push_back({fmt::format("{} mixed", count), mixed_gradients(count, 1)});
  all.push_back({"zeros", std::vector<float>(5000)});
  std::vector<float> huge = normal_gradients(5001, 2);
  for (float& value : huge) value *= 1e18f;
  all.push_back({"huge", huge});
  std::vector<float> small = normal_gradients(5001, 3);
  for (float& value : small) value *= 1e-18f;
  all.push_back({"small", small});
  return all;
}

class DeviceStatistics : public DeviceTest {
 protected:
  template <class T>
  [[nodiscard]] std::vector<T> read(const OnDevice& there) const {
    const std::vector<std::byte> bytes = there.read(stream().ref());
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  [[nodiscard]] device::Norms norms_of(ConstTensor x, float scale, std::size_t shift) const {
    const OnDevice there(x, stream().ref(), shift);
    const OnDevice out(sizeof(device::Norms));
    device::find_norms(there.tensor(x.count, x.dtype), scale, reinterpret_cast<device::Norms*>(out.data()),
                       stream().ref());
    return read<device::Norms>(out).front();
  }
  [[nodiscard]] std::vector<double> losses_of(const std::vector<float>& x, const QuantizeParams& params,
                                              const std::vector<std::uint32_t>& bits, std::size_t shift = 0) const {
    const OnDevice there(ConstTensor(x.data(), x.size()), stream().ref(), shift);
    const OnDevice out(bits.size() * sizeof(double));
    device::QuantizeLosses job{params,
                               there.tensor(x.size()),
                               {},
                               static_cast<std::uint32_t>(bits.size()),
                               reinterpret_cast<double*>(out.data())};
    std::copy(bits.begin(), bits.end(), job.bits);
    device::find_quantize_losses(job, stream().ref());
    return read<double>(out);
  }
  [[nodiscard]] std::vector<double> losses_of(const std::vector<float>& x, const std::vector<std::size_t>& kept,
                                              std::size_t shift = 0) const {
    const OnDevice there(ConstTensor(x.data(), x.size()), stream().ref(), shift);
    const OnDevice out(kept.size() * sizeof(double));
    device::SelectionLosses job{
        there.tensor(x.size()), {}, static_cast<std::uint32_t>(kept.size()), reinterpret_cast<double*>(out.data())};
    std::copy(kept.begin(), kept.end(), job.kept);
    device::find_selection_losses(job, stream().ref());
    return read<double>(out);
  }
  [[nodiscard]] const device::Stream& stream() const {
    if (!stream_) stream_.emplace();
    return *stream_;
  }

 private:
  mutable std::optional<device::Stream> stream_;
};

TEST_F(DeviceStatistics, NormsAreTheHosts) {
  for (const auto& [name, x] : cases())
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
      for (const std::size_t shift : {0u, 4u, 8u}) {
        if (dtype == DType::f16 && name == "huge") continue;  // beyond its range
        SCOPED_TRACE(fmt::format("{} as {}, {} bytes off", name, gradwire::name(dtype), shift));
        const Values values(x, dtype);
        std::vector<float> scaled(x.size());
        ops::scale_add(values.tensor(), 0.25f, nullptr, scaled.data());
        const double expected = ops::sum_squares(scaled.data(), scaled.size());
        const device::Norms found = norms_of(values.tensor(), 0.25f, shift);
        EXPECT_NEAR(found.squares, expected, kOrder * expected);
        std::uint32_t most = 0;
        for (const float value : scaled) most = std::max(most, std::bit_cast<std::uint32_t>(value) & 0x7fff'ffffu);
        EXPECT_EQ(found.most_bits, most);
        EXPECT_TRUE(device::is_finite(found));
      }
}

TEST_F(DeviceStatistics, NormsSeeNaNAndInfAnywhere) {
  for (const float bad : {kNaN, kInf, -kInf})
    for (const std::size_t place : {0u, 255u, 4096u, 30'000u}) {
      Values x(normal_gradients(30'001, 1), DType::f32);
      x.set(place, bad);
      EXPECT_FALSE(device::is_finite(norms_of(std::as_const(x).tensor(), 1, 4))) << bad << ' ' << place;
    }
  EXPECT_EQ(norms_of({nullptr, 0, DType::f32}, 1, 0).squares, 0);
}

TEST_F(DeviceStatistics, QuantisersLoseWhatTheyLoseOnHosts) {
  for (const auto& [name, x] : cases())
    for (const Norm norm : {Norm::linf, Norm::l2, Norm::minmax})
      for (const std::uint32_t bucket : {32u, 96u, 512u, 8192u}) {
        if (norm == Norm::l2 && name == "huge") continue;  // hosts refuse it
        SCOPED_TRACE(fmt::format("{}, norm {}, bucket {}", name, static_cast<int>(norm), bucket));
        const QuantizeParams params{4, bucket, norm};
        const std::vector<std::uint32_t> bits{2, 8, 3, 4, 5, 6, 7};
        const std::vector<double> expected = quantize_errors(ConstTensor(x.data(), x.size()), params, bits);
        const std::vector<double> found = losses_of(x, params, bits, x.size() % 2 * 4);
        for (std::size_t w = 0; w < bits.size(); ++w)
          EXPECT_NEAR(found[w], expected[w], kOrder * expected[w]) << bits[w] << " bits";
      }
}

/// More tiles and groups than the block that adds them up has threads.
TEST_F(DeviceStatistics, OfLargeTensors) {
  const std::vector<float> x = mixed_gradients(1'100'003, 7);
  const ConstTensor tensor(x.data(), x.size());
  const double squares = ops::sum_squares(x.data(), x.size());
  EXPECT_NEAR(norms_of(tensor, 1, 0).squares, squares, kOrder * squares);
  const QuantizeParams params{4, 512};
  const std::vector<std::uint32_t> bits{2, 4};
  const std::vector<double> expected = quantize_errors(tensor, params, bits);
  const std::vector<double> found = losses_of(x, params, bits);
  for (std::size_t w = 0; w < bits.size(); ++w) EXPECT_NEAR(found[w], expected[w], kOrder * expected[w]);
}

/// What encoding refuses has no finite sum, at any number of bits.
TEST_F(DeviceStatistics, QuantisersLoseEverythingWhereABucketHasNoScale) {
  for (const float bad : {kNaN, kInf, 3e38f})
    for (const std::size_t place : {0u, 600u, 9999u}) {
      std::vector<float> x = normal_gradients(10'000, 5);
      x[place] = bad;
      for (const double loss : losses_of(x, {4, 512}, {2, 8})) EXPECT_TRUE(std::isnan(loss)) << bad << ' ' << place;
    }
}

TEST_F(DeviceStatistics, SelectionsLoseWhatTheLargestLeave) {
  for (const auto& [name, x] : cases()) {
    const std::size_t count = x.size();
    const std::vector<std::size_t> kept{1, (count + 99) / 100, (count + 9) / 10, count - count / 3, count};
    const std::vector<double> found = losses_of(x, kept, count % 2 * 4);
    std::vector<float> sorted = x;
    std::sort(sorted.begin(), sorted.end(), [](float a, float b) { return std::fabs(a) < std::fabs(b); });
    const std::vector<device::MagnitudeBin> bins = bins_of(x);
    for (std::size_t k = 0; k < kept.size(); ++k) {
      const double by_bins = lost_by_bins(bins, kept[k]);
      EXPECT_NEAR(found[k], by_bins, kOrder * by_bins) << name << ", " << kept[k];
      const double expected = ops::sum_squares(sorted.data(), count - kept[k]);
      EXPECT_NEAR(found[k], expected, (0x1p-7 + 0x1p-15 + 1e-8) * expected) << name << ", " << kept[k];
    }
    EXPECT_EQ(found.back(), 0) << name;
  }
}

}  // namespace
}  // namespace gradwire::testing
