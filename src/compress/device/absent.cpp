// A build without CUDA.
#include "base/device.hpp"
#include "base/fail.hpp"
#include "compress/device/codecs.hpp"

namespace gradwire::device {
namespace {
[[noreturn]] void refuse() { fail(Errc::unsupported, "{}", problem()); }
}  // namespace

void quantize_encode(const kernels::QuantizeEncode&, const FrameStart&, StreamRef) { refuse(); }
void quantize_decode(const kernels::QuantizeDecode&, const FrameStart&, StreamRef) { refuse(); }
void quantize_sum(const QuantizeSum&, const FrameStart&, StreamRef) { refuse(); }

}  // namespace gradwire::device
