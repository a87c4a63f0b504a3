#pragma once
#include <cstddef>
#include <cstdint>

#include "base/cuda.hpp"
#include "compress/device/quantize_tile.hpp"
#include "compress/kernels.hpp"

/// \file The quantisers on device memory: the bytes of QuantizeKernels. All pointers of a job are of the device,
/// payloads at multiples of 16 bytes; codes packed as trits are not for devices. Calls only launch; they throw
/// Errc::device where that fails.
namespace gradwire::device {

inline constexpr std::uint32_t kNoBadBucket = 0xffff'ffff;

/// Device memory that encoding needs beside the job's, at a multiple of 16 bytes: 0 for buckets of 128 elements and
/// multiples.
[[nodiscard]] std::size_t quantize_scratch_bytes(const QuantizeParams& params, std::size_t count) noexcept;

/// `first_bad`, of the device: becomes the first bucket without a finite scale, if there is one; kNoBadBucket before.
/// The payload is of no use then.
void quantize_encode(const kernels::QuantizeEncode& job, std::byte* scratch, std::uint32_t* first_bad,
                     cudaStream_t stream);
/// An owner's step of scatter_reduce in one kernel: the sum, and what encoding it leaves. `payloads` and what they
/// point to are of the device. Throws Errc::unsupported for buckets that are no multiples of 128 elements, norms that
/// are sums, and x that is not f32.
void quantize_sum(const QuantizeSum& sum, std::uint32_t* first_bad, cudaStream_t stream);
void quantize_decode(const kernels::QuantizeDecode& job, cudaStream_t stream);

}  // namespace gradwire::device
