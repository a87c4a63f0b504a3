#include <fmt/ranges.h>

#include <map>

#include "base/fail.hpp"
#include "plan/table_builder.hpp"

#include "gradwire/trace.hpp"

namespace gradwire {
namespace {

/// Specs, of which `reference` means one; it is added where it does not.
TableBuilder::Layer with_reference(std::span<const std::string> specs, const std::string& reference) {
  TableBuilder::Layer layer;
  layer.specs.assign(specs.begin(), specs.end());
  const Compressor wanted = make_compressor(reference);
  while (layer.reference < specs.size() && make_compressor(specs[layer.reference]).spec() != wanted.spec())
    ++layer.reference;
  if (layer.reference == specs.size()) layer.specs.push_back(reference);
  return layer;
}

}  // namespace

Table measure_trace(TraceReader& reader, std::span<const std::string> specs, std::string_view reference,
                    std::optional<std::uint64_t> step) {
  TableBuilder builder;
  std::map<std::string, std::size_t, std::less<>> places;
  std::vector<std::string> references;
  while (const std::optional<TraceRecord> record = reader.next()) {
    const auto* const sample = std::get_if<TraceSample>(&*record);
    if (sample == nullptr || (step && sample->step != *step)) continue;
    const auto [place, is_new] = places.try_emplace(sample->name, builder.layers().size());
    const std::string wanted = reference.empty() ? sample->reference : std::string(reference);
    try {
      if (is_new) {
        TableBuilder::Layer layer = with_reference(specs, wanted);
        layer.name = sample->name;
        layer.count = sample->values.size();
        layer.shape = sample->shape;
        builder.add_layer(std::move(layer));
        references.push_back(wanted);
      }
      const TableBuilder::Layer& layer = builder.layers()[place->second];
      require(layer.count == sample->values.size() && layer.shape == sample->shape,
              "layer \"{}\": its shape was [{}] ({} elements), and now is [{}] ({})", layer.name,
              fmt::join(layer.shape, ", "), layer.count, fmt::join(sample->shape, ", "), sample->values.size());
      require(references[place->second] == wanted,
              "layer \"{}\": its reference was {}, and now is {}: name one for all, or take one step", layer.name,
              references[place->second], wanted);
      builder.add(place->second, measure_layer(sample->view(), layer.specs, layer.reference));
    } catch (const Error& error) {
      fail(error.code(), "step {}: {}", sample->step, error.what());
    }
  }
  require(!builder.layers().empty(), "the trace has no samples{}", step ? fmt::format(" of step {}", *step) : "");
  return builder.table();
}

}  // namespace gradwire
