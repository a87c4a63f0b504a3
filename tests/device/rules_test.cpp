// What feedback rules do with elements, on a device as on the host.
#include <limits>
#include <utility>

#include "device/device_support.hpp"
#include "train/rules/each.hpp"

namespace gradwire::testing {
namespace {

using namespace rules;

constexpr std::size_t kCounts[] = {0, 1, 255, 257, 3000, 70'001};

class DeviceRules : public DeviceTest {
 protected:
  /// Of `inputs` tensors, which share zeros and equal elements, into one of them; tensors lie as odd as they may.
  template <class... In>
  static void compare(const auto& on_host, const auto& on_device, const In&... seeds) {
    const device::Stream stream;
    for (const std::size_t count : kCounts) {
      SCOPED_TRACE(count);
      std::vector<std::vector<float>> host = {mixed_gradients(count + 1, seeds)...};
      for (auto& values : host)
        for (std::size_t i = 0; i < count; i += 7) values[i] = host[0][i];
      std::vector<OnDevice> there;
      for (const auto& values : host)
        there.emplace_back(values.data(), values.size() * sizeof(float), stream.ref(), sizeof(float));
      std::vector<Tensor> x;
      std::vector<Tensor> y;
      for (std::size_t k = 0; k < host.size(); ++k) {
        x.emplace_back(host[k].data(), count);
        y.push_back(there[k].tensor(count));
      }
      const auto run = [&]<std::size_t... Place>(std::index_sequence<Place...>) {
        each(x[sizeof...(In) - 1], on_host, StreamRef::host(), x[Place]...);
        each(y[sizeof...(In) - 1], on_device, stream.ref(), y[Place]...);
      };
      run(std::make_index_sequence<sizeof...(In)>());
      for (std::size_t k = 0; k < host.size(); ++k)  // and nothing behind the last element
        ASSERT_EQ(there[k].read(stream.ref()), bytes_of(ConstTensor(host[k].data(), count + 1))) << k;
    }
  }
  static void compare_two(const auto& formula) { compare(formula, formula, 1U, 2U); }
};

TEST_F(DeviceRules, FormulasGiveTheHostsBits) {
  compare_two(Sum{});
  compare_two(Difference{});
  compare_two(ScaledSum{0.3F});
  compare_two(SumScaled{0.9F});
  compare_two(Blend{0.9F, 0.1F});
  compare_two(SecondMoment{0.999F});
  compare_two(AdamDirection{1e-8F});
  compare_two(WhereUsed{});
  compare(MomentumShare{0.45F, 0.1F}, MomentumShare{0.45F, 0.1F}, 1U, 2U, 3U);
}

TEST_F(DeviceRules, MaskingAsksWhetherAnythingIsLeft) {
  const device::Stream stream;
  for (const std::uint32_t any : {0U, 1U}) {
    const OnDevice there(&any, sizeof any, stream.ref());
    device::wait(stream.ref());  // compare() has a stream of its own
    compare(Undelivered{&any}, Undelivered{reinterpret_cast<const std::uint32_t*>(there.data())}, 1U, 2U, 3U);
  }
}

TEST_F(DeviceRules, OneElementThatIsNotZeroIsFound) {
  const device::Stream stream;
  constexpr std::size_t kCount = 70'001;
  const std::vector<float> zeros(kCount);
  const OnDevice x(zeros.data(), kCount * sizeof(float), stream.ref());
  const auto found = [&](std::size_t count) {
    const std::uint32_t none = 0;
    const OnDevice flag(&none, sizeof none, stream.ref());
    find_nonzero(x.tensor(count), reinterpret_cast<std::uint32_t*>(flag.data()), stream.ref());
    return flag.read(stream.ref()) != bytes_of(ConstTensor(&none, 1));
  };
  EXPECT_FALSE(found(kCount));
  const float least = -std::numeric_limits<float>::denorm_min();
  for (const std::size_t place : {std::size_t{0}, std::size_t{1}, std::size_t{255}, std::size_t{4097}, kCount - 1}) {
    device::copy(x.data() + place * sizeof(float), &least, sizeof least, stream.ref());
    EXPECT_TRUE(found(place + 1)) << place;
    EXPECT_FALSE(found(place)) << place;
    device::zero(x.data() + place * sizeof(float), sizeof(float), stream.ref());
  }
  device::wait(stream.ref());
}

}  // namespace
}  // namespace gradwire::testing
