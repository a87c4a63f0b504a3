// How fast the quantisers' kernels move bytes, beside a copy on the same device in the same run.
#include <boost/program_options.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iostream>
#include <random>
#include <vector>

#include "base/cuda.hpp"
#include "base/device.hpp"
#include "compress/device/codecs.hpp"
#include "compress/device/quantize_tile.hpp"
#include "compress/frame.hpp"

namespace gradwire::device {
namespace {
namespace po = boost::program_options;

/// The median of `repeat` runs, each of which the device times by itself, after one that does not count.
double median_us(StreamRef stream, int repeat, const std::function<void()>& launch) {
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  cuda::check(cudaEventCreate(&begin), "cudaEventCreate");
  cuda::check(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<double> us;
  for (int run = 0; run <= repeat; ++run) {
    cuda::check(cudaEventRecord(begin, cuda::native(stream)), "cudaEventRecord");
    launch();
    cuda::check(cudaEventRecord(end, cuda::native(stream)), "cudaEventRecord");
    cuda::check(cudaEventSynchronize(end), "cudaEventSynchronize");
    float ms = 0;
    cuda::check(cudaEventElapsedTime(&ms, begin, end), "cudaEventElapsedTime");
    if (run > 0) us.push_back(1000.0 * static_cast<double>(ms));
  }
  (void)cudaEventDestroy(begin);
  (void)cudaEventDestroy(end);
  std::nth_element(us.begin(), us.begin() + repeat / 2, us.end());
  return us[static_cast<std::size_t>(repeat / 2)];
}

struct Row {
  std::string name;
  std::size_t bytes;  ///< read and written
  double us;
};

std::vector<Row> measure(const QuantizeParams& params, std::size_t count, int repeat) {
  const device::Stream own;
  const StreamRef stream = own.ref();
  const std::size_t floats = count * sizeof(float);
  const std::size_t payload = QuantizeLayout{params, count}.payload_bytes();
  std::vector<float> values(count);
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  for (float& value : values) value = normal(engine);

  const cuda::Memory x(floats, stream);
  const cuda::Memory y(floats, stream);
  const cuda::Memory first(frame::kHeaderBytes + payload, stream);
  const cuda::Memory second(frame::kHeaderBytes + payload, stream);
  std::byte* const in = first.data() + frame::kHeaderBytes;
  std::byte* const out = second.data() + frame::kHeaderBytes;
  cuda::check(cudaMemcpyAsync(x.data(), values.data(), floats, cudaMemcpyHostToDevice, cuda::native(stream)), "upload");
  auto* const residual = reinterpret_cast<float*>(y.data());
  const ConstTensor input(x.data(), count, DType::f32, Space::device);
  const FrameStart start =
      frame::device_frame({frame::Codec::quantize, params.options()}, count, DType::f32, frame::kHeaderBytes + payload)
          .start;
  const auto encode = [&](float* left) {
    return [&, left] { quantize_encode({params, input, in, left, {1, 2, ParamId{3}, 0}}, start, stream); };
  };
  const auto decode = [&](Write write) {
    return [&, write] {
      quantize_decode({params, in, {y.data(), count, DType::f32, Space::device}, write}, start, stream);
    };
  };
  const auto time = [&](const std::function<void()>& launch) { return median_us(stream, repeat, launch); };
  std::vector<Row> rows;
  rows.push_back({"copy", 2 * floats, time([&] {
                    cuda::check(
                        cudaMemcpyAsync(y.data(), x.data(), floats, cudaMemcpyDeviceToDevice, cuda::native(stream)),
                        "copy");
                  })});
  rows.push_back({"encode", floats + payload, time(encode(nullptr))});
  rows.push_back({"encode, residual", 2 * floats + payload, time(encode(residual))});
  rows.push_back({"decode", floats + payload, time(decode(Write::assign))});
  rows.push_back({"decode, add", 2 * floats + payload, time(decode(Write::add))});
  if (can_quantize_sum(params)) {
    const QuantizeSum job{{params, input, out, residual, {1, 2, ParamId{3}, 0}}, {in, in, in}, 3};
    rows.push_back(
        {"add 3, encode, residual", 2 * floats + 4 * payload, time([&] { quantize_sum(job, start, stream); })});
  }
  return rows;
}

int run(int argc, char** argv) {
  std::size_t mib = 64;
  int repeat = 21;
  std::vector<std::uint32_t> bits{2, 3, 4, 8};
  po::options_description flags("Options");
  auto add = flags.add_options();
  add("help,h", "this text");
  add("mib", po::value(&mib)->default_value(mib), "MiB of f32");
  add("bits", po::value(&bits)->multitoken(), "numbers of bits, default: 2 3 4 8");
  add("repeat", po::value(&repeat)->default_value(repeat), "runs that the median is of");
  po::variables_map given;
  po::store(po::parse_command_line(argc, argv, flags), given);
  if (given.count("help") > 0) {
    std::cout << "The quantisers' kernels against a copy on the device: bytes read and written a second.\n" << flags;
    return 0;
  }
  po::notify(given);
  if (mib < 1 || mib > 4096) throw po::error("--mib accepts 1..4096");
  if (repeat < 1) throw po::error("--repeat accepts 1 and more");
  for (const std::uint32_t width : bits)
    if (width < 1 || width > 8) throw po::error("--bits accepts 1..8");
  const std::string problem = problem();
  if (!problem.empty()) throw std::runtime_error("no CUDA device to run on: " + problem);
  cudaDeviceProp device{};
  cuda::check(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
  fmt::print("{}, {} MiB of f32, buckets of 512, median of {}\n", device.name, mib, repeat);
  fmt::print("{:<5} {:<9} {:<24} {:>9} {:>8} {:>8}\n", "bits", "rounding", "kernel", "us", "GB/s", "of copy");
  for (const std::uint32_t width : bits) {
    for (const Rounding round : {Rounding::nearest, Rounding::stochastic}) {
      const std::vector<Row> rows = measure({width, 512, Norm::linf, round}, mib << 18, repeat);
      const auto rate = [](const Row& row) { return static_cast<double>(row.bytes) / row.us / 1000; };
      for (const Row& row : rows)
        fmt::print("{:<5} {:<9} {:<24} {:>9.1f} {:>8.0f} {:>7.0f}%\n", width,
                   round == Rounding::nearest ? "nearest" : "draws", row.name, row.us, rate(row),
                   100 * rate(row) / rate(rows[0]));
    }
  }
  return 0;
}

}  // namespace
}  // namespace gradwire::device

int main(int argc, char** argv) {
  try {
    return gradwire::device::run(argc, argv);
  } catch (const boost::program_options::error& error) {
    fmt::print(stderr, "device_bench: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "device_bench: {}\n", error.what());
    return 1;
  }
}
