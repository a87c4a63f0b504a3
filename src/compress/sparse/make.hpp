#pragma once
#include "compress/spec.hpp"

#include "gradwire/compressor.hpp"

/// \file Sparsifiers from their text specs.
namespace gradwire::sparse {

Compressor make_topk(const Spec& spec);

}  // namespace gradwire::sparse
