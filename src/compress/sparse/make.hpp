#pragma once
#include "compress/spec.hpp"

#include "gradwire/compressor.hpp"

/// \file Sparsifiers from their text specs.
namespace gradwire::sparse {

Compressor make_topk(const Spec& spec);
Compressor make_threshold(const Spec& spec);
Compressor make_randomk(const Spec& spec);
Compressor make_block_topk(const Spec& spec);
Compressor make_adaptive_threshold(const Spec& spec);

}  // namespace gradwire::sparse
