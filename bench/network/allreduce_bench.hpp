#pragma once
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace gradwire::bench {

/// One way to sum, in place and over all ranks of the job, `count` floats.
struct Contender {
  std::string label;
  std::function<void(float* values, std::size_t count)> all_reduce;
};

/// What the command line asks for; sizes as in nccl-tests.
struct Options {
  std::size_t min_bytes = 64u << 20;
  std::size_t max_bytes = 64u << 20;
  std::size_t factor = 2;
  int iterations = 20;
  int warmup = 5;
  std::string json;          ///< file for the rows, or empty
  std::string label;         ///< of the run: which algorithm MPI was told to use
  std::string network;       ///< Gloo: interface or address
  std::string store;         ///< Gloo: directory where ranks meet
  bool nonblocking = false;  ///< MPI: MPI_Iallreduce
};

/// Reads the flags all benchmarks share and those of this one ("gloo" or "mpi"). Prints help or the mistake and ends
/// the program where that is what was asked for. Every rank calls it.
[[nodiscard]] Options read_options(const std::string& program, int argc, char** argv);

/// Times every contender at every size, one after the other in each iteration, so that they meet the same weather.
/// Between iterations values are refilled and ranks meet at a barrier; an iteration takes as long as its slowest rank.
/// Rank 0 prints the table and writes the JSON. Returns the program's exit code: 1 after a wrong sum on any rank.
[[nodiscard]] int run(const Options& options, const std::vector<Contender>& contenders);

}  // namespace gradwire::bench
