// Allreduces and training steps allocate nothing in steady state.
#include "ranks/allreduce_suite.hpp"
#include "ranks/hook_suite.hpp"
#include "ranks/steady.hpp"

namespace gradwire::test {
namespace {

class Allocation : public WorldTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, Allocation, ::testing::ValuesIn(worlds()), world_name);

TEST_P(Allocation, NoneInAPersistentAllreduce) {
  run([](Communicator& comm) {
    if (is_checked(comm)) return;
    for (const char* algorithm :
         {"dense", "scatter_reduce", "ring", "gather_sum", "hierarchical", "integer_sum", "lowrank", "rotated"}) {
      const std::string_view name = algorithm;
      const Compressor compressor = make_compressor(name == "dense"         ? "none"
                                                    : name == "integer_sum" ? "thc"
                                                    : name == "lowrank"     ? "powersgd(rank=50)"
                                                    : name == "rotated"     ? "rotate(q4,scale=unbiased)"
                                                                            : "q4");
      std::vector<BucketItem> items;
      items.push_back({ParamId{0}, 20'000, DType::f32, compressor, "a", {200, 100}});
      items.push_back({ParamId{1}, 3'000, DType::f16, compressor, "b", {50, 60}});
      PersistentAllreduce operation(
          comm, items, Slot{1}, {.algorithm = name == "rotated" ? "scatter_reduce" : algorithm, .segment_bytes = 8192});
      const Buffer workspace(operation.workspace_bytes());
      std::vector<TestParam> params;
      params.emplace_back("", 20'000);
      params.emplace_back("", 3'000, DType::f16);
      const std::array<ItemBuffers, 2> buffers{
          {{params[0].view(), params[0].residual_view()}, {params[1].view(), params[1].residual_view()}}};
      std::uint64_t step = 0;
      const auto round = [&] {
        for (TestParam& param : params) param.fill([](std::size_t i) { return static_cast<float>(i % 100); });
        operation.start(buffers, workspace.bytes(), ++step, StreamRef::host()).wait(patience());
      };
      expect_steady(round, algorithm);
    }
  });
}

TEST_P(Allocation, NoneInATrainingStep) {
  run([](Communicator& comm) {
    if (is_checked(comm)) return;
    ToyModel model(comm);
    HookOptions options = toy_options();
    options.library_thread = false;  // so that all work is this thread's, and counted
    GradientHook hook(comm, model.params, options);
    const auto step = [&] {
      for (std::size_t p = model.params.size(); p-- > 0;) hook.ready(model.id(p), model.gradient(p));
      hook.finish_step().wait(patience());
    };
    expect_steady(step, "training step");
  });
}

}  // namespace
}  // namespace gradwire::test
