// `gradwire trace`: traces made, looked into, and taken apart.
#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <set>

#include "actions.hpp"
#include "npy.hpp"
#include "printable.hpp"
#include "trace_actions.hpp"

namespace gradwire::tools {
namespace {

namespace fs = std::filesystem;
namespace po = boost::program_options;

struct LayerRow {
  std::string shape;
  std::string reference;
  std::size_t count = 0;
  std::uint64_t samples = 0;
  std::uint64_t bytes = 0;
};

/// What `info` says of a trace.
struct Summary {
  std::vector<std::string> order;
  std::map<std::string, LayerRow> layers;
  std::set<std::uint64_t> steps;
  std::uint64_t samples = 0;
  std::uint64_t tables = 0;
  std::uint64_t values = 0;

  void add(const TraceRecord& record, std::uint64_t bytes) {
    if (const auto* const table = std::get_if<TraceTable>(&record)) {
      ++tables;
      steps.insert(table->step);
      return;
    }
    const auto& sample = std::get<TraceSample>(record);
    ++samples;
    steps.insert(sample.step);
    values += sample.values.size();
    if (!layers.contains(sample.name)) order.push_back(sample.name);
    LayerRow& row = layers[sample.name];
    note(row.shape, format_shape(sample.shape));
    note(row.reference, sample.reference);
    row.count = sample.values.size();
    ++row.samples;
    row.bytes += bytes;
  }

 private:
  static void note(std::string& known, const std::string& value) {
    if (known.empty()) known = value;
    if (known != value) known = "changes";
  }
};

int info(const Arguments& arguments) {
  if (arguments.size() != 1) throw UsageError("info takes one trace: gradwire trace info FILE");
  const std::string& path = arguments.front();
  TraceReader reader(path, TraceReader::Torn::stop);
  Summary summary;
  while (const std::optional<TraceRecord> record = reader.next()) summary.add(*record, reader.record_bytes());
  fmt::print("meta: {}\n", printable(reader.meta()));
  fmt::print("bytes: {} (values: {})\n", fs::file_size(path), summary.values * sizeof(float));
  fmt::print("records: {} samples, {} tables\n", summary.samples, summary.tables);
  if (!summary.steps.empty())
    fmt::print("steps: {}, {} to {}\n", summary.steps.size(), *summary.steps.begin(), *summary.steps.rbegin());
  if (!summary.order.empty()) {
    std::vector<std::vector<std::string>> rows{{"layer", "shape", "reference", "elements", "samples", "bytes"}};
    for (const std::string& name : summary.order) {
      const LayerRow& row = summary.layers.at(name);
      rows.push_back({name, row.shape, row.reference, fmt::format("{}", row.count), fmt::format("{}", row.samples),
                      fmt::format("{}", row.bytes)});
    }
    print_columns(rows, 3);
  }
  warn_of_torn_end(path, reader);
  return 0;
}

int import(const Arguments& arguments) {
  po::options_description description("Options of import", 110, 70);
  auto add = description.add_options();
  add("help,h", "this text");
  add("out", text("FILE"), "where the trace goes");
  add("reference", text("SPEC"), "the spec that all layers have without a plan");
  add("step", text("N")->default_value("0"), "that the gradients are of");
  add("in", po::value<std::vector<std::string>>()->multitoken()->value_name("FILE ..."),
      "one .npy file a layer (float32), named as it is");
  const auto given = parse_action(kTraceHelp, description, arguments);
  if (!given) return 0;
  if (!given->count("in")) throw UsageError("--in is missing");
  const auto& files = (*given)["in"].as<std::vector<std::string>>();
  const std::string out = required_output(*given, "out", files);
  const std::string reference = required(*given, "reference");
  (void)make_compressor(reference);
  std::set<std::string> names;
  for (const std::string& file : files)
    require(names.insert(fs::path(file).stem().string()).second, "two files are named {}",
            fs::path(file).stem().string());
  AtomicFile made(out);
  TraceWriter writer(made.temporary().string(), R"({"made_by":"gradwire trace import"})");
  for (const std::string& file : files) {
    const NpyArray array = read_npy(file);
    writer.sample(*step_of(*given), {fs::path(file).stem().string(), array.tensor(), array.shape, {}}, reference);
  }
  writer.close();
  made.close();
  made.commit();
  fmt::print("{} layers\n", files.size());
  return 0;
}

/// Files of an export. None is written twice, nor over the trace.
class Exported {
 public:
  explicit Exported(std::string trace) : trace_(std::move(trace)) {}

  /// Where a table goes, in a folder that is there now.
  std::string of_table(const fs::path& folder) { return next(folder, "table", ".json"); }
  /// Where a layer's sample goes: under the layer's name, or another one, which is said.
  std::string of_sample(const fs::path& folder, const std::string& layer) {
    std::string path = next(folder, stem_of(layer), ".npy");
    if (fs::path(path).filename() != file_name(layer) + ".npy")
      fmt::print("{}: layer {}\n", printable(path), printable(layer));
    return path;
  }
  [[nodiscard]] std::size_t count() const { return files_.size(); }

 private:
  /// A layer's name as a file's: what would lead elsewhere is replaced.
  static std::string file_name(std::string name) {
    for (char& c : name)
      if (c == '/' || c == '\0') c = '_';
    return name;
  }
  /// A layer's alone, in all steps.
  const std::string& stem_of(const std::string& layer) {
    const auto [found, is_new] = stems_.emplace(layer, "");
    if (is_new) found->second = first_free(taken_, file_name(layer), "");
    return found->second;
  }
  std::string next(const fs::path& folder, const std::string& stem, const char* extension) {
    std::string path = first_free(files_, folder / stem, extension);
    keep_inputs("out", path, {trace_});
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) fail(Errc::io, "{}: cannot make the folder: {}", folder.string(), error.message());
    return path;
  }
  /// "a.npy", or where that is taken "a-2.npy", "a-3.npy", ...; it is taken then.
  static std::string first_free(std::set<std::string>& taken, const std::string& stem, const char* extension) {
    std::string name = stem + extension;
    for (int i = 2; !taken.insert(name).second; ++i) name = fmt::format("{}-{}{}", stem, i, extension);
    return name;
  }

  std::string trace_;
  std::set<std::string> files_;
  std::map<std::string, std::string> stems_;
  std::set<std::string> taken_;  ///< stems
};

int export_files(const Arguments& arguments) {
  po::options_description description("Options of export", 110, 70);
  auto add = description.add_options();
  add("help,h", "this text");
  add("out", text("DIR"),
      "where a folder step-N goes for each step, of .npy files, named as their layers ('/' is '_'), and perhaps a "
      "table.json; with --step, the files. Names that are taken get a number: layer-2.npy");
  add("step", text("N"), "the only step to export");
  const bool has_trace = !arguments.empty() && !arguments.front().starts_with('-');
  const auto given =
      parse_action(kTraceHelp, description, Arguments(arguments.begin() + (has_trace ? 1 : 0), arguments.end()));
  if (!given) return 0;
  if (!has_trace) throw UsageError("export takes a trace: gradwire trace export FILE --out DIR");
  const fs::path folder = required_output(*given, "out", {});
  const std::optional<std::uint64_t> step = step_of(*given);
  TraceReader reader(arguments.front(), TraceReader::Torn::stop);
  Exported exported(arguments.front());
  while (const std::optional<TraceRecord> record = reader.next()) {
    const std::uint64_t of = std::visit([](const auto& each) { return each.step; }, *record);
    if (step && of != *step) continue;
    const fs::path place = step ? folder : folder / fmt::format("step-{}", of);
    if (const auto* const table = std::get_if<TraceTable>(&*record)) {
      write_text(exported.of_table(place), to_json(table->table) + "\n");
      continue;
    }
    const auto& sample = std::get<TraceSample>(*record);
    AtomicFile file(exported.of_sample(place, sample.name));
    const std::vector<std::size_t> flat{sample.values.size()};
    write_npy(file, sample.shape.empty() ? flat : sample.shape, {sample.values.data(), sample.values.size()});
    file.close();
    file.commit();
  }
  require(exported.count() > 0, "{}: nothing{}", arguments.front(), step ? fmt::format(" of step {}", *step) : "");
  fmt::print("{} files\n", exported.count());
  warn_of_torn_end(arguments.front(), reader);
  return 0;
}

}  // namespace

int run_trace(const Arguments& arguments) {
  if (arguments.empty()) throw UsageError("trace what? info, import, export or record");
  const std::string& action = arguments.front();
  const Arguments rest(arguments.begin() + 1, arguments.end());
  const bool wants_help = !rest.empty() && (rest.front() == "--help" || rest.front() == "-h");
  if (action == "--help" || action == "-h" || (wants_help && (action == "info" || action == "record"))) {
    fmt::print("{}", kTraceHelp);
    return 0;
  }
  if (action == "info") return info(rest);
  if (action == "import") return import(rest);
  if (action == "export") return export_files(rest);
  if (action == "record") return trace_record(rest);
  throw UsageError(fmt::format("unknown action '{}': expected info, import, export or record", action));
}

}  // namespace gradwire::tools
