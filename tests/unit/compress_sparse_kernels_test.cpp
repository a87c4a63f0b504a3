// Every instruction set scans, counts and measures blocks as the reference does.
#include <fmt/format.h>

#include "compress/sparse/kernels.hpp"
#include "unit/compress_support.hpp"

#include "gradwire/buffer.hpp"

namespace gradwire::testing {
namespace {

constexpr std::size_t kCounts[] = {0, 1, 2, 15, 16, 17, 31, 33, 63, 64, 97, 511, 1000, 4099};

struct Input {
  DType dtype;
  std::size_t count;
  Values x{std::vector<float>(), DType::f32};

  Input(DType dtype_, std::size_t count_)
      : dtype(dtype_),
        count(count_),
        x(mixed_gradients(count_, static_cast<unsigned>(count_)), dtype_, count_ % size_of(dtype_)) {}
  [[nodiscard]] std::string describe(std::string_view isa) const {
    return fmt::format("{} {} elements of {}", isa, count, name(dtype));
  }
};

template <class Test>
void for_all_inputs(Test test) {
  for (const DType dtype : kDTypes)
    for (const std::size_t count : kCounts) test(Input(dtype, count));
}

struct Found {
  std::vector<std::uint32_t> index;
  std::vector<float> value;
  std::uint32_t most;
  std::vector<std::byte> copy;
  bool operator==(const Found&) const = default;
};

Found scan(const SparseKernels& kernels, const Input& input, std::uint32_t threshold, bool copied) {
  Found found{std::vector<std::uint32_t>(input.count + 16), std::vector<float>(input.count + 16), 0, {}};
  Values copy(input.count, DType::f32, 3);
  auto* const residual = static_cast<float*>(copy.tensor().data);
  const sparse::Scanned scanned = kernels.scan(
      {input.x.tensor(), 70000, threshold, found.index.data(), found.value.data(), copied ? residual : nullptr});
  found.index.resize(scanned.found);
  found.value.resize(scanned.found);
  found.most = scanned.most;
  found.copy = copy.bytes();
  return found;
}

TEST(SparseKernels, ScanAsTheReference) {
  for_all_inputs([](const Input& input) {
    for (const float threshold : {0.0f, 0x1p-149f, 0.375f, 0.5f, 1.5f, 1000.0f, 1e30f})
      for (const bool copied : {false, true}) {
        const std::uint32_t bits = std::bit_cast<std::uint32_t>(threshold);
        const Found expected = scan(isa::scalar_kernels<SparseKernels>(), input, bits, copied);
        ASSERT_TRUE(threshold != 0 || expected.index.size() == input.count);
        for (const std::string_view isa : isa::list())
          ASSERT_EQ(scan(isa::kernels_of<SparseKernels>(isa), input, bits, copied), expected)
              << input.describe(isa) << " threshold " << threshold;
      }
  });
}

TEST(SparseKernels, ScanSeesNonFiniteElements) {
  for (const float bad : {std::nanf(""), -std::nanf(""), HUGE_VALF, -HUGE_VALF})
    for (const DType dtype : kDTypes)
      for (const std::size_t where : {0u, 15u, 16u, 99u, 100u}) {
        Input input(dtype, 101);
        input.x.set(where, bad);
        for (const std::string_view isa : isa::list()) {
          const auto& kernels = isa::kernels_of<SparseKernels>(isa);
          EXPECT_GE(scan(kernels, input, sparse::kMagnitudeMask, false).most, sparse::kInfinity) << isa << " " << where;
          std::vector<std::uint32_t> norms(4);
          EXPECT_GE(kernels.block_norms({input.x.tensor(), 32, false, norms.data(), nullptr, false}),
                    sparse::kInfinity);
        }
      }
}

TEST(SparseKernels, CountAsTheReference) {
  struct Digit {
    unsigned shift, width;
    std::uint32_t prefix;
  };
  const std::uint32_t some = std::bit_cast<std::uint32_t>(0.375f);
  for_all_inputs([&](const Input& input) {
    for (const auto& [shift, width, prefix] :
         {Digit{20, 11, 0}, Digit{10, 10, 0}, Digit{10, 10, some >> 20}, Digit{0, 10, 0}, Digit{0, 10, some >> 10}}) {
      std::vector<std::uint32_t> expected(std::size_t{1} << width, 5);
      isa::scalar_kernels<SparseKernels>().histogram({input.x.tensor(), shift, width, prefix, expected.data()});
      for (const std::string_view isa : isa::list()) {
        std::vector<std::uint32_t> counts(expected.size(), 5);
        isa::kernels_of<SparseKernels>(isa).histogram({input.x.tensor(), shift, width, prefix, counts.data()});
        ASSERT_EQ(counts, expected) << input.describe(isa) << " shift " << shift;
      }
    }
  });
}

TEST(SparseKernels, MeasureBlocksAsTheReference) {
  for_all_inputs([](const Input& input) {
    for (const std::size_t block : {32u, 96u, 256u})
      for (const bool largest : {false, true})
        for (const bool copied : {false, true}) {
          const auto measure = [&](const SparseKernels& kernels) {
            std::vector<std::uint32_t> norms((input.count + block - 1) / block + 1, 7);
            Values copy(input.count, DType::f32, 1);
            auto* const residual = static_cast<float*>(copy.tensor().data);
            norms.push_back(kernels.block_norms(
                {input.x.tensor(), block, largest, norms.data(), copied ? residual : nullptr, false}));
            return std::pair(norms, copy.bytes());
          };
          const auto expected = measure(isa::scalar_kernels<SparseKernels>());
          for (const std::string_view isa : isa::list())
            ASSERT_EQ(measure(isa::kernels_of<SparseKernels>(isa)), expected) << input.describe(isa) << " " << block;
        }
  });
}

/// At addresses that streaming stores take, and at others.
TEST(SparseKernels, StreamedCopiesAreTheSame) {
  for_all_inputs([](const Input& input) {
    for (const std::size_t shift : {0u, 1u})
      for (const std::size_t block : {32u, 96u}) {
        const auto measure = [&](const SparseKernels& kernels, bool streamed) {
          const Buffer memory(sizeof(float) * (input.count + 33));
          std::memset(memory.data(), 0xA5, memory.size());
          auto* const residual = static_cast<float*>(memory.tensor(0).data) + shift;
          std::vector<std::uint32_t> norms((input.count + block - 1) / block);
          norms.push_back(kernels.block_norms({input.x.tensor(), block, false, norms.data(), residual, streamed}));
          return std::pair(norms, std::vector<std::byte>(memory.data(), memory.data() + memory.size()));
        };
        const auto expected = measure(isa::scalar_kernels<SparseKernels>(), false);
        for (const std::string_view isa : isa::list())
          ASSERT_EQ(measure(isa::kernels_of<SparseKernels>(isa), true), expected)
              << input.describe(isa) << " " << shift;
      }
  });
}

}  // namespace
}  // namespace gradwire::testing
