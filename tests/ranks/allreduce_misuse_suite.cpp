// Wrong calls, ranks that disagree, ranks that are late: an error that names the thing, on every rank.
#include "ranks/allreduce_suite.hpp"

namespace gradwire::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

class AllreduceMisuse : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, AllreduceMisuse, ::testing::ValuesIn(worlds()), world_name);

std::vector<BucketItem> one_item(const std::string& spec, std::size_t count = 100) {
  std::vector<BucketItem> items;
  items.push_back({ParamId{0}, count, DType::f32, make_compressor(spec), "w"});
  return items;
}

TEST_P(AllreduceMisuse, BadOptionsAreRefused) {
  run([](Communicator& comm) {
    const auto build = [&](const std::string& spec, const std::string& algorithm, Slot slot = Slot{0}) {
      return outcome_of([&] { PersistentAllreduce(comm, one_item(spec), slot, {.algorithm = algorithm}); });
    };
    const Outcome unknown = build("q4", "butterfly");
    EXPECT_EQ(unknown.code, Errc::invalid_argument);
    EXPECT_THAT(unknown.message, HasSubstr("unknown algorithm 'butterfly'"));
    const Outcome illegal = build("q4", "dense");
    EXPECT_EQ(illegal.code, Errc::unsupported);
    EXPECT_THAT(illegal.message, HasSubstr("quantize(bits=4"));
    const Outcome uncountable = build("q4", "integer_sum");
    EXPECT_EQ(uncountable.code, Errc::unsupported);
    EXPECT_THAT(uncountable.message, HasSubstr("cannot be added before they are decoded"));
    EXPECT_EQ(build("q4", "auto", Slot{kMaxSlot + 1}).code, Errc::invalid_argument);
    std::vector<BucketItem> twins = one_item("q4");
    twins.push_back(twins.front());
    twins.back().name = "";
    const Outcome twice = outcome_of([&] { PersistentAllreduce(comm, twins, Slot{0}); });
    EXPECT_EQ(twice.code, Errc::invalid_argument);
    EXPECT_THAT(twice.message, HasSubstr("number 0 (parameter 'w') and number 1 (parameter 0) have the same id 0"));
  });
}

TEST_P(AllreduceMisuse, BadBuffersAreRefused) {
  run([](Communicator& comm) {
    PersistentAllreduce operation(comm, one_item("q4"), Slot{0});
    const Buffer workspace(operation.workspace_bytes());
    std::vector<float> values(100);
    std::vector<float> residual(100);
    const auto start = [&](const ItemBuffers& buffers, Bytes memory) {
      return outcome_of([&] { (void)operation.start({&buffers, 1}, memory, 0, StreamRef::host()); });
    };
    const Tensor good{values.data(), 100};
    EXPECT_THAT(start({{values.data(), 99}, {}}, workspace.bytes()).message, HasSubstr("'w': registered as f32[100]"));
    EXPECT_THAT(start({{values.data(), 100, DType::f16}, {}}, workspace.bytes()).message, HasSubstr("f16[100]"));
    EXPECT_THAT(start({{nullptr, 100}, {}}, workspace.bytes()).message, HasSubstr("no memory"));
    EXPECT_THAT(start({good, {residual.data(), 50}}, workspace.bytes()).message, HasSubstr("residual"));
    EXPECT_THAT(start({good, good}, workspace.bytes()).message, HasSubstr("residual shares memory with its tensor"));
    const Tensor device{values.data(), 100, DType::f32, Space::device};
    const Outcome elsewhere = start({device, {}}, workspace.bytes());
    if (comm.transport().reaches(Space::device)) {
      EXPECT_EQ(elsewhere.code, Errc::invalid_argument);
      EXPECT_THAT(elsewhere.message, HasSubstr("device memory, the operation was made for host memory"));
    } else {
      EXPECT_EQ(elsewhere.code, Errc::unsupported);
    }
    if (operation.workspace_bytes() > 0) {
      EXPECT_THAT(start({good, {}}, workspace.bytes().slice(0, 1)).message, HasSubstr("bytes of workspace, given 1"));
      const Buffer larger(operation.workspace_bytes() + 16);
      const Outcome odd = start({good, {}}, larger.bytes().slice(8, operation.workspace_bytes()));
      EXPECT_EQ(odd.code, Errc::invalid_argument);
      EXPECT_THAT(odd.message, HasSubstr("workspace aligned to 16 bytes"));
    }
    comm.barrier(patience());
  });
}

/// Runs one operation that cannot succeed and returns how it ends here; afterwards the communicator is spent.
Outcome run_differing(Communicator& comm, const std::vector<BucketItem>& items, std::chrono::milliseconds timeout,
                      const std::string& algorithm = "scatter_reduce") {
  AllreduceOptions options{.algorithm = algorithm, .timeout = timeout};
  PersistentAllreduce operation(comm, items, Slot{0}, options);
  Buffer workspace(operation.workspace_bytes());
  std::vector<float> values(items[0].count);
  const ItemBuffers buffers{{values.data(), values.size()}, {}};
  const Outcome outcome = outcome_of([&] {
    wait(operation.start({&buffers, 1}, workspace.bytes(), 0, StreamRef::host()));
  });
  if (outcome.code != Errc::ok) workspace.abandon();
  return outcome;
}

struct Difference {
  std::string usual;
  std::string odd;  // what the last rank has
};

/// Every rank hears who differs in what, nobody waits for the deadline, and the communicator stays usable.
void expect_mismatch(Communicator& comm, const std::vector<BucketItem>& items, const std::string& algorithm,
                     const Difference& difference) {
  const Outcome outcome = run_differing(comm, items, std::chrono::seconds(50), algorithm);
  EXPECT_EQ(outcome.code, Errc::rank_mismatch) << outcome.message;
  EXPECT_THAT(outcome.message, HasSubstr("parameter 'w': rank 0 has 'id 0 " + difference.usual));
  EXPECT_THAT(outcome.message, HasSubstr(fmt::format("rank {} has 'id 0 {}", comm.size() - 1, difference.odd)));
  EXPECT_EQ(run_differing(comm, one_item("none"), std::chrono::seconds(50), algorithm).code, Errc::ok);
}

TEST_P(AllreduceMisuse, DifferentCompressorsAreAMismatch) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const bool odd = comm.rank() == comm.size() - 1;
    expect_mismatch(comm, one_item(odd ? "q8" : "q4", 5000), "scatter_reduce",
                    {"f32[5000] quantize(bits=4", "f32[5000] quantize(bits=8"});
  });
}

TEST_P(AllreduceMisuse, DifferentCountsAreAMismatch) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    const bool odd = comm.rank() == comm.size() - 1;
    expect_mismatch(comm, one_item("q4", odd ? 8000 : 5000), "gather_sum", {"f32[5000] ", "f32[8000] "});
    // The backend's own all-reduce carries nothing that could tell.
    expect_mismatch(comm, one_item("none", odd ? 1001 : 1000), "dense", {"f32[1000] none", "f32[1001] none"});
  });
}

TEST_P(AllreduceMisuse, CheckedNamesTheDifference) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    Communicator checked = make_checked(comm);
    const Outcome outcome =
        run_differing(checked, one_item(comm.rank() == comm.size() - 1 ? "q8" : "q4", 5000), std::chrono::seconds(50));
    EXPECT_EQ(outcome.code, Errc::rank_mismatch);
    EXPECT_THAT(outcome.message, HasSubstr("parameter 'w'"));
    EXPECT_THAT(outcome.message, HasSubstr("quantize(bits=4"));
    EXPECT_THAT(outcome.message, HasSubstr(fmt::format("rank {} has", comm.size() - 1)));
    EXPECT_THAT(outcome.message, HasSubstr("quantize(bits=8"));
  });
}

/// Codes that are summed, and random places, are drawn by step: ranks at different ones would agree on a wrong result.
void expect_step_mismatch(const Communicator& comm, const std::string& spec, bool first) {
  PersistentAllreduce operation(comm, one_item(spec, 5000), Slot{0},
                                {.algorithm = "integer_sum", .timeout = std::chrono::seconds(50)});
  Buffer workspace(operation.workspace_bytes());
  std::vector<float> values(5000, 1.0F);
  const ItemBuffers buffers{{values.data(), values.size()}, {}};
  const auto start = [&](std::uint64_t step) {
    return outcome_of([&] { wait(operation.start({&buffers, 1}, workspace.bytes(), step, StreamRef::host())); });
  };
  if (!first) {
    ASSERT_EQ(start(6).code, Errc::ok);
  }
  const Outcome outcome = start(comm.rank() == 0 ? 7 : 8);
  if (!operation.in_step()) workspace.abandon();
  // Messages of ranks that have seen nothing wrong yet may be cut off by those that have.
  EXPECT_THAT(outcome.code, AnyOf(Errc::rank_mismatch, Errc::aborted)) << outcome.message;
  EXPECT_THAT(outcome.message, HasSubstr("step"));
  EXPECT_THAT(outcome.message, HasSubstr("7"));
  EXPECT_THAT(outcome.message, HasSubstr("8"));
  EXPECT_TRUE(outcome.code == Errc::rank_mismatch || !first);
}

TEST_P(AllreduceMisuse, DifferentStepsAreAMismatchAtTheFirstStart) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    expect_step_mismatch(comm, "thc(block=256)", true);
    expect_step_mismatch(make_checked(comm), "randomk(0.1)", true);
  });
}

TEST_P(AllreduceMisuse, DifferentStepsAreAMismatchLater) {
  run([](Communicator& comm) {
    if (comm.size() > 1) expect_step_mismatch(comm, "thc(block=256)", false);
  });
}

TEST_P(AllreduceMisuse, DifferentStepsOfValuesAreAMismatchLater) {
  run([](Communicator& comm) {
    if (comm.size() > 1) expect_step_mismatch(comm, "randomk(0.1)", false);
  });
}

TEST_P(AllreduceMisuse, CheckedComparesStepsBeforeAnythingIsSent) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    Communicator checked = make_checked(comm);
    expect_step_mismatch(checked, "thc(block=256)", false);
    EXPECT_EQ(run_differing(checked, one_item("none"), std::chrono::seconds(50)).code, Errc::ok);
  });
}

/// Takes no part, and hears of it where it waits for something else.
void stay_silent(Communicator& comm) {
  std::byte never{};
  const Recv recv{{&never, 1}, 1};
  const Outcome outcome = outcome_of([&] {
    wait(comm.transport().exchange({}, {&recv, 1}, Slot{9}, StreamRef::host()));
  });
  EXPECT_EQ(outcome.code, Errc::aborted) << outcome.message;
}

TEST_P(AllreduceMisuse, ASilentRankIsATimeoutForTheFirstStart) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    if (comm.rank() == 0) return stay_silent(comm);
    const Outcome outcome = run_differing(comm, one_item("q4", 5000), std::chrono::milliseconds(200));
    EXPECT_THAT(outcome.code, AnyOf(Errc::timeout, Errc::aborted)) << outcome.message;
    if (outcome.code == Errc::timeout) {
      EXPECT_THAT(outcome.message, HasSubstr("in the first start of scatter_reduce of 1 items in slot 0"));
    }
    EXPECT_THAT(outcome.message, HasSubstr("exchange in slot 0"));
  });
}

TEST_P(AllreduceMisuse, ASilentRankIsATimeoutForALaterRun) {
  run([](Communicator& comm) {
    if (comm.size() == 1) return;
    PersistentAllreduce operation(comm, one_item("q4", 5000), Slot{0},
                                  {.algorithm = "scatter_reduce", .timeout = std::chrono::seconds(1)});
    Buffer workspace(operation.workspace_bytes());
    std::vector<float> values(5000);
    const ItemBuffers buffers{{values.data(), values.size()}, {}};
    wait(operation.start({&buffers, 1}, workspace.bytes(), 0, StreamRef::host()));
    if (comm.rank() == 0) return stay_silent(comm);
    const Outcome outcome = outcome_of([&] {
      wait(operation.start({&buffers, 1}, workspace.bytes(), 1, StreamRef::host()));
    });
    workspace.abandon();
    EXPECT_THAT(outcome.code, AnyOf(Errc::timeout, Errc::aborted)) << outcome.message;
    // `checked` already waits for rank 0 when it compares the operations.
    EXPECT_THAT(outcome.message,
                AnyOf(HasSubstr("scatter_reduce of 1 items in slot 0"), HasSubstr("exchange in slot")));
  });
}

}  // namespace
}  // namespace gradwire::test
