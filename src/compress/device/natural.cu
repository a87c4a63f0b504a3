#include "compress/device/codecs.hpp"
#include "compress/device/launch.cuh"
#include "compress/device/natural_tile.hpp"

namespace gradwire::device {
namespace {

// A thread a tile.

template <std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads)
    encode_natural(const Batch<Framed<kernels::NaturalEncode>, capacity> __grid_constant__ batch) {
  for_each_item(batch, [](const Framed<kernels::NaturalEncode>& frame, std::size_t item) {
    const std::size_t tile = thread_of(item);
    if (tile == 0) store_start(reinterpret_cast<std::byte*>(frame.job.codes), frame.start);
    if (tile < NaturalTile::count(frame.job.x.count)) encode_tile(frame.job, tile);
  });
}

template <std::size_t capacity>
__global__ void __launch_bounds__(kBlockThreads)
    decode_natural(const Batch<Framed<kernels::NaturalDecode>, capacity> __grid_constant__ batch) {
  for_each_item(batch, [](const Framed<kernels::NaturalDecode>& frame, std::size_t item) {
    const kernels::NaturalDecode& job = frame.job;
    const bool is_ours = has_start(reinterpret_cast<const std::byte*>(job.codes), frame.start);
    const std::size_t tile = thread_of(item);
    if (tile >= NaturalTile::count(job.y.count)) return;
    if (is_ours) {
      decode_tile(job, tile);
    } else {
      spoil_row(job.y, tile * NaturalTile::kElems, NaturalTile::size(job.y.count, tile));
    }
  });
}

}  // namespace

void natural_encode(const JobList<Framed<kernels::NaturalEncode>>& jobs, StreamRef stream) {
  launch_jobs(
      {"encode_natural", stream}, jobs,
      [](const Framed<kernels::NaturalEncode>& frame) { return blocks_of(NaturalTile::count(frame.job.x.count)); },
      [](auto capacity) { return encode_natural<capacity()>; });
}

void natural_decode(const JobList<Framed<kernels::NaturalDecode>>& jobs, StreamRef stream) {
  launch_jobs(
      {"decode_natural", stream}, jobs,
      [](const Framed<kernels::NaturalDecode>& frame) { return blocks_of(NaturalTile::count(frame.job.y.count)); },
      [](auto capacity) { return decode_natural<capacity()>; });
}

}  // namespace gradwire::device
