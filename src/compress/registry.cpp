#include "compress/registry.hpp"

#include <fmt/ranges.h>

#include <string>

#include "base/fail.hpp"
#include "compress/zstd.hpp"

namespace gradwire {
namespace {

/// Specs inside specs are made by recursion, and no meaningful one goes so deep.
constexpr std::size_t kMaxNesting = 16;

bool is_short_quantize(std::string_view name) {
  return name.size() == 2 && name[0] == 'q' && name[1] >= '1' && name[1] <= '8';
}

/// "zstd" where a stage that makes frames should be.
Compressor refuse_zstd(const Spec& spec) {
  fail(Errc::invalid_argument, "compressor \"{}\": zstd stands behind another compressor, as in q4|zstd", spec.text);
}

const std::vector<RegistryEntry>& entries() {
  static const std::vector<RegistryEntry> all = [] {
    std::vector<RegistryEntry> rows;
    for (const auto family :
         {quantiser_entries, minifloat_entries, rotation_entries, sparse_entries, low_rank_entries}) {
      for (RegistryEntry& row : family()) rows.push_back(std::move(row));
    }
    rows.push_back({{"zstd", "none|zstd(level=1,split=bytes)", "level=1..19 split=bytes|none",
                     "a lossless stage behind any compressor; floats are split into planes of bytes",
                     "that of what it stands behind", "RFC 8878"},
                    refuse_zstd});
    return rows;
  }();
  return all;
}

Compressor make_stage(std::string_view text) {
  const Spec spec = parse_spec(text);
  if (is_short_quantize(spec.name)) return make_short_quantize(spec);
  std::vector<std::string> names;
  for (const RegistryEntry& entry : entries()) {
    if (entry.info.name == spec.name) return entry.make(spec);
    if (names.empty() || names.back() != entry.info.name) names.push_back(entry.info.name);
  }
  fail(Errc::invalid_argument, "compressor \"{}\": unknown name {}; accepted: {}, q1..q8", text, spec.name,
       fmt::join(names, ", "));
}

}  // namespace

Compressor make_compressor(std::string_view text) {
  require(nesting_depth(text) <= kMaxNesting, "compressor \"{}...\": parentheses nest {} deep; accepted: up to {}",
          text.substr(0, 40), nesting_depth(text), kMaxNesting);
  const std::vector<std::string_view> stages = split_stages(text);
  Compressor compressor = make_stage(stages.front());
  for (std::size_t i = 1; i < stages.size(); ++i) {
    if (const Spec spec = parse_spec(stages[i]); spec.name == "zstd") {
      require(i + 1 == stages.size(), "compressor \"{}\": nothing can stand behind {}", text, stages[i]);
      return make_zstd(spec, compressor);
    }
    const Compressor next = make_stage(stages[i]);
    const Sparsifier* const sparsifier = compressor.sparsifier();
    require(sparsifier != nullptr, "compressor \"{}\": {} cannot stand behind {}, which is no sparsifier", text,
            stages[i], stages[i - 1]);
    compressor = sparsifier->with_values(next);
  }
  return compressor;
}

std::vector<CompressorInfo> list_compressors() {
  std::vector<CompressorInfo> rows;
  for (const RegistryEntry& entry : entries()) rows.push_back(entry.info);
  return rows;
}

}  // namespace gradwire
