// A build without CUDA.
#include "base/device.hpp"
#include "base/fail.hpp"
#include "compress/device/codecs.hpp"
#include "compress/device/sparse.hpp"

namespace gradwire::device {
namespace {
[[noreturn]] void refuse() { fail(Errc::unsupported, "{}", problem()); }
}  // namespace

void quantize_encode(const kernels::QuantizeEncode&, const FrameStart&, StreamRef) { refuse(); }
void quantize_decode(const kernels::QuantizeDecode&, const FrameStart&, StreamRef) { refuse(); }
void quantize_sum(const QuantizeSum&, const FrameStart&, StreamRef) { refuse(); }

void sparse_encode(const SparseEncode&, const FrameStart&, const CodeValues&, StreamRef) { refuse(); }
void sparse_decode(const SparseDecode&, const FrameStart&, const ReadValues&, StreamRef) { refuse(); }

}  // namespace gradwire::device
