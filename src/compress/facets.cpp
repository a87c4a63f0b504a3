#include "gradwire/compressor.hpp"

namespace gradwire {

Sparsifier::~Sparsifier() = default;
SumEncoder::~SumEncoder() = default;
BatchCodec::~BatchCodec() = default;
StepMemory::~StepMemory() = default;
IntegerCoder::~IntegerCoder() = default;

}  // namespace gradwire
