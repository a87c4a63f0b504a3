#include "compress/device/codecs.hpp"
#include "compress/device/launch.cuh"
#include "compress/device/natural_tile.hpp"

namespace gradwire::device {
namespace {

/// A thread a tile.
__global__ void __launch_bounds__(kBlockThreads)
    encode_natural(const kernels::NaturalEncode job, const FrameStart start, std::size_t tiles) {
  if (thread_index() == 0) store_start(reinterpret_cast<std::byte*>(job.codes), start);
  for (std::size_t tile = thread_index(); tile < tiles; tile += thread_count()) encode_tile(job, tile);
}

__global__ void __launch_bounds__(kBlockThreads)
    decode_natural(const kernels::NaturalDecode job, const FrameStart expected, std::size_t tiles) {
  const bool is_ours = has_start(reinterpret_cast<const std::byte*>(job.codes), expected);
  for (std::size_t tile = thread_index(); tile < tiles; tile += thread_count()) {
    if (is_ours) {
      decode_tile(job, tile);
    } else {
      spoil_row(job.y, tile * NaturalTile::kElems, NaturalTile::size(job.y.count, tile));
    }
  }
}

}  // namespace

void natural_encode(const kernels::NaturalEncode& job, const FrameStart& start, StreamRef stream) {
  const std::size_t tiles = NaturalTile::count(job.x.count);
  launch("encode_natural", encode_natural, tiles, stream, job, start, tiles);
}

void natural_decode(const kernels::NaturalDecode& job, const FrameStart& expected, StreamRef stream) {
  const std::size_t tiles = NaturalTile::count(job.y.count);
  launch("decode_natural", decode_natural, tiles, stream, job, expected, tiles);
}

}  // namespace gradwire::device
