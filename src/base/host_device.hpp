#pragma once

/// Functions that device code calls too (docs/adr/0010). constexpr functions need no mark: nvcc is told to take them.
#ifdef __CUDACC__
#define GRADWIRE_HD __host__ __device__
#else
#define GRADWIRE_HD
#endif

/// Before a loop of few steps over an array that is to stay in a device's registers.
#ifdef __CUDA_ARCH__
#define GRADWIRE_UNROLL _Pragma("unroll")
#else
#define GRADWIRE_UNROLL
#endif
