#include "compress/device/codecs.hpp"
#include "compress/device/elements.hpp"
#include "compress/device/launch.cuh"

namespace gradwire::device {
namespace {

// A thread a row part: 4 elements beside one another.

__global__ void __launch_bounds__(kBlockThreads)
    encode_casts(const kernels::CastEncode job, const FrameStart start, std::size_t parts) {
  if (blockIdx.x == 0 && threadIdx.x == 0) store_start(job.payload, start);
  for (std::size_t part = thread_index(); part < parts; part += thread_count()) cast_encode_part(job, part);
}

__global__ void __launch_bounds__(kBlockThreads)
    decode_casts(const kernels::CastDecode job, const FrameStart expected, bool as_input, std::size_t parts) {
  const DType from = as_input ? input_dtype(job, expected) : job.from;
  const bool is_ours = as_input ? from != kNoDType : has_start(job.payload, expected);
  for (std::size_t part = thread_index(); part < parts; part += thread_count())
    cast_decode_part({job.payload, from, job.y, job.write}, part, is_ours);
}

/// convert() and add(), which have no frame around their input.
__global__ void __launch_bounds__(kBlockThreads) move_parts(const kernels::CastDecode job, std::size_t parts) {
  for (std::size_t part = thread_index(); part < parts; part += thread_count()) cast_decode_part(job, part, true);
}

__global__ void __launch_bounds__(kBlockThreads) scale_add_parts(const kernels::ScaleAdd job, std::size_t parts) {
  for (std::size_t part = thread_index(); part < parts; part += thread_count()) scale_add_part(job, part);
}

__global__ void __launch_bounds__(kBlockThreads) scale_parts(const Tensor tensor, float factor, std::size_t parts) {
  for (std::size_t part = thread_index(); part < parts; part += thread_count()) scale_part(tensor, factor, part);
}

__global__ void __launch_bounds__(kBlockThreads)
    find_non_finite_parts(const ConstTensor x, std::uint32_t* flag, std::size_t parts) {
  bool all = true;
  for (std::size_t part = thread_index(); part < parts; part += thread_count()) all = is_finite_part(x, part) && all;
  if (!all) *flag = 1;  // whoever comes last writes the same
}

}  // namespace

void cast_encode(const kernels::CastEncode& job, const FrameStart& start, StreamRef stream) {
  const std::size_t parts = payload_parts(job);
  launch("encode_casts", encode_casts, parts, stream, job, start, parts);
}

void cast_decode(const kernels::CastDecode& job, const FrameStart& expected, bool as_input, StreamRef stream) {
  const std::size_t parts = row_parts(job.y.count);
  launch("decode_casts", decode_casts, parts, stream, job, expected, as_input, parts);
}

void move(ConstTensor from, Tensor to, Write write, StreamRef stream) {
  const kernels::CastDecode job{static_cast<const std::byte*>(from.data), from.dtype, to, write};
  const std::size_t parts = row_parts(to.count);
  launch("move_parts", move_parts, parts, stream, job, parts);
}

void scale_add(const kernels::ScaleAdd& job, StreamRef stream) {
  const std::size_t parts = row_parts(job.x.count);
  launch("scale_add_parts", scale_add_parts, parts, stream, job, parts);
}

void scale(Tensor tensor, float factor, StreamRef stream) {
  const std::size_t parts = row_parts(tensor.count);
  launch("scale_parts", scale_parts, parts, stream, tensor, factor, parts);
}

void find_non_finite(ConstTensor x, std::uint32_t* flag, StreamRef stream) {
  const std::size_t parts = row_parts(x.count);
  launch("find_non_finite_parts", find_non_finite_parts, parts, stream, x, flag, parts);
}

}  // namespace gradwire::device
