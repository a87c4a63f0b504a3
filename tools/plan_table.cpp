// `gradwire plan table`: from arrays, or from a trace.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "arguments.hpp"
#include "npy.hpp"
#include "plan_actions.hpp"

namespace gradwire::tools {
namespace {

namespace po = boost::program_options;

Table measure_arrays(const std::vector<std::string>& paths, const std::vector<std::string>& specs,
                     const std::string& wanted) {
  const auto reference = std::find(specs.begin(), specs.end(), wanted);
  if (reference == specs.end()) throw UsageError(fmt::format("--reference {} is none of the candidates", wanted));
  Table made;
  for (const std::string& path : paths) {
    const NpyArray array = read_npy(path);
    const LayerSample sample{std::filesystem::path(path).stem().string(), array.tensor(), array.shape, {}};
    made.layers.push_back(measure_layer(sample, specs, static_cast<std::size_t>(reference - specs.begin())));
  }
  check(made);
  return made;
}

}  // namespace

Table measure(const TraceQuestion& question) {
  TraceReader reader(question.path, TraceReader::Torn::stop);
  try {
    Table table = measure_trace(reader, question.candidates, question.reference, question.step);
    warn_of_torn_end(question.path, reader);
    return table;
  } catch (const Error& error) {
    const bool named = std::string_view(error.what()).starts_with(question.path);
    fail(error.code(), "{}{}{}", named ? "" : question.path, named ? "" : ": ", error.what());
  }
}

int plan_table(const Arguments& arguments) {
  po::options_description description("Options of table", 110, 70);
  auto add = description.add_options();
  add("help,h", "this text");
  add("candidates", text("SPECS"), "compressors, with commas between them");
  add("reference", text("SPEC"),
      "the one of them that a uniform setting would take; default: the first, in a trace what each layer has there");
  add("out", text("T.json"), "where the table goes");
  add("in", po::value<std::vector<std::string>>()->multitoken()->value_name("FILE ..."), "one .npy file a layer");
  add("trace", text("FILE"), "a trace, instead of --in");
  add("step", text("N"), "the only step of the trace to look at");
  const auto given = parse_action(kPlanHelp, description, arguments);
  if (!given) return 0;
  const std::vector<std::string> specs = parse_specs("--candidates", required(*given, "candidates"));
  const std::string reference = given->count("reference") ? (*given)["reference"].as<std::string>() : "";
  if (given->count("in") + given->count("trace") != 1) throw UsageError("one of --in and --trace has to be there");
  if (given->count("step") && !given->count("trace")) throw UsageError("--step goes with --trace");
  const bool has_trace = given->count("trace") > 0;
  const std::vector<std::string> inputs = has_trace ? std::vector<std::string>{(*given)["trace"].as<std::string>()}
                                                    : (*given)["in"].as<std::vector<std::string>>();
  const std::string out = required_output(*given, "out", inputs);
  const Table made = has_trace ? measure({inputs.front(), specs, reference, step_of(*given)})
                               : measure_arrays(inputs, specs, reference.empty() ? specs.front() : reference);
  write_text(out, to_json(made) + "\n");
  std::size_t most = 0;
  for (const TableLayer& layer : made.layers) most = std::max(most, layer.candidates.size());
  fmt::print("{} layers, up to {} candidates each\n", made.layers.size(), most);
  return 0;
}

}  // namespace gradwire::tools
