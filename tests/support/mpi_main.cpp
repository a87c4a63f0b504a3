// main() of tests that run under mpiexec. All ranks run the same tests in the same order, and after each test they
// agree on its verdict, so that a failure on one rank is a failure on all and nobody starts the next test alone.
// Rank 0 prints as usual; the other ranks print only failures, each line with the rank before it.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <mpi.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "support/watchdog.hpp"

namespace {

/// Sums over ranks without spinning, so that ranks that share a core let the slow one finish.
int sum_over_ranks(int value) {
  int sum = 0;
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Iallreduce(&value, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD, &request);
  for (int done = 0; done == 0;) {
    MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    if (done == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return sum;
}

/// Runs after the test's own printer: OnTestPartResult still belongs to the test, OnTestEnd comes after its verdict.
class AgreeOnVerdict final : public ::testing::EmptyTestEventListener {
 public:
  explicit AgreeOnVerdict(int rank) : rank_(rank) {}

 private:
  void OnTestPartResult(const ::testing::TestPartResult& part) override {
    if (rank_ == 0 || !part.failed()) return;
    const char* const file = part.file_name() == nullptr ? "unknown file" : part.file_name();
    print(fmt::format("{}:{}: Failure\n{}", file, part.line_number(), part.message()));
  }

  void OnTestEnd(const ::testing::TestInfo& info) override {
    const bool failed_here = info.result()->Failed();
    const int failures = sum_over_ranks(failed_here ? 1 : 0);
    if (failed_here) print(fmt::format("{}.{} failed here", info.test_suite_name(), info.name()));
    if (failures == 0 || failed_here) return;
    failed_elsewhere_ = true;
    if (rank_ == 0)
      print(fmt::format("{}.{} FAILED on {} other rank(s)", info.test_suite_name(), info.name(), failures));
  }

  void OnTestProgramEnd(const ::testing::UnitTest&) override {
    if (rank_ == 0 && failed_elsewhere_) print("FAILED: not every test that passed here passed on the other ranks");
  }

  void print(const std::string& text) const {
    std::string lines = fmt::format("[rank {}] ", rank_);
    for (const char c : text) {
      lines += c;
      if (c == '\n') lines += fmt::format("[rank {}] ", rank_);
    }
    std::fprintf(stderr, "%s\n", lines.c_str());
  }

  int rank_;
  bool failed_elsewhere_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  int level = MPI_THREAD_SINGLE;
  int rank = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &level);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  ::testing::InitGoogleTest(&argc, argv);
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  if (rank != 0) {
    delete listeners.Release(listeners.default_result_printer());
    delete listeners.Release(listeners.default_xml_generator());
  }
  listeners.Append(new AgreeOnVerdict(rank));
  gradwire::test::install_watchdog(fmt::format("rank {}", rank));

  const int failed = sum_over_ranks(RUN_ALL_TESTS());
  MPI_Finalize();
  return failed == 0 ? 0 : 1;
}
