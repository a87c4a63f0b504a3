// How fast compressors move bytes in device memory, beside a copy on the same device in the same run, and how long a
// small tensor takes.
#include <boost/program_options.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iostream>
#include <random>
#include <vector>

#include "base/cuda.hpp"
#include "base/device.hpp"

#include "gradwire/buffer.hpp"
#include "gradwire/compressor.hpp"
#include "gradwire/error.hpp"

namespace gradwire {
namespace {
namespace po = boost::program_options;

constexpr RandomKey kKey{1, 2, ParamId{3}, 0};

/// Times runs by events of the device.
class Stopwatch {
 public:
  Stopwatch(StreamRef stream, int repeat) : stream_(cuda::native(stream)), repeat_(repeat) {
    cuda::check(cudaEventCreate(&begin_), "cudaEventCreate");
    cuda::check(cudaEventCreate(&end_), "cudaEventCreate");
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    (void)cudaEventDestroy(begin_);
    (void)cudaEventDestroy(end_);
  }

  /// The median, after one run that does not count.
  [[nodiscard]] double median_us(const std::function<void()>& launch) const {
    std::vector<double> us;
    for (int run = 0; run <= repeat_; ++run) {
      cuda::check(cudaEventRecord(begin_, stream_), "cudaEventRecord");
      launch();
      cuda::check(cudaEventRecord(end_, stream_), "cudaEventRecord");
      cuda::check(cudaEventSynchronize(end_), "cudaEventSynchronize");
      float ms = 0;
      cuda::check(cudaEventElapsedTime(&ms, begin_, end_), "cudaEventElapsedTime");
      if (run > 0) us.push_back(1000.0 * static_cast<double>(ms));
    }
    std::nth_element(us.begin(), us.begin() + repeat_ / 2, us.end());
    return us[static_cast<std::size_t>(repeat_ / 2)];
  }

 private:
  cudaStream_t stream_;
  int repeat_;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

struct Row {
  std::string what;
  std::size_t bytes;  ///< read and written, each once
  double us;
};

/// Memory of one size, with normal numbers in it.
class Bench {
 public:
  Bench(std::size_t count, int repeat)
      : count_(count),
        x_(count * sizeof(float), Space::device),
        y_(count * sizeof(float), Space::device),
        residual_(count * sizeof(float), Space::device),
        watch_(stream_.ref(), repeat) {
    std::vector<float> values(count);
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    for (float& value : values) value = normal(engine);
    device::copy(x_.data(), values.data(), bytes(), stream_.ref());
    device::wait(stream_.ref());
  }

  [[nodiscard]] Row copy() const {
    return {"copy", 2 * bytes(), watch_.median_us([&] { device::copy(y_.data(), x_.data(), bytes(), stream_.ref()); })};
  }

  [[nodiscard]] std::vector<Row> measure(const Compressor& compressor) const {
    const std::size_t size = compressor.max_frame_size(count_, DType::f32);
    const Buffer frame(size, Space::device);
    const auto encode = [&](const Tensor& residual) {
      (void)compressor.encode(x_.tensor(count_), frame.bytes(), residual, kKey, stream_.ref());
    };
    const auto decode = [&](Write write) {
      (void)compressor.decode(frame.bytes(), y_.tensor(count_), write, stream_.ref());
    };
    std::vector<Row> rows;
    rows.push_back({"encode", bytes() + size, watch_.median_us([&] { encode({}); })});
    rows.push_back(
        {"encode, residual", 2 * bytes() + size, watch_.median_us([&] { encode(residual_.tensor(count_)); })});
    rows.push_back({"decode", bytes() + size, watch_.median_us([&] { decode(Write::assign); })});
    rows.push_back({"decode, add", 2 * bytes() + size, watch_.median_us([&] { decode(Write::add); })});
    const SumEncoder* const encoder = compressor.sum_encoder();
    if (encoder == nullptr || encoder->max_frames(count_) < 3) return rows;
    const std::vector<ConstBytes> messages(3, frame.bytes());
    const Buffer out(size, Space::device);
    const SumJob sum{{x_.tensor(count_), out.bytes(), residual_.tensor(count_), kKey}};
    rows.push_back({"add 3, encode, residual", 2 * bytes() + 4 * size, watch_.median_us([&] {
                      encoder->encode_sums({&sum, 1}, messages, stream_.ref());
                    })});
    return rows;
  }

  /// Encoding, with residuals, of so many tensors that x is cut into: one after another, and as a batch, if there is
  /// one.
  [[nodiscard]] std::vector<Row> measure_bucket(const Compressor& compressor, std::size_t tensors) const {
    const std::size_t each = count_ / tensors;
    const std::size_t size = compressor.max_frame_size(each, DType::f32);
    const Buffer frames(tensors * size, Space::device);
    std::vector<EncodeJob> jobs;
    for (std::size_t i = 0; i < tensors; ++i) {
      jobs.push_back({x_.tensor(count_).slice(i * each, each), frames.bytes().slice(i * size, size),
                      residual_.tensor(count_).slice(i * each, each), kKey});
    }
    const std::size_t moved = tensors * (2 * each * sizeof(float) + size);
    std::vector<Row> rows;
    rows.push_back({"one by one", moved, watch_.median_us([&] {
                      for (const auto& [x, out, residual, key] : jobs)
                        (void)compressor.encode(x, out, residual, key, stream_.ref());
                    })});
    if (const BatchCodec* const codec = compressor.batch_codec())
      rows.push_back({"as a batch", moved, watch_.median_us([&] { codec->encode_batch(jobs, stream_.ref()); })});
    return rows;
  }

 private:
  [[nodiscard]] std::size_t bytes() const noexcept { return count_ * sizeof(float); }

  std::size_t count_;
  device::Stream stream_;
  Buffer x_;
  Buffer y_;
  Buffer residual_;
  Stopwatch watch_;
};

void print(const std::string& spec, const Row& row, double copy_rate) {
  const double rate = static_cast<double>(row.bytes) / row.us / 1000;
  fmt::print("{:<34} {:<24} {:>9.1f} {:>8.0f} {:>6.0f}%\n", spec, row.what, row.us, rate, 100 * rate / copy_rate);
}

int run(int argc, char** argv) {
  std::size_t mib = 64;
  int repeat = 21;
  std::vector<std::string> specs{"none",
                                 "bf16",
                                 "q2",
                                 "q3",
                                 "q4",
                                 "q8",
                                 "sign",
                                 "ternary",
                                 "natural",
                                 "f8",
                                 "mx4",
                                 "nvfp4",
                                 "rotate(q4)",
                                 "topk(0.01,select=sampled)",
                                 "topk(0.01)",
                                 "block_topk(0.01)",
                                 "randomk(0.01)",
                                 "quantize(bits=4,round=stochastic)"};
  po::options_description flags("Options");
  auto add = flags.add_options();
  add("help,h", "this text");
  add("mib", po::value(&mib)->default_value(mib), "MiB of f32");
  add("repeat", po::value(&repeat)->default_value(repeat), "runs that the median is of");
  add("spec", po::value(&specs)->multitoken(), "compressors; default: one of each family");
  po::variables_map given;
  po::store(po::parse_command_line(argc, argv, flags), given);
  if (given.count("help") > 0) {
    std::cout << "Compressors against a copy in device memory: bytes read and written a second, counting x, frame,\n"
                 "residual and y once each; then a tensor of 64 KiB, and a bucket of 100 small ones.\n"
              << flags;
    return 0;
  }
  po::notify(given);
  if (mib < 1 || mib > 4096) throw po::error("--mib accepts 1..4096");
  if (repeat < 1) throw po::error("--repeat accepts 1 and more");
  std::vector<Compressor> compressors;
  for (const std::string& spec : specs) compressors.push_back(make_compressor(spec));
  if (const std::string why = device::problem(); !why.empty())
    throw std::runtime_error("no CUDA device to run on: " + why);
  fmt::print("{}, {} MiB of f32, median of {}\n", device::describe(), mib, repeat);
  fmt::print("{:<34} {:<24} {:>9} {:>8} {:>7}\n", "compressor", "what", "us", "GB/s", "of copy");
  const Bench large(mib << 18, repeat);
  const Row copy = large.copy();
  const double copy_rate = static_cast<double>(copy.bytes) / copy.us / 1000;
  print("", copy, copy_rate);
  for (const Compressor& each : compressors)
    for (const Row& row : large.measure(each)) print(std::string(each.spec()), row, copy_rate);
  fmt::print("\n64 KiB of f32\n");
  const Bench small(std::size_t{16} << 10, repeat);
  for (const Compressor& each : compressors)
    fmt::print("{:<34} {:<24} {:>9.1f}\n", each.spec(), "encode", small.measure(each).front().us);
  fmt::print("\nA bucket of 100 tensors of 4 KiB, encode, residual\n");
  const Bench bucket(std::size_t{100} << 10, repeat);
  for (const Compressor& each : compressors)
    for (const Row& row : bucket.measure_bucket(each, 100))
      fmt::print("{:<34} {:<24} {:>9.1f}\n", each.spec(), row.what, row.us);
  return 0;
}

}  // namespace
}  // namespace gradwire

int main(int argc, char** argv) {
  try {
    return gradwire::run(argc, argv);
  } catch (const boost::program_options::error& error) {
    fmt::print(stderr, "device_bench: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "device_bench: {}\n", error.what());
    return 1;
  }
}
