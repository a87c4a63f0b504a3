#include <cassert>

#include "compress/device/codecs.hpp"
#include "compress/device/elements.hpp"
#include "compress/device/launch.cuh"

namespace gradwire::device {
namespace {

// A thread a row part: 4 elements beside one another.

template <std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads)
    encode_casts(const Batch<Framed<kernels::CastEncode>, capacity> __grid_constant__ batch) {
  for_each_item(batch, [](const Framed<kernels::CastEncode>& frame, std::size_t item) {
    const std::size_t part = thread_of(item);
    if (part == 0) store_start(frame.job.payload, frame.start);
    if (part < payload_parts(frame.job)) cast_encode_part(frame.job, part);
  });
}

template <std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads)
    decode_casts(const Batch<Framed<kernels::CastDecode>, capacity> __grid_constant__ batch, bool as_input) {
  for_each_item(batch, [&](const Framed<kernels::CastDecode>& frame, std::size_t item) {
    const kernels::CastDecode& job = frame.job;
    const DType from = as_input ? input_dtype(job, frame.start) : job.from;
    const bool is_ours = as_input ? from != kNoDType : has_start(job.payload, frame.start);
    const std::size_t part = thread_of(item);
    if (part < row_parts(job.y.count)) cast_decode_part({job.payload, from, job.y, job.write}, part, is_ours);
  });
}

/// convert() and add(), which have no frame around their input.
template <std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads)
    move_parts(const Batch<kernels::CastDecode, capacity> __grid_constant__ batch) {
  for_each_item(batch, [](const kernels::CastDecode& job, std::size_t item) {
    const std::size_t part = thread_of(item);
    if (part < row_parts(job.y.count)) cast_decode_part(job, part, true);
  });
}

template <std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads)
    copy_parts(const Batch<ops::CopyJob, capacity> __grid_constant__ batch) {
  for_each_item(batch, [](const ops::CopyJob& job, std::size_t item) { copy_part(job, thread_of(item)); });
}

template <std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads)
    scale_add_parts(const Batch<ops::ScaleAdd, capacity> __grid_constant__ batch) {
  for_each_item(batch, [](const ops::ScaleAdd& job, std::size_t item) {
    const std::size_t part = thread_of(item);
    if (part < row_parts(job.x.count)) scale_add_part(job, part);
  });
}

__global__ void __launch_bounds__(kBlockThreads) scale_parts(const Tensor tensor, float factor, std::size_t parts) {
  for (std::size_t part = thread_index(); part < parts; part += thread_count()) scale_part(tensor, factor, part);
}

template <std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads)
    find_non_finite_parts(const Batch<ops::FindNonFinite, capacity> __grid_constant__ batch) {
  for_each_item(batch, [](const ops::FindNonFinite& job, std::size_t item) {
    const std::size_t part = thread_of(item);
    if (part < row_parts(job.x.count) && !is_finite_part(job.x, part))
      *job.flag = 1;  // whoever comes last writes the same
  });
}

/// Blocks for so many parts: none for nothing.
std::size_t blocks_with(std::size_t parts) { return parts == 0 ? 0 : blocks_of(parts); }

}  // namespace

void cast_encode(const JobList<Framed<kernels::CastEncode>>& jobs, StreamRef stream) {
  launch_jobs(
      {"encode_casts", stream}, jobs,
      [](const Framed<kernels::CastEncode>& frame) { return blocks_of(payload_parts(frame.job)); },
      [](auto capacity) { return encode_casts<capacity()>; });
}

void cast_decode(const JobList<Framed<kernels::CastDecode>>& jobs, bool as_input, StreamRef stream) {
  launch_jobs(
      {"decode_casts", stream}, jobs,
      [](const Framed<kernels::CastDecode>& frame) { return blocks_with(row_parts(frame.job.y.count)); },
      [](auto capacity) { return decode_casts<capacity()>; }, as_input);
}

void move(const JobList<kernels::CastDecode>& jobs, StreamRef stream) {
  launch_jobs(
      {"move_parts", stream}, jobs, [](const kernels::CastDecode& job) { return blocks_with(row_parts(job.y.count)); },
      [](auto capacity) { return move_parts<capacity()>; });
}

void copy(const JobList<ops::CopyJob>& jobs, StreamRef stream) {
  launch_jobs(
      {"copy_parts", stream}, jobs,
      [](const ops::CopyJob& job) {
        assert(size_of(job.to.dtype) == 4 || size_of(job.to.dtype) == 2);
        return blocks_with(row_parts(job.to.count));
      },
      [](auto capacity) { return copy_parts<capacity()>; });
}

void scale_add(const JobList<ops::ScaleAdd>& jobs, StreamRef stream) {
  launch_jobs(
      {"scale_add_parts", stream}, jobs, [](const ops::ScaleAdd& job) { return blocks_with(row_parts(job.x.count)); },
      [](auto capacity) { return scale_add_parts<capacity()>; });
}

void scale(Tensor tensor, float factor, StreamRef stream) {
  const std::size_t parts = row_parts(tensor.count);
  launch("scale_parts", scale_parts, parts, stream, tensor, factor, parts);
}

void find_non_finite(const JobList<ops::FindNonFinite>& jobs, StreamRef stream) {
  launch_jobs(
      {"find_non_finite_parts", stream}, jobs,
      [](const ops::FindNonFinite& job) { return blocks_with(row_parts(job.x.count)); },
      [](auto capacity) { return find_non_finite_parts<capacity()>; });
}

}  // namespace gradwire::device
