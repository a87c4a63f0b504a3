// Touches each layer of an installed gradwire once: two ranks as threads sum a quantised gradient.
#include <gradwire/gradwire.hpp>

#include <cmath>
#include <cstdio>
#include <thread>
#include <vector>
#ifdef CONSUMER_MPI
#include <gradwire/mpi.hpp>
#endif

namespace {

constexpr std::size_t kCount = 1000;

// Every rank puts in 1, 2, 3, ...; returns the largest error of the sum, relative to the largest element.
double sum_over_ranks(const gradwire::Communicator& comm) {
  std::vector<float> gradient(kCount);
  for (std::size_t i = 0; i < kCount; ++i) gradient[i] = static_cast<float>(i + 1);
  const gradwire::Item item{{gradient.data(), kCount}, {}, gradwire::make_compressor("q8"), gradwire::ParamId{0}};
  gradwire::allreduce_sum(comm, {&item, 1}, gradwire::Slot{0}, gradwire::StreamRef::host()).wait();
  double worst = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    worst = std::max(worst, std::abs(gradient[i] - static_cast<double>(comm.size()) * static_cast<double>(i + 1)));
  }
  return worst / (static_cast<double>(comm.size()) * static_cast<double>(kCount));
}

bool refuses_unknown_compressor() {
  try {
    static_cast<void>(gradwire::make_compressor("no-such-compressor"));
  } catch (const gradwire::Error& error) {
    return error.code() == gradwire::Errc::invalid_argument;
  }
  return false;
}

}  // namespace

int main() {
  const std::vector<gradwire::Communicator> ranks = gradwire::make_local(2);
  std::vector<double> errors(ranks.size(), 1);
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    threads.emplace_back([&, r] { errors[r] = sum_over_ranks(ranks[r]); });
  }
  for (std::thread& thread : threads) thread.join();
#ifdef CONSUMER_MPI
  errors.push_back(sum_over_ranks(gradwire::make_mpi({.threads = gradwire::MpiThreads::caller})));
#endif
  bool good = refuses_unknown_compressor();
  for (const double error : errors) good = good && error < 0.02;
  std::printf("gradwire %s, %zu sums: %s\n", GRADWIRE_VERSION, errors.size(), good ? "good" : "WRONG");
  return good ? 0 : 1;
}
