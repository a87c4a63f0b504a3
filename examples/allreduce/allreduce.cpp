/// Four ranks, here threads of one process, sum a vector in 4 bits an element and check what gradwire promises:
/// sum over ranks of input == result + sum over ranks of residual.
#include <cmath>
#include <cstdio>
#include <exception>
#include <future>
#include <vector>

#include "gradwire/gradwire.hpp"

using Vector = std::vector<float>;

int main() try {
  constexpr std::size_t kRanks = 4;
  constexpr std::size_t kCount = 1'000'003;
  std::vector<Vector> input(kRanks, Vector(kCount));
  for (std::size_t r = 0; r < kRanks; ++r) {
    for (std::size_t i = 0; i < kCount; ++i) input[r][i] = std::sin(static_cast<float>((r + 2) * i));
  }

  std::vector<Vector> result = input;  // summed in place
  std::vector<Vector> residual(kRanks, Vector(kCount));
  const std::vector<gradwire::Communicator> comms = gradwire::make_local(kRanks);
  const auto sum_in_place = [&](std::size_t r) {
    const gradwire::Item item{.tensor = {result[r].data(), kCount},
                              .residual = {residual[r].data(), kCount},
                              .compressor = gradwire::make_compressor("q4")};
    gradwire::allreduce_sum(comms[r], {&item, 1}, gradwire::Slot{0}, gradwire::StreamRef::host()).wait();
  };
  std::vector<std::future<void>> ranks;
  for (std::size_t r = 0; r < kRanks; ++r) ranks.push_back(std::async(std::launch::async, sum_in_place, r));
  for (std::future<void>& rank : ranks) rank.get();

  double largest_error = 0;
  double largest_breach = 0;  // of the law; not quite 0, for floats are rounded when they are added
  for (std::size_t i = 0; i < kCount; ++i) {
    double sum = 0;
    double owed = 0;
    for (std::size_t r = 0; r < kRanks; ++r) sum += input[r][i], owed += residual[r][i];
    largest_error = std::fmax(largest_error, std::fabs(sum - result[0][i]));
    largest_breach = std::fmax(largest_breach, std::fabs(sum - result[0][i] - owed));
  }
  const bool is_equal = result[1] == result[0] && result[2] == result[0] && result[3] == result[0];
  const bool is_lawful = largest_breach < 1e-5;
  std::printf("%zu ranks summed %zu floats in 4 bits each; largest error %.3f\n", kRanks, kCount, largest_error);
  std::printf("same result on every rank: %s\n", is_equal ? "yes" : "NO");
  std::printf("inputs == result + residuals: %s (largest difference %.1e)\n", is_lawful ? "yes" : "NO", largest_breach);
  return is_equal && is_lawful ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "allreduce: %s\n", error.what());
  return 1;
}
