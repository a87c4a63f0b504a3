// Tables and plans as data: what is refused, JSON, policies by hand, specs.
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <limits>

#include "unit/plan_support.hpp"

#include "gradwire/error.hpp"

namespace gradwire::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

Table good_table() {
  return {{{"embed.weight", 100'000, 1, {{"none", 400'000, 0}, {"q4", 50'000, 2}, {"q2", 25'000, 5}}},
           {"fc1.weight", 5000, 0, {{"q4", 2600, 1}, {"q2", 1300, 3}, {"none", 20'000, 0}}},
           {"fc1.bias", 50, 0, {{"none", 200, 0}, {"q4", 41, 0.25}}}}};
}

void spectrum(TableLayer& layer, std::vector<double> values) {
  layer.shape = {50, 100};
  layer.singular_values = std::move(values);
}

template <class Action>
std::string message_of(Errc code, Action&& action) {
  try {
    (void)action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(Table, BadOnesAreRefusedByEveryPolicyAndByTheReader) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  struct Case {
    std::function<void(Table&)> spoil;
    const char* message;
  };
  const Case cases[] = {
      {[](Table& t) { t.layers.clear(); }, "there are no layers"},
      {[](Table& t) { t.layers[1].name.clear(); }, "layer 1 has no name"},
      {[](Table& t) { t.layers[2].name = "embed.weight"; }, "layer 2: the name \"embed.weight\" is there twice"},
      {[](Table& t) { t.layers[1].count = 0; }, "layer \"fc1.weight\" has no elements"},
      {[](Table& t) { t.layers[1].candidates.clear(); }, "layer \"fc1.weight\" has no candidates"},
      {[](Table& t) { t.layers[1].reference = 3; }, "layer \"fc1.weight\": reference is 3; accepted: 0..2"},
      {[](Table& t) { t.layers[1].candidates[2].spec.clear(); }, "layer \"fc1.weight\": candidate 2 has no spec"},
      {[](Table& t) { t.layers[1].candidates[2].spec = "q4"; },
       "layer \"fc1.weight\": candidate 2: \"q4\" is there twice"},
      {[=](Table& t) { t.layers[1].candidates[1].error = nan; },
       "candidate 1 (\"q2\"): error is nan; accepted: 0, 1e-120..1e+120"},
      {[](Table& t) { t.layers[1].candidates[1].error = -0.5; },
       "candidate 1 (\"q2\"): error is -0.5; accepted: 0, 1e-120..1e+120"},
      {[](Table& t) { t.layers[1].candidates[1].error = 1e300 * 1e300; }, "candidate 1 (\"q2\"): error is inf"},
      {[](Table& t) { t.layers[1].candidates[1].error = 1e-200; }, "candidate 1 (\"q2\"): error is 1e-200"},
      {[](Table& t) { t.layers[1].candidates[1].error = 1e200; }, "candidate 1 (\"q2\"): error is 1e+200"},
      {[](Table& t) { t.layers[1].candidates[1].bytes = ~std::uint64_t{0}; }, "candidate 1 (\"q2\"): bytes is 1844674"},
      {[](Table& t) { t.layers[1].candidates[1].bytes = std::uint64_t{1} << 53; }, "up to layer \"fc1.weight\""},
      {[](Table& t) { t.layers[1].candidates[1].us = -2; },
       "layer \"fc1.weight\": candidate 1 (\"q2\"): us is -2; accepted: 0, 1e-06..1e+15"},
      {[=](Table& t) { t.layers[1].candidates[1].us = nan; }, "candidate 1 (\"q2\"): us is nan"},
      {[=](Table& t) { t.layers[2].ready_us = nan; }, "layer \"fc1.bias\": ready_us is nan; accepted: 0..1e+15"},
      {[](Table& t) { t.layers[2].norm = -1; }, "layer \"fc1.bias\": norm is -1; accepted: 0, 1e-120..1e+120"},
      {[=](Table& t) { t.layers[2].previous_norm = nan; }, "layer \"fc1.bias\": previous_norm is nan"},
      {[](Table& t) {
         t.layers[1].shape = {50, 99};
       },
       "layer \"fc1.weight\": its shape (50 x 99) does not have 5000 elements"},
      {[](Table& t) {
         t.layers[1].shape = {50, 50};
       },
       "its shape (50 x 50) does not have 5000 elements"},
      {[](Table& t) {
         t.layers[1].shape = {0, 5000};
       },
       "its shape (0 x 5000) does not have 5000 elements"},
      {[=](Table& t) {
         spectrum(t.layers[1], {3, nan});
       },
       "layer \"fc1.weight\": singular value 1 is nan; accepted: 0..3, none above the one before"},
      {[](Table& t) { spectrum(t.layers[1], {-3}); }, "singular value 0 is -3; accepted: 0..1e+120, the largest first"},
      {[](Table& t) {
         spectrum(t.layers[1], {3, 2, 2.5});
       },
       "singular value 2 is 2.5; accepted: 0..2, none above"},
      {[](Table& t) { spectrum(t.layers[1], std::vector<double>(51, 1)); },
       "layer \"fc1.weight\": its shape (50 x 100) has 50 singular values, not 51"},
      {[](Table& t) { t.layers[2].singular_values = {1}; }, "its shape () has 0 singular values, not 1"},
  };
  for (const Case& test : cases) {
    Table table = good_table();
    test.spoil(table);
    EXPECT_THAT(message_of(Errc::invalid_argument, [&] { return check(table), 0; }), HasSubstr(test.message));
    EXPECT_THAT(message_of(Errc::invalid_argument, [&] { return to_json(table); }), HasSubstr(test.message));
    for (const PolicyInfo& row : list_policies())
      message_of(Errc::invalid_argument, [&] { return make_policy(row.example).plan(table); });
  }
}

TEST(Table, JsonAndBack) {
  std::mt19937 random(1);
  for (int i = 0; i < 50; ++i) {
    const Table table = random_table(random);
    const std::string text = to_json(table);
    EXPECT_EQ(to_json(table_from_json(text)), text);
  }
  const nlohmann::json json = nlohmann::json::parse(to_json(good_table()));
  const nlohmann::json wanted = {{"spec", "q4"}, {"bytes", 41}, {"error", 0.25}};
  EXPECT_EQ(json["layers"][2]["candidates"][1], wanted);
  EXPECT_EQ(json["layers"][0]["reference"], 1);
  EXPECT_EQ(json["layers"][0]["count"], 100'000);
}

/// What a table may lack is written where it is known, and only there.
TEST(Table, JsonOfWhatMayBeLeftOut) {
  const std::string plain = to_json(good_table());
  for (const char* const key : {"us", "shape", "norm", "previous_norm", "ready_us", "singular_values"})
    EXPECT_THAT(plain, Not(HasSubstr(fmt::format("\"{}\"", key))));
  Table table = good_table();
  TableLayer& layer = table.layers[1];
  spectrum(layer, {3, 1.5, 1.5, 0});
  layer.norm = 4;
  layer.previous_norm = 0.1;
  layer.ready_us = 250.5;
  layer.candidates[2].us = 1e-3;
  const std::string text = to_json(table);
  const Table read = table_from_json(text);
  EXPECT_EQ(to_json(read), text);
  EXPECT_EQ(read.layers[1].shape, layer.shape);
  EXPECT_EQ(read.layers[1].norm, 4);
  EXPECT_EQ(read.layers[1].previous_norm, 0.1);
  EXPECT_EQ(read.layers[1].ready_us, 250.5);
  EXPECT_EQ(read.layers[1].singular_values, layer.singular_values);
  EXPECT_EQ(read.layers[1].candidates[2].us, 1e-3);
  EXPECT_EQ(read.layers[1].candidates[1].us, 0);
  EXPECT_EQ(read.layers[0].norm, 0);
}

TEST(Table, WhatIsNoUtf8IsNoJson) {
  const auto refuse = [](const std::string& what, const auto& written) {
    EXPECT_THAT(message_of(Errc::invalid_argument, [&] { return to_json(written); }),
                AllOf(HasSubstr(what + ": "), HasSubstr("is no UTF-8")));
  };
  Table table = good_table();
  table.layers[1].name = "fc\xff";
  refuse("table", table);
  refuse("plan", make_policy("uniform").plan(table));
  table = good_table();
  table.layers[1].candidates[1].spec = "q\xe4";
  refuse("table", table);
}

TEST(Table, JsonThatIsNoTableNamesThePlace) {
  const auto refuse = [](const std::string& text, const char* message) {
    EXPECT_THAT(message_of(Errc::invalid_argument, [&] { return table_from_json(text); }), HasSubstr(message)) << text;
  };
  const auto with = [](const std::string& candidate) {
    return R"({"layers":[{"name":"a","count":8,"reference":0,"candidates":[{"spec":"q8","bytes":9,"error":1},)" +
           candidate + "]}]}";
  };
  refuse("", "table: this is no JSON");
  refuse("[1]", "table: expected an object, found [1]");
  refuse("{}", "table: \"layers\" is missing");
  refuse(R"({"layers":{}})", "table: \"layers\" is {}; expected a list");
  refuse(R"({"layers":[]})", "there are no layers");
  refuse(R"({"layers":[3]})", "table: layer 0: expected an object, found 3");
  refuse(R"({"layers":[{"count":3}]})", "table: layer 0: \"name\" is missing");
  refuse(R"({"layers":[{"name":"a","count":-3}]})", "table: layer 0: \"count\" is -3; expected a whole number");
  refuse(R"({"layers":[{"name":"a","count":3,"reference":-1}]})", "\"reference\" is -1; expected a whole number");
  refuse(R"({"layers":[{"name":"a","count":3,"reference":0}]})", "\"candidates\" is missing");
  refuse(with(R"({"spec":"q4","bytes":5})"), "table: layer 0 (\"a\"): candidate 1: \"error\" is missing");
  refuse(with(R"({"spec":"q4","bytes":-5,"error":2})"), "candidate 1: \"bytes\" is -5; expected a whole number");
  refuse(with(R"({"spec":"q4","bytes":5.5,"error":2})"), "candidate 1: \"bytes\" is 5.5; expected a whole number");
  refuse(with(R"({"spec":"q4","bytes":5,"error":null})"), "candidate 1: \"error\" is null; expected a number");
  refuse(with(R"({"spec":"q4","bytes":5,"error":NaN})"), "table: this is no JSON");
  refuse(with(R"({"spec":"q4","bytes":5,"error":1e999})"), "table: this is no JSON");
  refuse(with(R"({"spec":"q4","bytes":5,"error":-1})"), "layer \"a\": candidate 1 (\"q4\"): error is -1");
  refuse(with(R"({"spec":4,"bytes":5,"error":1})"), "candidate 1: \"spec\" is 4; expected a string");
  refuse(with(R"({"spec":"q4","bytes":5,"error":1,"us":"3"})"), "candidate 1: \"us\" is \"3\"; expected a number");
  const auto layer_with = [](const std::string& more) {
    return R"({"layers":[{"name":"a","count":8,"reference":0,"candidates":[{"spec":"q8","bytes":9,"error":1}],)" +
           more + "}]}";
  };
  refuse(layer_with(R"("shape":[4,-2])"), "layer 0: \"shape\" is [4,-2]; expected a list of whole numbers");
  refuse(layer_with(R"("shape":[4,2.5])"), "layer 0: \"shape\" is [4,2.5]; expected a list of whole numbers");
  refuse(layer_with(R"("shape":[4,1e300])"), "\"shape\" is [4,1e+300]; expected a list of whole numbers");
  refuse(layer_with(R"("shape":8)"), "layer 0: \"shape\" is 8; expected a list");
  refuse(layer_with(R"("singular_values":[2,"1"])"), "\"singular_values\" is [2,\"1\"]; expected a list of numbers");
  EXPECT_EQ(table_from_json(layer_with(R"("norm":null)")).layers[0].norm, 0);
  EXPECT_EQ(table_from_json(layer_with(R"("shape":[4,2.0])")).layers[0].shape, (std::vector<std::size_t>{4, 2}));
  EXPECT_EQ(table_from_json(with(R"({"spec":"q4","bytes":5.0,"error":1,"more":[]})")).layers[0].candidates[1].bytes,
            5U);
}

TEST(Plan, JsonAndBack) {
  for (const char* const spec : {"lgreco", "budget(ratio=8)", "budget(error=1,norm=plain)", "uniform"}) {
    const Plan plan = make_policy(spec).plan(good_table());
    const std::string text = to_json(plan);
    EXPECT_EQ(to_json(plan_from_json(text)), text);
  }
  const nlohmann::json json = nlohmann::json::parse(to_json(make_policy("lgreco(alpha=2)").plan(good_table())));
  EXPECT_EQ(json["budget"], 6.0);
  EXPECT_EQ(json["limit"], "error");
  EXPECT_EQ(json["layers"].size(), 3U);
  EXPECT_EQ(json["layers"][0]["name"], "embed.weight");
  EXPECT_TRUE(json["solver_ms"].is_number());
  EXPECT_EQ(nlohmann::json::parse(to_json(make_policy("uniform").plan(good_table())))["budget"], nullptr);
}

TEST(Plan, ByHandNeedsItsLayersOnly) {
  const Plan plan = plan_from_json(R"({"layers":[{"name":"a","spec":"q4","bytes":5,"error":3},
                                                {"name":"b","spec":"q2","bytes":2,"error":4}]})");
  EXPECT_EQ(plan.bytes, 7U);
  EXPECT_EQ(plan.error, 7);
  EXPECT_EQ(plan.squared_error, 25);
  EXPECT_EQ(plan.limit, PlanLimit::none);
}

TEST(Plan, JsonThatIsNoPlanNamesThePlace) {
  const auto refuse = [](const std::string& layer, const std::string& rest, const char* message) {
    const std::string text = R"({"layers":[{"name":"a","spec":"q4","bytes":5,"error":3},)" + layer + "]" + rest + "}";
    EXPECT_THAT(message_of(Errc::invalid_argument, [&] { return plan_from_json(text); }), HasSubstr(message)) << text;
  };
  const std::string b = R"({"name":"b","spec":"q2","bytes":2,"error":4})";
  refuse(R"({"name":"a","spec":"q2","bytes":2,"error":4})", "", "plan: layer 1: the name \"a\" is there twice");
  refuse(R"({"name":"b","spec":"","bytes":2,"error":4})", "", "plan: layer 1: name or spec is empty");
  refuse(R"({"name":"b","spec":"q2","bytes":2,"error":-4})", "", "plan: layer 1 (\"b\"): error is -4");
  refuse(R"({"name":"b","spec":"q2","bytes":18446744073709551615,"error":4})", "", "bytes sum to more than");
  refuse(R"({"name":"b","spec":"q2"})", "", "plan: layer 1: \"bytes\" is missing");
  refuse(b, R"(,"bytes":8)", "plan: \"bytes\" is 8, but the layers sum to 7");
  refuse(b, R"(,"error":8)", "plan: \"error\" is 8, but the layers sum to 7");
  refuse(b, R"(,"budget":8,"limit":"money")", "\"limit\" is \"money\"; expected error, squared_error, bytes or time");
  refuse(b, R"(,"exposed_ms":-1)", "plan: \"exposed_ms\" is -1; expected a number from 0 on");
  refuse(b, R"(,"budget":-1,"limit":"bytes")", "plan: \"budget\" is -1; expected a number from 0 on");
  refuse(b, R"(,"bound":-0.5)", "plan: \"bound\" is -0.5; expected a number from 0 on");
  refuse(b, R"(,"solver_ms":-2)", "plan: \"solver_ms\" is -2; expected a number from 0 on");
  EXPECT_THAT(message_of(Errc::invalid_argument, [] { return plan_from_json(R"({"layers":[]})"); }),
              HasSubstr("there are no layers"));
}

std::vector<std::string> specs_of(const char* policy, const Table& table = good_table()) {
  std::vector<std::string> specs;
  for (const PlanLayer& layer : make_policy(policy).plan(table).layers) specs.push_back(layer.spec);
  return specs;
}

TEST(Policy, ByHand) {
  using Specs = std::vector<std::string>;
  EXPECT_EQ(specs_of("uniform"), (Specs{"q4", "q4", "none"}));
  EXPECT_EQ(specs_of("fixed"), (Specs{"q4", "q4", "none"}));
  EXPECT_EQ(specs_of("fixed(q4)"), (Specs{"q4", "q4", "q4"}));
  EXPECT_EQ(specs_of("fixed(none,*.weight=q2)"), (Specs{"q2", "q2", "none"}));
  EXPECT_EQ(specs_of("fixed(*.bias=q4,embed*=none)"), (Specs{"none", "q4", "q4"}));
  EXPECT_EQ(specs_of("fixed(embed*=none,*.weight=q2)"), (Specs{"none", "q2", "none"}));  // the first that matches
  EXPECT_EQ(specs_of("fixed(fc?.bias=q4)"), (Specs{"q4", "q4", "q4"}));
  EXPECT_EQ(specs_of("fixed(spec=none)"), (Specs{"none", "none", "none"}));
  EXPECT_EQ(specs_of("by_size(threshold=5000,small=none,large=q2)"), (Specs{"q2", "q2", "none"}));
  EXPECT_EQ(specs_of("by_size(threshold=5001,small=q4,large=q2)"), (Specs{"q2", "q4", "q4"}));
  EXPECT_EQ(specs_of("by_size(threshold=5001,large=q2,*.bias=q4)"), (Specs{"q2", "q4", "q4"}));
  const Plan plan = make_policy("fixed(q4)").plan(good_table());
  EXPECT_EQ(plan.limit, PlanLimit::none);
  EXPECT_FALSE(plan.bound.has_value());
}

TEST(Policy, ByHandNamesWhatIsNotThere) {
  const auto refuse = [](const char* spec, const char* message) {
    EXPECT_THAT(message_of(Errc::invalid_argument, [&] { return make_policy(spec).plan(good_table()); }),
                HasSubstr(message));
  };
  refuse("fixed(q2)", "layer \"fc1.bias\" has no candidate \"q2\"; it has none, q4");
  refuse("fixed(q4,conv*=none)", "no layer's name matches \"conv*\"");
  refuse("by_size(treshold=3,threshold=3,small=none)", "no layer's name matches \"treshold\"");
}

TEST(Policy, BadSpecsAreRefused) {
  const auto refuse = [](const char* spec, const char* message, Errc code = Errc::invalid_argument) {
    EXPECT_THAT(message_of(code, [&] { return make_policy(spec).spec(); }), HasSubstr(message));
  };
  refuse("", "policy \"\": no valid name");
  refuse("bogus", "unknown policy \"bogus\": expected lgreco, budget, spectral, accordion, uniform");
  refuse("lgreco(alpha=-1)", "option alpha is -1; accepted: 0..");
  refuse("lgreco(alpha=nan)", "option alpha is nan; accepted: 0..");
  refuse("lgreco(bins=0)", "option bins is 0; accepted: 1..1000000");
  refuse("lgreco(bogus=1)", "unknown option bogus");
  refuse("lgreco(objective=energy)", "option objective is energy; accepted: bytes, time");
  refuse("budget(ratio=0)", "option ratio is 0");
  refuse("uniform(q4)", "\"q4\" is no option");
  refuse("by_size", "which sizes?");
  refuse("by_size(threshold=3)", "which sizes?");
  refuse("by_size(threshold=0,small=none)", "option threshold is 0");
}

TEST(Policy, TheListHasWhatMakePolicyAccepts) {
  for (const PolicyInfo& row : list_policies()) {
    EXPECT_EQ(make_policy(row.example).spec(), row.example);
    EXPECT_EQ(row.example.rfind(row.name, 0), 0U);
    EXPECT_NE(row.summary, "");
  }
}

/// As text, without the time that solving took.
std::string without_time(Plan plan) {
  plan.solver_ms = 0;
  return to_json(plan);
}

TEST(Policy, TheSameTableGivesTheSamePlan) {
  std::mt19937 random(2);
  for (int i = 0; i < 50; ++i) {
    Table table = random_table(random, {.most_layers = 30, .most_candidates = 30, .whole = i % 2 == 1});
    table.layers.front().candidates.push_back({"q4", 3, 0.5});  // something to choose for each of them
    table.layers.front().candidates.push_back({"topk(0.1)", 0, 0.75});
    for (const char* const spec :
         {"lgreco", "lgreco(alpha=3,bins=100)", "budget(error=1)", "uniform", "cgx_kmeans", "global_topk"}) {
      const std::string once = without_time(make_policy(spec).plan(table));
      const std::string again = without_time(make_policy(spec).plan(table_from_json(to_json(table))));
      EXPECT_EQ(once, again);
    }
  }
}

}  // namespace
}  // namespace gradwire::testing
