/// Trains a network on Fashion-MNIST with compressed gradients: what a training program that uses gradwire looks like.
#include <malloc.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <future>

#include "devices.hpp"
#include "fail.hpp"
#include "options.hpp"
#include "ranks.hpp"
#include "summary.hpp"
#include "trainer.hpp"

namespace {

using demo::Options;
using demo::Summary;

/// Keeps freed tensors for the next step; giving them back to the kernel costs page faults, a tenth of a step here.
void keep_freed_memory() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

void publish(const Summary& summary, const Options& options) {
  if (!options.json.empty()) demo::write_json(summary, options.json);
  if (options.is_quiet) return;
  demo::print_table({&summary, 1});
  demo::print_plan(summary);
}

int compare(const std::vector<std::string>& paths) {
  std::vector<Summary> summaries;
  for (const std::string& path : paths) summaries.push_back(demo::read_json(path));
  demo::print_table(summaries);
  return 0;
}

int train(const Options& options) {
  keep_freed_memory();
  // read once a process, by whichever rank comes first, and there an error ends all ranks
  const std::shared_future<demo::Dataset> dataset = std::async(std::launch::deferred, demo::load_dataset, options.data);
  return demo::run_ranks(options.ranks, [&](const gradwire::Communicator& comm) {
    const bool is_first = comm.rank() == 0;
    if (is_first && !options.json.empty()) {
      demo::require(std::ofstream(options.json, std::ios::app).is_open(), "cannot write {}", options.json);
    }
    const Summary summary = demo::train(demo::take_devices(comm, options), dataset.get(), options);
    if (is_first) publish(summary, options);
  });
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::optional<Options> options = demo::parse_options(argc, argv);
    if (!options) return 0;
    return options->compare.empty() ? train(*options) : compare(options->compare);
  } catch (const std::exception& error) {
    fmt::print(stderr, "train_fashion_mnist: {}\n", error.what());
    return 1;
  }
}
