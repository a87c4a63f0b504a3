#pragma once
#include <vector>

#include "compress/spec.hpp"

#include "gradwire/compressor.hpp"

namespace gradwire {

/// A name that specs may start with.
struct RegistryEntry {
  CompressorInfo info;
  Compressor (*make)(const Spec&);
};

// What each family brings: a new compressor is a row in one of these.
[[nodiscard]] std::vector<RegistryEntry> quantiser_entries();
[[nodiscard]] std::vector<RegistryEntry> minifloat_entries();
[[nodiscard]] std::vector<RegistryEntry> rotation_entries();
[[nodiscard]] std::vector<RegistryEntry> sparse_entries();
[[nodiscard]] std::vector<RegistryEntry> low_rank_entries();

/// quantize of the spec's options after bits: "q4(bucket=256)".
[[nodiscard]] Compressor make_short_quantize(const Spec& spec);

}  // namespace gradwire
