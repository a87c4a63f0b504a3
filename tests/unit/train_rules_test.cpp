// Feedback rules against their textbook equations, in double.
#include "unit/train_rules_support.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

constexpr std::size_t kCount = 700;
constexpr std::uint64_t kSteps = 20;

/// An algorithm as its paper has it, for n ranks whose gradients g come divided by n, so that sums over ranks are the
/// paper's means. C is what the compressor really made of this rank's input.
class Textbook {
 public:
  explicit Textbook(std::size_t ranks) : ranks_(ranks) {}
  Textbook(const Textbook&) = delete;
  Textbook& operator=(const Textbook&) = delete;
  virtual ~Textbook() = default;

  /// What rank i compresses.
  virtual Doubles message(std::size_t i, const Doubles& g) = 0;
  /// After that: rank i's own state, from C of its message; then, once for all, the update, from the sum of them.
  virtual void sent(std::size_t i, const Doubles& g, const Doubles& c) = 0;
  virtual Doubles update(const Doubles& sum) = 0;
  /// By the names that the rule gives it.
  virtual std::map<std::string, Doubles> state(std::size_t i) = 0;

 protected:
  using PerRank = std::vector<Doubles>;
  [[nodiscard]] PerRank zeros() const { return PerRank(ranks_, Doubles(kCount)); }
  template <class F>
  static Doubles map(F f) {
    Doubles out(kCount);
    for (std::size_t i = 0; i < kCount; ++i) out[i] = f(i);
    return out;
  }
  std::size_t ranks_;
};

class NoFeedback final : public Textbook {
 public:
  using Textbook::Textbook;
  Doubles message(std::size_t, const Doubles& g) override { return g; }
  void sent(std::size_t, const Doubles&, const Doubles&) override {}
  Doubles update(const Doubles& sum) override { return sum; }
  std::map<std::string, Doubles> state(std::size_t) override { return {}; }
};

/// EF14: p = g + e; e = p - C(p).
class Ef14 final : public Textbook {
 public:
  explicit Ef14(std::size_t ranks) : Textbook(ranks), e_(zeros()) {}
  Doubles message(std::size_t i, const Doubles& g) override {
    return map([&](std::size_t j) { return g[j] + e_[i][j]; });
  }
  void sent(std::size_t i, const Doubles& g, const Doubles& c) override {
    e_[i] = map([&](std::size_t j) { return g[j] + e_[i][j] - c[j]; });
  }
  Doubles update(const Doubles& sum) override { return sum; }
  std::map<std::string, Doubles> state(std::size_t i) override { return {{"residual", e_[i]}}; }

 private:
  PerRank e_;
};

/// EF21: c = C(g - h); h += c; H += sum of c; the direction is H. With eta: g is replaced by v = (1 - eta) v + eta g.
class Ef21 final : public Textbook {
 public:
  Ef21(std::size_t ranks, double eta, bool momentum)
      : Textbook(ranks), eta_(eta), momentum_(momentum), v_(zeros()), h_(zeros()), mean_(kCount) {}
  Doubles message(std::size_t i, const Doubles& g) override {
    v_[i] = map([&](std::size_t j) { return (1 - eta_) * v_[i][j] + eta_ * g[j]; });
    return map([&](std::size_t j) { return v_[i][j] - h_[i][j]; });
  }
  void sent(std::size_t i, const Doubles&, const Doubles& c) override {
    h_[i] = map([&](std::size_t j) { return h_[i][j] + c[j]; });
  }
  Doubles update(const Doubles& sum) override {
    return mean_ = map([&](std::size_t j) { return mean_[j] + sum[j]; });
  }
  std::map<std::string, Doubles> state(std::size_t i) override {
    std::map<std::string, Doubles> all{{"estimate", h_[i]}, {"mean estimate", mean_}};
    if (momentum_) all["momentum"] = v_[i];
    return all;
  }

 private:
  double eta_;
  bool momentum_;
  PerRank v_;
  PerRank h_;
  Doubles mean_;
};

/// EControl: d = C(eta e + g - h); e += g - h - d; h += d; H += sum of d; the direction is H.
class Econtrol final : public Textbook {
 public:
  Econtrol(std::size_t ranks, double eta) : Textbook(ranks), eta_(eta), e_(zeros()), h_(zeros()), mean_(kCount) {}
  Doubles message(std::size_t i, const Doubles& g) override {
    return map([&](std::size_t j) { return eta_ * e_[i][j] + g[j] - h_[i][j]; });
  }
  void sent(std::size_t i, const Doubles& g, const Doubles& d) override {
    e_[i] = map([&](std::size_t j) { return e_[i][j] + g[j] - h_[i][j] - d[j]; });
    h_[i] = map([&](std::size_t j) { return h_[i][j] + d[j]; });
  }
  Doubles update(const Doubles& sum) override {
    return mean_ = map([&](std::size_t j) { return mean_[j] + sum[j]; });
  }
  std::map<std::string, Doubles> state(std::size_t i) override {
    return {{"residual", e_[i]}, {"estimate", h_[i]}, {"mean estimate", mean_}};
  }

 private:
  double eta_;
  PerRank e_;
  PerRank h_;
  Doubles mean_;
};

/// DIANA: m = C(g - h); the direction is H + sum of m; h += alpha m; H += alpha sum of m.
class Diana final : public Textbook {
 public:
  Diana(std::size_t ranks, double alpha) : Textbook(ranks), alpha_(alpha), h_(zeros()), mean_(kCount) {}
  Doubles message(std::size_t i, const Doubles& g) override {
    return map([&](std::size_t j) { return g[j] - h_[i][j]; });
  }
  void sent(std::size_t i, const Doubles&, const Doubles& m) override {
    h_[i] = map([&](std::size_t j) { return h_[i][j] + alpha_ * m[j]; });
  }
  Doubles update(const Doubles& sum) override {
    Doubles direction = map([&](std::size_t j) { return mean_[j] + sum[j]; });
    mean_ = map([&](std::size_t j) { return mean_[j] + alpha_ * sum[j]; });
    return direction;
  }
  std::map<std::string, Doubles> state(std::size_t i) override {
    return {{"estimate", h_[i]}, {"mean estimate", mean_}};
  }

 private:
  double alpha_;
  PerRank h_;
  Doubles mean_;
};

struct DgcSettings {
  double momentum = 0.9;
  bool nesterov = false;
  bool masking = true;
  double clip = 0;
};

/// DGC: u = m u + g; v += u (Nesterov: u = m (u + g); v += u + g); C(v) is sent and leaves v; u is masked there. Where
/// all of v is sent nothing is late, and u stays whole: SGD with momentum. g is clipped to clip / sqrt(n) first, in the
/// scale of the gradients as they came.
class Dgc final : public Textbook {
 public:
  Dgc(std::size_t ranks, const DgcSettings& settings)
      : Textbook(ranks), settings_(settings), u_(zeros()), v_(zeros()) {}
  Doubles message(std::size_t i, const Doubles& given) override {
    const double m = settings_.momentum;
    const Doubles g = clipped(given);
    if (settings_.nesterov) {
      u_[i] = map([&](std::size_t j) { return m * (u_[i][j] + g[j]); });
      v_[i] = map([&](std::size_t j) { return v_[i][j] + u_[i][j] + g[j]; });
    } else {
      u_[i] = map([&](std::size_t j) { return m * u_[i][j] + g[j]; });
      v_[i] = map([&](std::size_t j) { return v_[i][j] + u_[i][j]; });
    }
    return v_[i];
  }
  void sent(std::size_t i, const Doubles&, const Doubles& c) override {
    v_[i] = map([&](std::size_t j) { return v_[i][j] - c[j]; });
    if (settings_.masking) u_[i] = map([&](std::size_t j) { return c[j] != 0 ? 0 : u_[i][j]; });
  }
  Doubles update(const Doubles& sum) override { return sum; }
  std::map<std::string, Doubles> state(std::size_t i) override { return {{"residual", v_[i]}, {"momentum", u_[i]}}; }

 private:
  [[nodiscard]] Doubles clipped(const Doubles& g) const {
    const auto n = static_cast<double>(ranks_);
    double squares = 0;
    for (const double value : g) squares += value * n * value * n;
    const double limit = settings_.clip / std::sqrt(n);
    if (settings_.clip == 0 || std::sqrt(squares) <= limit) return g;
    return map([&](std::size_t j) { return g[j] * limit / std::sqrt(squares); });
  }
  DgcSettings settings_;
  PerRank u_;
  PerRank v_;
};

struct Case {
  std::string spec;
  std::function<std::unique_ptr<Textbook>(std::size_t ranks)> book;
};

template <class Book, class... Settings>
Case make_case(const std::string& spec, Settings... settings) {
  return {spec, [settings...](std::size_t ranks) { return std::make_unique<Book>(ranks, settings...); }};
}

std::vector<Case> cases() {
  return {
      make_case<NoFeedback>("none"),
      make_case<Ef14>("ef"),
      make_case<Ef21>("ef21", 1.0, false),
      make_case<Ef21>("ef21_sgdm(0.1)", 0.1, true),
      make_case<Ef21>("ef21_sgdm(eta=0.7)", 0.7, true),
      make_case<Econtrol>("econtrol(0.01)", 0.01),
      make_case<Econtrol>("econtrol(eta=0.3)", 0.3),
      make_case<Diana>("diana(0.1)", 0.1),
      make_case<Diana>("diana(alpha=0.5)", 0.5),
      make_case<Dgc>("dgc(0.9)", DgcSettings{}),
      make_case<Dgc>("dgc(momentum=0.5,nesterov=yes)", DgcSettings{0.5, true}),
      make_case<Dgc>("dgc(0.9,masking=no)", DgcSettings{0.9, false, false}),
      make_case<Dgc>("dgc(0.9,nesterov=yes,masking=no,clip=20)", DgcSettings{0.9, true, false, 20}),
  };
}

/// Every step's message, update and state as the book has them.
void follow_the_book(const Case& test, std::size_t n, const char* compressor_spec) {
  const Compressor compressor = make_compressor(compressor_spec);
  const std::unique_ptr<Textbook> book = test.book(n);
  std::vector<RankRule> ranks = make_ranks(test.spec, n, kCount);
  for (std::uint64_t step = 0; step < kSteps; ++step) {
    const std::string what = test.spec + " over " + compressor_spec + ", step " + std::to_string(step);
    const std::vector<Floats> gradients = random_gradients(n, kCount, step);
    const StepOfAll made = run_step(ranks, gradients, &compressor, step);
    Doubles sum(kCount);
    double largest = 1;
    for (std::size_t rank = 0; rank < n; ++rank) {
      Doubles g(gradients[rank].begin(), gradients[rank].end());
      for (double& value : g) value /= static_cast<double>(n);
      const Doubles c(made.contributions[rank].sent.begin(), made.contributions[rank].sent.end());
      expect_near(made.contributions[rank].x, book->message(rank, g), 1e-5, what + ": message");
      book->sent(rank, g, c);
      for (std::size_t i = 0; i < kCount; ++i) sum[i] += c[i];
      for (const double value : c) largest = std::max(largest, std::abs(value));
    }
    expect_near(made.update, book->update(sum), 1e-5, what + ": update");
    for (std::size_t rank = 0; rank < n; ++rank) {
      const std::map<std::string, Floats> state = ranks[rank].state();
      const std::map<std::string, Doubles> expected = book->state(rank);
      ASSERT_EQ(state.size(), expected.size()) << what;
      for (const auto& [name, values] : expected) {
        ASSERT_TRUE(state.contains(name)) << what << " has no " << name;
        expect_near(state.at(name), values, 1e-5 * largest, what + ": " + name);
      }
    }
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(Rules, FollowTheirEquations) {
  for (const Case& test : cases()) {
    for (const char* compressor : {"topk(0.05)", "q4", "q2(round=stochastic)", "randomk(0.1)"}) {
      for (const std::size_t n : {1u, 3u}) follow_the_book(test, n, compressor);
    }
  }
}

/// On one rank whose compressor loses nothing each rule gives what its dense counterpart would.
TEST(Rules, GiveTheDenseUpdateWhereNothingIsLost) {
  struct Expectation {
    const char* spec;
    double momentum;  // u = momentum u + rate g
    double rate;
    bool nesterov = false;  // update = g + momentum u
  };
  for (const Expectation& test : std::vector<Expectation>{{"none", 0, 1},
                                                          {"ef", 0, 1},
                                                          {"ef(storage=f32)", 0, 1},
                                                          {"ef21", 0, 1},
                                                          {"ef21_sgdm(0.1)", 0.9, 0.1},
                                                          {"econtrol(0.01)", 0, 1},
                                                          {"diana(0.1)", 0, 1},
                                                          {"dgc(0.9)", 0.9, 1},
                                                          {"dgc(0.9,masking=no)", 0.9, 1},
                                                          {"dgc(0.9,nesterov=yes,masking=no)", 0.9, 1, true}}) {
    std::vector<RankRule> ranks = make_ranks(test.spec, 1, kCount);
    Doubles u(kCount);
    for (std::uint64_t step = 0; step < kSteps; ++step) {
      const std::vector<Floats> gradients = random_gradients(1, kCount, step);
      const StepOfAll made = run_step(ranks, gradients, nullptr, step);
      Doubles expected(kCount);
      for (std::size_t i = 0; i < kCount; ++i) {
        const auto g = static_cast<double>(gradients[0][i]);
        u[i] = test.momentum * u[i] + test.rate * g;
        expected[i] = test.nesterov ? g + test.momentum * u[i] : u[i];
      }
      expect_near(made.update, expected, 1e-5, test.spec);
    }
    for (const auto& [name, values] : ranks[0].state()) {
      if (name == "residual") {
        EXPECT_EQ(values, Floats(kCount)) << test.spec;
      }
    }
  }
}

/// What all ranks together have been given is what was delivered and what they still owe.
TEST(Rules, FeedbackLosesNothing) {
  for (const char* compressor_spec : {"topk(0.02)", "q2"}) {
    const Compressor compressor = make_compressor(compressor_spec);
    std::vector<RankRule> ranks = make_ranks("ef", 3, kCount);
    Doubles balance(kCount);  // given - delivered
    for (std::uint64_t step = 0; step < kSteps; ++step) {
      const std::vector<Floats> gradients = random_gradients(3, kCount, step);
      const StepOfAll made = run_step(ranks, gradients, &compressor, step);
      Floats owed(kCount);
      for (std::size_t i = 0; i < kCount; ++i) {
        for (const Floats& g : gradients) balance[i] += static_cast<double>(g[i]) / 3;
        balance[i] -= static_cast<double>(made.update[i]);
        for (RankRule& rank : ranks) owed[i] += static_cast<float>(rank.rule().state()[0].values->current()[i]);
      }
      expect_near(owed, balance, 1e-5, compressor_spec);
    }
  }
}

/// The replicated H is the sum of the ranks' own estimates.
TEST(Rules, TheMeanEstimateIsTheSumOfTheEstimates) {
  for (const char* spec : {"ef21", "ef21_sgdm(0.1)", "econtrol(0.01)", "diana(0.1)"}) {
    for (const char* compressor_spec : {"topk(0.05)", "q2", "q4(round=stochastic)"}) {
      const Compressor compressor = make_compressor(compressor_spec);
      std::vector<RankRule> ranks = make_ranks(spec, 3, kCount);
      for (std::uint64_t step = 0; step < 50; ++step) {
        run_step(ranks, random_gradients(3, kCount, step), &compressor, step);
        Doubles sum(kCount);
        for (RankRule& rank : ranks) {
          EXPECT_EQ(rank.state()["mean estimate"], ranks[0].state()["mean estimate"]);
          const Floats own = rank.state()["estimate"];
          for (std::size_t i = 0; i < kCount; ++i) sum[i] += static_cast<double>(own[i]);
        }
        expect_near(ranks[0].state()["mean estimate"], sum, 1e-5, std::string(spec) + " over " + compressor_spec);
      }
    }
  }
}

TEST(Rules, DgcForgetsMomentumExactlyWhereSomethingWasDelivered) {
  for (const char* compressor_spec : {"topk(0.05)", "q2"}) {
    const Compressor compressor = make_compressor(compressor_spec);
    std::vector<RankRule> masked = make_ranks("dgc(0.9)", 1, kCount);
    Floats before(kCount);
    for (std::uint64_t step = 0; step < kSteps; ++step) {
      const std::vector<Floats> gradients = random_gradients(1, kCount, step);
      const StepOfAll made = run_step(masked, gradients, &compressor, step);
      const Floats after = masked[0].state()["momentum"];
      for (std::size_t i = 0; i < kCount; ++i) {
        const bool delivered = made.contributions[0].sent[i] != 0;
        ASSERT_EQ(after[i], delivered ? 0 : 0.9F * before[i] + gradients[0][i]) << compressor_spec << " " << i;
      }
      before = after;
    }
  }
}

}  // namespace
}  // namespace gradwire::testing
