// A run that goes on in new processes. Three jobs over one folder:
//   straight FOLDER   trains 20 steps and keeps weights and state
//   first FOLDER      trains 10 steps and saves
//   second FOLDER     loads, trains 10 more, and compares with what `straight` kept, bit for bit
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "gradwire/error.hpp"
#include "gradwire/hook.hpp"
#include "gradwire/mpi.hpp"

namespace {

using namespace gradwire;
namespace fs = std::filesystem;

constexpr const char* kSchemes[] = {"q4(round=stochastic)+ef",
                                    "q4+ef(storage=bf16)",
                                    "topk(0.05)+ef21",
                                    "topk(0.05)+dgc(0.9,warmup=3)",
                                    "topk(0.1)+ef21_sgdm(0.3)",
                                    "q4+econtrol(0.05)",
                                    "sign+onebit_adam(4)",   // saved after its dense steps
                                    "sign+onebit_adam(14)",  // and before the last of them
                                    "natural+diana(0.3)",
                                    "powersgd(rank=2)+ef",
                                    "powersgd(rank=2,rounds=1)+ef",
                                    "projection(rank=2,refresh=7)+ef"};
constexpr unsigned kHalf = 10;
constexpr unsigned kAll = 20;

Deadline patience() { return std::chrono::steady_clock::now() + std::chrono::seconds(60); }

/// Pulls two matrices and a vector towards targets that differ between ranks.
class Training {
 public:
  Training(const Communicator& comm, const char* scheme) {
    const std::vector<std::vector<std::size_t>> shapes{{64, 40}, {33}, {50, 70}};
    std::minstd_rand engine(static_cast<unsigned>(comm.rank()) + 1);
    std::normal_distribution<float> normal;
    std::vector<ParamInfo> params;
    for (std::uint32_t p = 0; p < shapes.size(); ++p) {
      params.push_back({ParamId{p}, "w" + std::to_string(p), shapes[p], DType::f32, {}, {}});
      std::size_t count = 1;
      for (const std::size_t extent : shapes[p]) count *= extent;
      weights_.emplace_back(count);
      gradients_.emplace_back(count);
      targets_.emplace_back(count);
      for (float& target : targets_.back()) target = normal(engine);
    }
    HookOptions options;
    options.compressor = scheme;
    options.bucket_bytes = 12'000;
    options.seed = 7;
    hook_ = std::make_unique<GradientHook>(comm, params, options);
  }

  void train(unsigned steps) {
    for (; steps > 0; --steps) {
      for (std::size_t p = weights_.size(); p-- > 0;) {
        for (std::size_t i = 0; i < weights_[p].size(); ++i) gradients_[p][i] = weights_[p][i] - targets_[p][i];
        hook_->ready(ParamId{static_cast<std::uint32_t>(p)}, {gradients_[p].data(), gradients_[p].size()});
      }
      hook_->finish_step().wait(patience());
      for (std::size_t p = 0; p < weights_.size(); ++p) {
        for (std::size_t i = 0; i < weights_[p].size(); ++i) weights_[p][i] -= 0.1F * gradients_[p][i];
      }
    }
  }
  void save(const fs::path& folder, int rank) const {
    hook_->save(folder.string());
    std::ofstream out(weights_file(folder, rank), std::ios::binary);
    for (const auto& weights : weights_) out.write(reinterpret_cast<const char*>(weights.data()), bytes_of(weights));
  }
  void load(const fs::path& folder, int rank) {
    hook_->load(folder.string());
    std::ifstream in(weights_file(folder, rank), std::ios::binary);
    for (auto& weights : weights_) in.read(reinterpret_cast<char*>(weights.data()), bytes_of(weights));
    if (!in) throw Error(Errc::io, "no weights");
  }
  static fs::path weights_file(const fs::path& folder, int rank) {
    return folder / ("weights-" + std::to_string(rank));
  }

 private:
  static std::streamsize bytes_of(const std::vector<float>& values) {
    return static_cast<std::streamsize>(values.size() * sizeof(float));
  }
  std::vector<std::vector<float>> weights_;
  std::vector<std::vector<float>> gradients_;
  std::vector<std::vector<float>> targets_;
  std::unique_ptr<GradientHook> hook_;
};

std::string read_bytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

int run(const Communicator& comm, std::string_view what, const fs::path& folder) {
  const int rank = comm.rank();
  const std::string state = "rank-" + std::to_string(rank) + "-of-" + std::to_string(comm.size()) + ".gradwire";
  int different = 0;
  for (std::size_t i = 0; i < std::size(kSchemes); ++i) {
    const fs::path straight = folder / ("straight-" + std::to_string(i));
    const fs::path half = folder / ("half-" + std::to_string(i));
    const fs::path resumed = folder / ("resumed-" + std::to_string(i));
    Training training(comm, kSchemes[i]);
    if (what == "second") {
      training.load(half, rank);
      training.train(kAll - kHalf);
      training.save(resumed, rank);
      for (const fs::path& file : {fs::path(state), Training::weights_file({}, rank)}) {
        const std::string expected = read_bytes(straight / file);
        if (!expected.empty() && read_bytes(resumed / file) == expected) continue;
        std::fprintf(stderr, "FAILED: %s: %s is not what the straight run has\n", kSchemes[i], file.c_str());
        ++different;
      }
    } else {
      training.train(what == "straight" ? kAll : kHalf);
      training.save(what == "straight" ? straight : half, rank);
    }
  }
  return different == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc == 3 ? argv[1] : "";
  if (what != "straight" && what != "first" && what != "second") {
    std::fprintf(stderr, "usage: resume_process straight|first|second FOLDER\n");
    return 2;
  }
  const Communicator comm = make_mpi();
  try {
    return run(comm, what, argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "FAILED on rank %d: %s\n", comm.rank(), error.what());
    comm.transport().abort(error.what());
    return 1;
  }
}
