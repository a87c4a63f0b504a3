// A build without CUDA.
#include "base/device.hpp"
#include "base/fail.hpp"
#include "compress/device/codecs.hpp"
#include "compress/device/factor.hpp"
#include "compress/device/integer_codes.hpp"
#include "compress/device/sparse.hpp"
#include "compress/device/statistics.hpp"

namespace gradwire::device {
namespace {
[[noreturn]] void refuse() { fail(Errc::unsupported, "no device memory: {}", problem()); }
}  // namespace

void cast_encode(const JobList<Framed<kernels::CastEncode>>&, StreamRef) { refuse(); }
void cast_decode(const JobList<Framed<kernels::CastDecode>>&, bool, StreamRef) { refuse(); }
void quantize_encode(const JobList<QuantizeEncodeRun>&, StreamRef) { refuse(); }
void quantize_decode(const JobList<QuantizeDecodeRun>&, StreamRef) { refuse(); }
void quantize_sum(const JobList<QuantizeSum>&, const SumMessages&, StreamRef) { refuse(); }
void natural_encode(const JobList<Framed<kernels::NaturalEncode>>&, StreamRef) { refuse(); }
void natural_decode(const JobList<Framed<kernels::NaturalDecode>>&, StreamRef) { refuse(); }
void minifloat_encode(const JobList<Framed<kernels::MinifloatEncode>>&, StreamRef) { refuse(); }
void minifloat_decode(const JobList<Framed<kernels::MinifloatDecode>>&, StreamRef) { refuse(); }
void rotate_forward(const Rotation&, ConstTensor, const kernels::SignKey&, float*, std::byte*, const FrameStart&,
                    StreamRef) {
  refuse();
}
void rotate_clip(const Rotation&, const float*, float, float*, StreamRef) { refuse(); }
void rotate_factors(const Rotation&, const float*, const float*, bool, std::byte*, StreamRef) { refuse(); }
void rotate_decode(const Rotation&, const float*, Tensor, Write, const std::byte*, const FrameStart&, StreamRef) {
  refuse();
}
void rotate_residual(const Rotation&, const float*, ConstTensor, float*, const std::byte*, const FrameStart&,
                     StreamRef) {
  refuse();
}
void rotate_quantize_encode(const Rotation&, ConstTensor, const kernels::SignKey&, const RotatedSpans&, std::byte*,
                            const RandomKey&, float*, std::byte*, const FrameStart&, StreamRef) {
  refuse();
}
void rotate_quantize_decode(const Rotation&, const RotatedSpans&, const std::byte*, Tensor, Write, const std::byte*,
                            const FrameStart&, StreamRef) {
  refuse();
}
void move(const JobList<kernels::CastDecode>&, StreamRef) { refuse(); }
void copy(const JobList<ops::CopyJob>&, StreamRef) { refuse(); }
void scale_add(const JobList<ops::ScaleAdd>&, StreamRef) { refuse(); }
void scale(Tensor, float, StreamRef) { refuse(); }
void find_non_finite(const JobList<ops::FindNonFinite>&, StreamRef) { refuse(); }

void sparse_encode(const SparseEncode&, const FrameStart&, const CodeValues&, StreamRef) { refuse(); }
void sparse_decode(const SparseDecode&, const FrameStart&, const ReadValues&, StreamRef) { refuse(); }

void times(std::span<const kernels::MatrixTimes>, StreamRef) { refuse(); }
void transposed_times(std::span<const kernels::MatrixTimes>, StreamRef) { refuse(); }
void expand(std::span<const kernels::ExpandJob>, StreamRef) { refuse(); }
void orthonormalise(std::span<const kernels::OrthonormaliseJob>, StreamRef) { refuse(); }

void largest_of_rows(const float*, std::size_t, std::size_t, Tensor, StreamRef) { refuse(); }
void thc_ranges(const ThcBlocks&, ConstTensor, float*, StreamRef) { refuse(); }
void thc_encode(const ThcBlocks&, ConstTensor, const float*, const RandomKey&, Tensor, StreamRef) { refuse(); }
void thc_residual(const ThcBlocks&, ConstTensor, const float*, ConstTensor, float*, StreamRef) { refuse(); }
void thc_decode(const ThcBlocks&, ConstTensor, std::int32_t, const float*, Tensor, StreamRef) { refuse(); }
void draw_values(const DrawnValues&, ConstTensor, float*, float*, StreamRef) { refuse(); }
void put_values(const DrawnValues&, const float*, Tensor, StreamRef) { refuse(); }
void find_norms(ConstTensor, float, Norms*, StreamRef) { refuse(); }
void find_quantize_losses(const QuantizeLosses&, StreamRef) { refuse(); }
void find_selection_losses(const SelectionLosses&, StreamRef) { refuse(); }

}  // namespace gradwire::device
