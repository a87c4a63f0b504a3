// What every feedback rule promises beside its equations: steps are transactions, state may be kept in fewer bits,
// nothing is left but momentum where nothing is lost; and the vectors that state is made of.
#include <fmt/format.h>

#include <fstream>

#include "unit/train_rules_support.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

constexpr std::size_t kCount = 1100;  // two blocks of q8 and a part

std::vector<std::string> all_specs() {
  std::vector<std::string> specs{"dgc(0.9,nesterov=yes)", "dgc(0.9,masking=no)", "dgc(0.9,clip=3)",
                                 "dgc(0.9,storage=q8)", "econtrol(0.1,storage=bf16)"};
  for (const char* storage : {"f32", "f16", "bf16", "q8"}) specs.push_back(std::string("ef(") + storage + ")");
  for (const RuleInfo& info : list_rules()) specs.push_back(info.example);
  return specs;
}

ConstTensor view(const Floats& values) { return {values.data(), values.size()}; }

/// A step that is not committed, wherever it ended, leaves no trace: bit for bit.
TEST(RuleContract, OnlyCommitChangesState) {
  const Compressor compressor = make_compressor("topk(0.1)");
  for (const std::string& spec : all_specs()) {
    std::vector<RankRule> straight = make_ranks(spec, 3, kCount);
    std::vector<RankRule> disturbed = make_ranks(spec, 3, kCount);
    for (std::uint64_t step = 0; step < 6; ++step) {
      const std::vector<Floats> other = random_gradients(3, kCount, 100 + step);
      if (step % 2 == 1) run_step(disturbed, other, &compressor, 100 + step, false);
      if (step == 4) disturbed[1].contribute(view(other[1]), 1, &compressor);  // and one that ends before absorb
      for (std::size_t rank = 0; rank < 3; ++rank) EXPECT_EQ(disturbed[rank].state(), straight[rank].state()) << spec;
      const std::vector<Floats> gradients = random_gradients(3, kCount, step);
      const StepOfAll a = run_step(straight, gradients, &compressor, step);
      const StepOfAll b = run_step(disturbed, gradients, &compressor, step);
      EXPECT_EQ(a.update, b.update) << spec << ", step " << step;
      for (std::size_t rank = 0; rank < 3; ++rank) {
        EXPECT_EQ(a.contributions[rank].x, b.contributions[rank].x) << spec << ", step " << step;
        EXPECT_EQ(disturbed[rank].state(), straight[rank].state()) << spec << ", step " << step;
      }
    }
  }
}

/// The gradient's own memory may become the input.
TEST(RuleContract, CompensateWorksInPlace) {
  for (const std::string& spec : all_specs()) {
    std::vector<RankRule> apart = make_ranks(spec, 1, kCount);
    std::vector<RankRule> in_place = make_ranks(spec, 1, kCount);
    const Compressor compressor = make_compressor("q4");
    for (std::uint64_t step = 0; step < 3; ++step) {
      Floats gradient = random_gradients(1, kCount, step)[0];
      const Contribution made = apart[0].contribute(view(gradient), 0.5F, &compressor);
      const Floats update = apart[0].absorb(made.sent);
      apart[0].rule().commit();

      FeedbackRule& rule = in_place[0].rule();
      const Tensor tensor = RankRule::tensor_of(gradient);
      rule.compensate(tensor, 0.5F, tensor, StreamRef::host());
      EXPECT_EQ(gradient, made.x) << spec;
      std::vector<std::byte> frame(compressor.max_frame_size(kCount, DType::f32));
      const std::size_t size =
          compressor.encode(tensor, {frame.data(), frame.size()}, rule.residual(in_place[0].scratch()), {});
      compressor.decode({frame.data(), size}, tensor, Write::assign);
      rule.absorb(tensor, in_place[0].scratch(), StreamRef::host());
      rule.commit();
      EXPECT_EQ(gradient, update) << spec;
      EXPECT_EQ(in_place[0].state(), apart[0].state()) << spec;
    }
  }
}

/// What storage may lose of one value, given the largest of its block.
double storage_bound(const std::string& storage, double value, double largest) {
  if (storage == "bf16") return std::abs(value) * 0x1p-8;
  if (storage == "f16") return std::abs(value) * 0x1p-11 + 0x1p-25;
  if (storage == "q8") return largest / 254 * 1.001;  // half a level of 127
  return 0;
}

/// The residual that the compressor left is kept to the storage's precision: what is lost beyond that is nothing.
TEST(RuleContract, StorageKeepsTheResidualToItsPrecision) {
  const Compressor compressor = make_compressor("topk(0.05)");
  for (const char* const family : {"ef", "dgc", "econtrol"}) {
    const std::size_t plain_bytes = make_rule(family, {.count = kCount})->bytes();
    for (const std::string storage : {"f32", "f16", "bf16", "q8"}) {
      const std::string spec = std::string(family) + "(storage=" + storage + ")";
      std::vector<RankRule> ranks = make_ranks(spec, 1, kCount);
      FeedbackRule& rule = ranks[0].rule();
      EXPECT_EQ(rule.needs_scratch(), storage != "f32");
      for (std::uint64_t step = 0; step < 10; ++step) {
        const Floats before = ranks[0].state()["residual"];
        const std::vector<Floats> gradients = random_gradients(1, kCount, step);
        const StepOfAll made = run_step(ranks, gradients, &compressor, step);
        const Floats after = ranks[0].state()["residual"];
        for (std::size_t first = 0; first < kCount; first += 512) {
          Doubles exact;
          for (std::size_t i = first; i < std::min(first + 512, kCount); ++i) {
            double r =
                static_cast<double>(made.contributions[0].x[i]) - static_cast<double>(made.contributions[0].sent[i]);
            // EControl keeps e + g - h - c, of which eta e is in x already.
            if (std::string(family) == "econtrol") r += (1 - 0.01) * static_cast<double>(before[i]);
            exact.push_back(r);
          }
          double largest = 0;
          for (const double r : exact) largest = std::max(largest, std::abs(r));
          for (std::size_t i = 0; i < exact.size(); ++i) {
            ASSERT_NEAR(static_cast<double>(after[first + i]), exact[i],
                        storage_bound(storage, exact[i], largest) + 1e-6 * largest)
                << spec << ", step " << step;
          }
        }
      }
      if (storage == "f32") {
        EXPECT_EQ(rule.bytes(), plain_bytes);
      } else {
        const std::size_t saved =
            2 * (kCount * sizeof(float) - make_compressor(storage).max_frame_size(kCount, DType::f32));
        EXPECT_EQ(rule.bytes(), plain_bytes - saved) << spec;
        EXPECT_GT(saved, kCount * sizeof(float) * 9 / 10) << spec;
      }
    }
  }
}

/// A parameter that always travels whole: the rule's momentum acts on the mean, everything else is gone.
TEST(RuleContract, InADenseContextOnlyMomentumIsLeft) {
  struct Expectation {
    std::string spec;
    double momentum = 0;  // u = momentum u + rate g
    double rate = 1;
    bool nesterov = false;
  };
  for (const Expectation& test : std::vector<Expectation>{{"none"},
                                                          {"ef(bf16)"},
                                                          {"ef21"},
                                                          {"econtrol(0.01)"},
                                                          {"diana(0.1)"},
                                                          {"ef21_sgdm(0.1)", 0.9, 0.1},
                                                          {"dgc(0.9)", 0.9},
                                                          {"dgc(0.8,nesterov=yes,storage=bf16)", 0.8, 1, true}}) {
    constexpr std::size_t kRanks = 3;
    std::vector<RankRule> ranks;
    for (std::size_t rank = 0; rank < kRanks; ++rank)
      ranks.emplace_back(test.spec, RuleContext{.count = kCount, .ranks = kRanks, .dense = true});
    EXPECT_EQ(ranks[0].rule().bytes(), test.momentum == 0 ? 0 : 2 * kCount * sizeof(float)) << test.spec;
    EXPECT_EQ(ranks[0].rule().residual({}).data, nullptr) << test.spec;
    for (const NamedState& state : ranks[0].rule().state()) EXPECT_EQ(state.kind, StateKind::replicated) << test.spec;
    Doubles u(kCount);
    for (std::uint64_t step = 0; step < 20; ++step) {
      const std::vector<Floats> gradients = random_gradients(kRanks, kCount, step);
      const StepOfAll made = run_step(ranks, gradients, nullptr, step);
      Doubles expected(kCount);
      for (std::size_t i = 0; i < kCount; ++i) {
        double g = 0;
        for (const Floats& gradient : gradients) g += static_cast<double>(gradient[i]) / kRanks;
        u[i] = test.momentum * u[i] + test.rate * g;
        expected[i] = test.nesterov ? g + test.momentum * u[i] : u[i];
      }
      expect_near(made.update, expected, 1e-5, test.spec);
    }
  }
}

TEST(RuleContract, SixteenBitGradientsAreWidenedExactly) {
  for (const std::string& spec : all_specs()) {
    for (const DType dtype : {DType::f16, DType::bf16}) {
      std::vector<RankRule> narrow = make_ranks(spec, 1, kCount);
      std::vector<RankRule> wide = make_ranks(spec, 1, kCount);
      const Compressor compressor = make_compressor("q4");
      for (std::uint64_t step = 0; step < 3; ++step) {
        const Values given(random_gradients(1, kCount, step)[0], dtype);
        const Floats widened = given.floats();
        const Contribution a = narrow[0].contribute(given.tensor(), 0.25F, &compressor);
        const Contribution b = wide[0].contribute(view(widened), 0.25F, &compressor);
        EXPECT_EQ(a.x, b.x) << spec;
        EXPECT_EQ(narrow[0].absorb(a.sent), wide[0].absorb(b.sent)) << spec;
        narrow[0].rule().commit();
        wide[0].rule().commit();
        EXPECT_EQ(narrow[0].state(), wide[0].state()) << spec;
      }
    }
  }
}

/// A rank's gradient is clipped to threshold / sqrt(ranks), in its own scale: `scale` (1/n for means) does not count.
TEST(RuleContract, DgcClipsTheGradientsNorm) {
  for (const bool dense : {false, true}) {
    for (const float scale : {1.0F, 0.25F, 1e-4F}) {
      const auto norm_of_input = [&](float norm) {
        RankRule rank("dgc(0,clip=2)", {.count = kCount, .ranks = 4, .dense = dense});
        const Floats gradient(kCount, norm / std::sqrt(static_cast<float>(kCount)));
        const Floats x = rank.contribute(view(gradient), scale, nullptr).x;
        double squares = 0;
        for (const float value : x) squares += static_cast<double>(value) * static_cast<double>(value);
        return std::sqrt(squares) / static_cast<double>(scale);
      };
      EXPECT_NEAR(norm_of_input(10), 1, 1e-5) << scale;  // 2 / sqrt(4)
      EXPECT_NEAR(norm_of_input(1.1F), 1, 1e-5) << scale;
      EXPECT_NEAR(norm_of_input(0.9F), 0.9, 1e-5) << "below the threshold";
      EXPECT_EQ(norm_of_input(0), 0);
    }
  }
}

TEST(RuleContract, CountsZeroAndOne) {
  for (const std::string& spec : all_specs()) {
    for (const std::size_t count : {0u, 1u}) {
      for (const bool dense : {false, true}) {
        RankRule rank(spec, {.count = count, .dense = dense});
        const Floats gradient(count, 0.75F);
        for (int step = 0; step < 3; ++step) {
          const Contribution made = rank.contribute(view(gradient), 1, nullptr);
          const Floats update = rank.absorb(made.sent);
          rank.rule().commit();
          ASSERT_EQ(update.size(), count);
          if (count == 1) {
            EXPECT_GT(update[0], 0.07F) << spec;
          }
        }
      }
    }
  }
}

std::string complaint(const std::string& spec, bool dense = false) {
  std::string message;
  EXPECT_EQ(code_of([&] { (void)make_rule(spec, {.count = 10, .dense = dense}); }, &message), Errc::invalid_argument)
      << spec;
  return message;
}

TEST(RuleContract, WrongSpecsAreRefusedByTheirPart) {
  EXPECT_THAT(complaint("momentum"), HasSubstr("unknown feedback rule \"momentum\": expected none, ef, "));
  EXPECT_THAT(complaint("momentum"), HasSubstr("dgc"));
  EXPECT_THAT(complaint(""), HasSubstr("no valid name"));
  EXPECT_THAT(complaint("none(1)"), HasSubstr("\"1\" is no option"));
  EXPECT_THAT(complaint("none(a=1)"), HasSubstr("none takes no options"));
  EXPECT_THAT(complaint("ef21(eta=0.1)"), HasSubstr("ef21 takes no options"));
  EXPECT_THAT(complaint("ef(decay=0.9)"), HasSubstr("unknown option decay; accepted: storage"));
  EXPECT_THAT(complaint("ef(storage=bf16"), HasSubstr("the closing parenthesis is missing"));
  EXPECT_THAT(complaint("ef21_sgdm(1.5)"), HasSubstr("option eta is 1.5; accepted: 0..1"));
  EXPECT_THAT(complaint("econtrol(-0.1)"), HasSubstr("option eta is -0.1; accepted: 0..1"));
  EXPECT_THAT(complaint("econtrol(nan)"), HasSubstr("option eta is nan"));
  EXPECT_THAT(complaint("diana(alpha=2)"), HasSubstr("option alpha is 2"));
  EXPECT_THAT(complaint("dgc(1.1)"), HasSubstr("option momentum is 1.1"));
  EXPECT_THAT(complaint("dgc(0.9,nesterov=maybe)"), HasSubstr("option nesterov is maybe; accepted: no, yes"));
  EXPECT_THAT(complaint("dgc(0.9,clip=-1)"), HasSubstr("option clip is -1"));
  EXPECT_THAT(complaint("dgc(0.9,momentum=0.8)"), HasSubstr("option momentum is given twice"));
  EXPECT_THAT(complaint("dgc(0.9,velocity=1)"), HasSubstr("unknown option velocity; accepted: momentum, nesterov"));
  for (const char* const storage : {"topk(0.1)", "powersgd(2)", "q8|zstd"}) {
    for (const char* const rule : {"ef", "dgc", "econtrol"}) {
      EXPECT_THAT(complaint(std::string(rule) + "(storage=" + storage + ")"),
                  HasSubstr(std::string("storage \"") + storage + "\""));
    }
  }
  EXPECT_THAT(complaint("ef(q9)"), HasSubstr("q9"));
  for (const char* const spec : {"ef(topk(0.1))", "econtrol(0.1,storage=q9)", "dgc(storage=topk(0.1))", "dgc(2)"})
    EXPECT_NE(complaint(spec, true), "") << "also where nothing of it is left";
}

TEST(RuleContract, RowsHaveAnExampleThatWorks) {
  for (const RuleInfo& info : list_rules()) {
    EXPECT_NO_THROW((void)make_rule(info.example, {.count = 3})) << info.name;
    EXPECT_NO_THROW((void)make_rule(info.name, {.count = 3})) << "all options have defaults";
    EXPECT_THAT(info.example, HasSubstr(info.name));
    for (const std::string& text : {info.options, info.summary, info.source}) EXPECT_NE(text, "") << info.name;
  }
}

TEST(StateVector, KeepsPreparesAndScales) {
  const Floats values = normal_gradients(kCount, 3);
  for (const std::string storage : {"f32", "f16", "bf16", "q8"}) {
    StateVector vector(kCount, storage, Space::host);
    std::vector<float> scratch(vector.count());
    const auto read = [&] {
      Floats all(kCount, 7);
      vector.read(all.data());
      return all;
    };
    EXPECT_EQ(read(), Floats(kCount)) << storage;
    vector.prepare({values.data(), kCount});
    EXPECT_EQ(read(), Floats(kCount)) << "only prepared";
    vector.commit();
    const Floats stored = read();
    expect_near(stored, Doubles(values.begin(), values.end()), storage == "f32" ? 0 : 0x1p-7, storage);
    Floats sum = stored;
    vector.read({sum.data(), kCount}, Write::add);
    for (std::size_t i = 0; i < kCount; ++i) ASSERT_EQ(sum[i], 2 * stored[i]) << storage;
    vector.scale(0.5F, {scratch.data(), kCount});
    for (std::size_t i = 0; i < kCount; ++i) sum[i] = 0.5F * stored[i];
    EXPECT_EQ(read(), sum) << "powers of two lose nothing in " << storage;
    vector.scale(0, {scratch.data(), kCount});
    EXPECT_EQ(read(), Floats(kCount)) << storage;
    vector.assign({values.data(), kCount});
    EXPECT_EQ(read(), stored) << storage;
  }
}

/// As docs/state-format.md, section 3, names them.
std::string vectors_of(const std::string& spec, bool dense) {
  const char* const kinds[] = {"residual", "share", "replicated"};
  constexpr std::size_t kValues = 77;
  std::string all;
  const auto rule = make_rule(spec, {.count = kValues, .ranks = 2, .dense = dense});
  for (const NamedState& state : rule->state()) {
    const std::size_t count = state.values->count();
    EXPECT_TRUE(count == kValues || count == 1) << spec << ": " << state.name << " has " << count << " values";
    all += fmt::format("{}`{}` ({}{})", all.empty() ? "" : ", ", state.name, kinds[static_cast<int>(state.kind)],
                       count == 1 ? ", one value" : "");
  }
  return all.empty() ? "nothing" : all;
}

/// What is saved of each rule stands in the document of the format, whole and in order.
TEST(RuleContract, TheVectorsOfEachRuleAreDocumented) {
  std::ifstream in(GRADWIRE_STATE_FORMAT);
  std::vector<std::string> documented;
  bool in_table = false;
  for (std::string line; std::getline(in, line);) {
    if (in_table && !line.starts_with("|")) break;
    if (in_table && !line.starts_with("|---")) documented.push_back(line);
    in_table = in_table || line.starts_with("| rule | vectors |");
  }
  std::vector<std::string> rules;
  for (const RuleInfo& info : list_rules()) {
    rules.push_back(
        fmt::format("| `{}` | {} | {} |", info.name, vectors_of(info.example, false), vectors_of(info.example, true)));
  }
  EXPECT_EQ(documented, rules);
}

}  // namespace
}  // namespace gradwire::testing
