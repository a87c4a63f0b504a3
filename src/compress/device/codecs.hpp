#pragma once
#include "compress/device/frame_start.hpp"
#include "compress/device/jobs.hpp"
#include "compress/job_list.hpp"
#include "compress/kernels.hpp"
#include "compress/minifloat_kernels.hpp"
#include "compress/natural_kernels.hpp"
#include "compress/rotate_kernels.hpp"

/// \file The codecs on device memory: jobs as of the families of kernels on hosts, all pointers of the device, payloads
/// behind their frame's first 16 bytes and at multiples of 16. Calls only launch, in the order of the stream; they
/// throw Errc::device where that fails, and Errc::unsupported in a build without CUDA.
///
/// Encoders also write a frame's start. NaN and Inf cannot be refused, as nobody waits: they are coded so that decoding
/// gives NaN (of a whole bucket, where elements share a scale), and residuals are NaN there. Decoders that do not find
/// it in front of a payload give NaN for everything.
namespace gradwire::device {

/// A list of jobs is one launch, or as few as its parameters allow (two where scales are found apart); one job is a
/// list too. All jobs of a list are of one codec with the same options.

void cast_encode(const JobList<Framed<kernels::CastEncode>>& jobs, StreamRef stream);
/// `as_input`: starts are of any dtype, and payloads of that which their own first bytes name (`from` is not used).
void cast_decode(const JobList<Framed<kernels::CastDecode>>& jobs, bool as_input, StreamRef stream);

void quantize_encode(const JobList<QuantizeEncodeRun>& jobs, StreamRef stream);
void quantize_decode(const JobList<QuantizeDecodeRun>& jobs, StreamRef stream);

/// An owner's step of scatter_reduce in one kernel: sums, and what encoding them leaves. A frame that has another start
/// makes all of its sum NaN. Throws Errc::unsupported for buckets that are no multiples of 128 elements, norms that are
/// sums, and x that is not f32.
void quantize_sum(const JobList<QuantizeSum>& jobs, const SumMessages& messages, StreamRef stream);

/// NaN and Inf have a code of their own (0x80: docs/wire-format.md 1.4), so that only these elements become NaN, and no
/// thread writes for another.
void natural_encode(const JobList<Framed<kernels::NaturalEncode>>& jobs, StreamRef stream);
void natural_decode(const JobList<Framed<kernels::NaturalDecode>>& jobs, StreamRef stream);

void minifloat_encode(const JobList<Framed<kernels::MinifloatEncode>>& jobs, StreamRef stream);
void minifloat_decode(const JobList<Framed<kernels::MinifloatDecode>>& jobs, StreamRef stream);

/// y = H D x / sqrt(size) of each block, and what the payload starts with, but for factors. Elements that a host
/// refuses make their block NaN.
void rotate_forward(const Rotation& rotation, ConstTensor x, const kernels::SignKey& signs, float* y,
                    std::byte* payload, const FrameStart& start, StreamRef stream);
/// Each block of y, clamped to `clip` times its root mean square. `out` may not be y.
void rotate_clip(const Rotation& rotation, const float* y, float clip, float* out, StreamRef stream);
/// Each block's factor, into the payload: q is what the inner compressor makes of y.
void rotate_factors(const Rotation& rotation, const float* y, const float* q, bool unbiased, std::byte* payload,
                    StreamRef stream);
/// y = D H q, or its sum with it, with signs and factors out of the payload.
void rotate_decode(const Rotation& rotation, const float* q, Tensor y, Write write, const std::byte* payload,
                   const FrameStart& expected, StreamRef stream);
/// residual = x - D H q; it may be x.
void rotate_residual(const Rotation& rotation, const float* q, ConstTensor x, float* residual, const std::byte* payload,
                     const FrameStart& start, StreamRef stream);

/// rotate_forward() without factors, encoding of all whole spans, and rotate_residual() of them unless residual is
/// null, at once. `frames`: the first of theirs, with its first 16 bytes. Throws Errc::unsupported unless
/// can_rotate_and_quantize().
void rotate_quantize_encode(const Rotation& rotation, ConstTensor x, const kernels::SignKey& signs,
                            const RotatedSpans& spans, std::byte* frames, const RandomKey& key, float* residual,
                            std::byte* payload, const FrameStart& start, StreamRef stream);
/// Decoding of all whole spans, and rotate_decode() of them.
void rotate_quantize_decode(const Rotation& rotation, const RotatedSpans& spans, const std::byte* frames, Tensor y,
                            Write write, const std::byte* payload, const FrameStart& expected, StreamRef stream);

// What has no frame: the loops of vector_ops.

/// Any dtypes; y is what the payload is, or its sum with it.
void move(const JobList<kernels::CastDecode>& jobs, StreamRef stream);
void copy(const JobList<ops::CopyJob>& jobs, StreamRef stream);
void scale_add(const JobList<ops::ScaleAdd>& jobs, StreamRef stream);
/// In place, in its own dtype.
void scale(Tensor tensor, float factor, StreamRef stream);
void find_non_finite(const JobList<ops::FindNonFinite>& jobs, StreamRef stream);

}  // namespace gradwire::device
