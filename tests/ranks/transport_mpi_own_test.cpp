// What only the mpi transport promises: options, life of communicators, where it was launched.
#include <mpi.h>

#include <cstdlib>
#include <deque>
#include <map>
#include <optional>

#include "ranks/transport_suite.hpp"

#include "gradwire/mpi.hpp"

namespace gradwire::test {
namespace {

using ::testing::HasSubstr;

std::vector<float> all_reduced(const Communicator& comm, std::size_t count) {
  std::vector<float> values(count, static_cast<float>(comm.rank() + 1));
  const Tensor tensor{values.data(), values.size(), DType::f32, Space::host};
  wait(comm.transport().all_reduce_sum(tensor, Slot{0}, StreamRef::host()));
  return values;
}

TEST(MpiTransport, InfoNamesTheLibraryAndTheThreadLevel) {
  const Communicator comm = make_mpi();
  const TransportInfo& info = comm.transport().info();
  EXPECT_THAT(info.name, "mpi");
  EXPECT_TRUE(info.any_thread);
  EXPECT_THAT(info.detail, ::testing::ContainsRegex(
                               ", MPI [345]\\.[0-9], MPI_THREAD_MULTIPLE(, device memory through pinned buffers)?$"));
}

/// The tests run on one machine.
TEST(MpiTransport, FindsTheNodesOfTheRanks) {
  const Communicator comm = make_mpi();
  EXPECT_EQ(comm.transport().info().nodes, std::vector<int>(static_cast<std::size_t>(comm.size()), 0));
}

TEST(MpiTransport, RefusesBadOptions) {
  for (const std::size_t max_count : {std::size_t{0}, std::size_t{1} << 31}) {
    const Outcome outcome = outcome_of([&] { (void)make_mpi({.max_count = max_count}); });
    EXPECT_EQ(outcome.code, Errc::invalid_argument);
    EXPECT_THAT(outcome.message, HasSubstr(fmt::format("max_count={}", max_count)));
  }
  const MPI_Comm none = MPI_COMM_NULL;
  EXPECT_EQ(outcome_of([&] { (void)make_mpi({.comm = &none}); }).code, Errc::invalid_argument);
}

TEST(MpiTransport, RefusesReservedSlotsDeviceMemoryAndDeviceStreams) {
  const Communicator comm = make_mpi();
  Transport& transport = comm.transport();
  int somewhere = 0;
  EXPECT_EQ(outcome_of([&] { (void)transport.exchange({}, {}, kAbortSlot, StreamRef::host()); }).code,
            Errc::invalid_argument);
  const Tensor device{&somewhere, 1, DType::f32, Space::device};
  const Outcome summed = outcome_of([&] { (void)transport.all_reduce_sum(device, Slot{0}, StreamRef::host()); });
  if (transport.reaches(Space::device)) {  // where there is one; its memory needs a stream of it
    EXPECT_EQ(summed.code, Errc::invalid_argument);
    return;
  }
  EXPECT_EQ(summed.code, Errc::unsupported);
  EXPECT_EQ(outcome_of([&] { (void)transport.exchange({}, {}, Slot{0}, StreamRef(&somewhere)); }).code,
            Errc::unsupported);
}

TEST(MpiTransport, RunsOnAPartOfTheJob) {
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Comm half = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, rank % 2, -rank, &half);
  {
    const Communicator comm = make_mpi({.comm = &half});
    MPI_Comm_free(&half);  // gradwire has its own
    const int members = rank % 2 == 0 ? (size + 1) / 2 : size / 2;
    EXPECT_EQ(comm.size(), members);
    EXPECT_EQ(comm.rank(), members - 1 - rank / 2);
    EXPECT_THAT(all_reduced(comm, 1000), ::testing::Each(static_cast<float>(members * (members + 1) / 2)));
  }
}

TEST(MpiTransport, CommunicatorsComeAndGo) {
  std::deque<Communicator> kept;  // each rank lets go of them at another time
  for (int round = 0; round < 40; ++round) {
    kept.push_back(make_mpi());
    const auto sum = static_cast<float>(kept.back().size() * (kept.back().size() + 1) / 2);
    EXPECT_THAT(all_reduced(kept.back(), 7), ::testing::Each(sum));
    if (kept.size() > static_cast<std::size_t>(kept.back().rank() * 3 + 1)) kept.pop_front();
  }
}

TEST(MpiTransport, WorkOutlivesItsCommunicator) {
  std::optional<Communicator> comm = make_mpi();
  if (comm->size() == 1) return;
  std::vector<std::byte> never(1000);
  const Recv recv{view(never), (comm->rank() + 1) % comm->size()};
  const Work work = comm->transport().exchange({}, {&recv, 1}, Slot{9}, StreamRef::host());
  EXPECT_FALSE(work.done());
  EXPECT_THAT(work.describe(),
              HasSubstr(fmt::format("exchange in slot 9: waiting to receive from rank {}", recv.from)));
  comm.reset();
  const Outcome outcome = outcome_of([&] { wait(work); });
  EXPECT_EQ(outcome.code, Errc::aborted);
  EXPECT_THAT(outcome.message, HasSubstr("destroyed"));
}

TEST(MpiTransport, DescribesAnAllReduceThatWaits) {
  const Communicator comm = make_mpi({.max_count = 10});
  if (comm.size() > 1 && comm.rank() == 0) comm.barrier(patience());
  std::vector<float> values(25, 1.0F);
  const Tensor tensor{values.data(), values.size(), DType::f32, Space::host};
  const Work work = comm.transport().all_reduce_sum(tensor, Slot{4}, StreamRef::host());
  if (comm.size() > 1 && comm.rank() != 0) {
    EXPECT_FALSE(work.done());
    EXPECT_EQ(work.describe(), "dense all-reduce in slot 4: 3 of 3 pieces wait for other ranks");
    comm.barrier(patience());
  }
  wait(work);
  EXPECT_EQ(work.describe(), "dense all-reduce in slot 4");
  EXPECT_THAT(values, ::testing::Each(static_cast<float>(comm.size())));
}

/// Sets the variables of one launcher and no other's; puts everything back.
class Launcher {
 public:
  explicit Launcher(const std::map<std::string, std::string>& variables) {
    for (const char* const known : {"OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK", "SLURM_PROCID",
                                    "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"}) {
      const char* const value = std::getenv(known);
      before_[known] = value == nullptr ? std::nullopt : std::optional<std::string>(value);
      unsetenv(known);
    }
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
  }
  ~Launcher() {
    for (const auto& [name, value] : before_) {
      if (value) setenv(name.c_str(), value->c_str(), 1);
      if (!value) unsetenv(name.c_str());
    }
  }

 private:
  std::map<std::string, std::optional<std::string>> before_;
};

bool launched_with(const std::map<std::string, std::string>& variables) {
  const Launcher launcher(variables);
  return launched_by_mpi();
}

TEST(LaunchedByMpi, KnowsTheLaunchers) {
  EXPECT_TRUE(launched_by_mpi()) << "this very process was";
  EXPECT_FALSE(launched_with({}));
  EXPECT_TRUE(launched_with({{"OMPI_COMM_WORLD_SIZE", "4"}}));
  EXPECT_TRUE(launched_with({{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}}));
  EXPECT_TRUE(launched_with({{"PMIX_RANK", "3"}}));
  EXPECT_TRUE(launched_with({{"SLURM_PROCID", "0"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "4"}}));
  EXPECT_FALSE(launched_with({{"SLURM_PROCID", "0"}})) << "the batch script itself";
  EXPECT_FALSE(launched_with({{"SLURM_PROCID", "0"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}}));
}

}  // namespace
}  // namespace gradwire::test
