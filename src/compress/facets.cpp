#include "gradwire/compressor.hpp"

namespace gradwire {

Sparsifier::~Sparsifier() = default;
IntegerCoder::~IntegerCoder() = default;

}  // namespace gradwire
