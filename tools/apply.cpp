#include <boost/program_options/value_semantic.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>

#include "arguments.hpp"
#include "base/fail.hpp"
#include "base/half.hpp"
#include "command.hpp"
#include "npy.hpp"

#include "gradwire/allreduce.hpp"
#include "gradwire/compressor.hpp"

namespace gradwire::tools {
namespace {

namespace po = boost::program_options;

struct ApplyOptions {
  std::string compressor, in, out, residual;
  std::uint64_t seed = 0;
};

std::optional<ApplyOptions> parse(const Arguments& arguments) {
  po::options_description description("Options", 110, 70);
  const auto text = [](const char* value_name) { return po::value<std::string>()->value_name(value_name); };
  auto add = description.add_options();
  add("help,h", "this text");
  add("compressor", text("SPEC"), "see gradwire info --compressors");
  add("seed", text("N")->default_value("0"), "of stochastic rounding");
  add("in", text("X.npy"), "the array: little-endian f4 or f2, C order, any shape, all finite");
  add("out", text("Y.npy"), "where the decoded array goes; same shape and dtype");
  add("residual", text("R.npy"), "where in - out goes, as f4");

  const po::variables_map given = parse_arguments(description, arguments);
  if (given.count("help")) {
    std::ostringstream out;
    out << "Usage: gradwire apply --compressor SPEC --in X.npy --out Y.npy [OPTIONS]\n\n"
        << "Encodes the array as one frame, decodes it, and says what that costs and saves. Low rank makes no frames:\n"
        << "then this is the third step of an all-reduce with one rank, and the bytes are those of the f32 factors.\n\n"
        << description;
    fmt::print("{}", out.str());
    return std::nullopt;
  }
  const auto required = [&](const char* flag) {
    if (!given.count(flag)) throw UsageError(fmt::format("--{} is missing", flag));
    return given[flag].as<std::string>();
  };
  ApplyOptions options;
  options.compressor = required("compressor");
  options.in = required("in");
  options.out = required("out");
  options.seed = parse_whole("--seed", given["seed"].as<std::string>(), 0, std::numeric_limits<std::uint64_t>::max());
  if (given.count("residual")) options.residual = given["residual"].as<std::string>();
  if (options.out.empty()) throw UsageError("--out is empty");
  const auto place = [](const std::string& path) { return std::filesystem::weakly_canonical(path); };
  if (!options.residual.empty() && place(options.residual) == place(options.out)) {
    throw UsageError("--out and --residual name the same file");
  }
  return options;
}

std::string describe_index(std::size_t flat, const std::vector<std::size_t>& shape) {
  std::vector<std::size_t> index(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0; flat /= shape[axis]) index[axis] = flat % shape[axis];
  return fmt::format("[{}]", fmt::join(index, ", "));
}

/// `what` names the array in the message.
void require_finite(const NpyArray& array, std::string_view what) {
  for (std::size_t i = 0; i < array.count; ++i) {
    const float value = load_f32(array.data.data(), array.dtype, i);
    if (std::isfinite(value)) continue;
    fail(Errc::non_finite, "{}: element {} (index {}) is {}", what, i, describe_index(i, array.shape), value);
  }
}

/// Turns the array into what its receiver would see; returns the frame's size.
std::size_t encode_and_decode(const Compressor& compressor, const NpyArray& in, const NpyArray& out,
                              std::uint64_t seed) {
  const Buffer frame(compressor.max_frame_size(in.count, in.dtype));
  const std::size_t size = compressor.encode(in.tensor(), frame.bytes(), {}, {.seed = seed});
  compressor.decode(frame.bytes().slice(0, size), out.tensor(), Write::assign);
  return size;
}

/// The same for low rank, which makes no frames: what one rank's all-reduce of the array gives in its third step on it,
/// when the warm start has settled. Returns the bytes of the factors.
std::size_t reduce_alone(const Compressor& compressor, const NpyArray& in, const NpyArray& out, std::uint64_t seed) {
  constexpr std::uint64_t kSteps = 3;
  const MatrixView view = matrix_view(in.shape);
  require(view.is_matrix(), "{} takes matrices, not the shape {}", compressor.spec(), format_shape(in.shape));
  const Communicator alone = make_local(1).front();
  const BucketItem item{ParamId{0}, in.count, in.dtype, compressor, "--in", in.shape};
  PersistentAllreduce allreduce(alone, {item}, Slot{0}, {.algorithm = "lowrank", .seed = seed});
  const Buffer workspace(allreduce.workspace_bytes());
  const LowRank& scheme = *compressor.low_rank();
  for (std::uint64_t step = scheme.start; step < scheme.start + kSteps; ++step) {
    std::memcpy(out.data.data(), in.data.data(), in.tensor().bytes());
    const ItemBuffers buffers{out.tensor(), {}};
    allreduce.start({&buffers, 1}, workspace.bytes(), step, StreamRef::host()).wait();
  }
  return scheme.rank_for(view) * (view.rows + view.cols) * sizeof(float);
}

struct Difference {
  double relative_l2 = 0;
  double largest = 0;
  std::size_t largest_at = 0;
};

/// Writes in - out and measures it. For f32 these are the bits of the compressor's own residual; for f16 they include
/// the rounding of the decoded values, so that in == out + residual holds for the files.
Difference subtract(const NpyArray& in, const NpyArray& out, Tensor residual) {
  Difference difference;
  double squared_error = 0, squared_norm = 0;
  for (std::size_t i = 0; i < in.count; ++i) {
    const float x = load_f32(in.data.data(), in.dtype, i);
    const float error = x - load_f32(out.data.data(), out.dtype, i);
    store_f32(residual.data, DType::f32, i, error);
    squared_error += double{error} * double{error};
    squared_norm += double{x} * double{x};
    if (std::abs(error) > difference.largest) {
      difference.largest = std::abs(error);
      difference.largest_at = i;
    }
  }
  if (squared_error > 0) difference.relative_l2 = std::sqrt(squared_error / squared_norm);
  return difference;
}

void write_files(const ApplyOptions& options, const NpyArray& out, Tensor residual) {
  AtomicFile out_file(options.out);
  std::optional<AtomicFile> residual_file;
  write_npy(out_file, out.shape, out.tensor());
  out_file.close();
  if (!options.residual.empty()) {
    residual_file.emplace(options.residual);
    write_npy(*residual_file, out.shape, residual);
    residual_file->close();
    residual_file->commit();
  }
  out_file.commit();
}

}  // namespace

int run_apply(const Arguments& arguments) {
  const std::optional<ApplyOptions> options = parse(arguments);
  if (!options) return 0;
  const Compressor compressor = make_compressor(options->compressor);
  const NpyArray in = read_npy(options->in);
  require_finite(in, options->in);
  constexpr std::size_t kMaxCount = std::numeric_limits<std::uint32_t>::max();
  require(in.count <= kMaxCount, "{}: {} elements; a frame holds at most {}", options->in, in.count, kMaxCount);

  const std::size_t in_bytes = in.tensor().bytes();
  const NpyArray out{in.shape, in.count, in.dtype, Buffer(in_bytes)};
  const Buffer residual(in.count * sizeof(float));
  const bool low_rank = compressor.low_rank() != nullptr;
  const std::size_t frame_bytes = low_rank ? reduce_alone(compressor, in, out, options->seed)
                                           : encode_and_decode(compressor, in, out, options->seed);
  const Difference difference = subtract(in, out, residual.tensor(in.count));
  write_files(*options, out, residual.tensor(in.count));

  fmt::print("compressor: {}\n", compressor.spec());
  fmt::print("input: {} {} {}, {} elements, {} bytes\n", options->in, name(in.dtype), format_shape(in.shape), in.count,
             in_bytes);
  fmt::print("frame bytes: {}\n", frame_bytes);
  fmt::print("ratio: {:.4f}\n", static_cast<double>(in_bytes) / static_cast<double>(frame_bytes));
  fmt::print("relative error: {:.6g}\n", difference.relative_l2);
  fmt::print("max error: {:.6g}", difference.largest);
  if (difference.largest > 0) fmt::print(" at index {}", describe_index(difference.largest_at, in.shape));
  fmt::print("\n");
  return 0;
}

}  // namespace gradwire::tools
