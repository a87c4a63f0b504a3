#pragma once

/// Functions that device code calls too (docs/adr/0010). constexpr functions need no mark: nvcc is told to take them.
#ifdef __CUDACC__
#define GRADWIRE_HD __host__ __device__
/// Before a loop of few steps over an array that is to stay in registers.
#define GRADWIRE_UNROLL _Pragma("unroll")
#else
#define GRADWIRE_HD
#define GRADWIRE_UNROLL
#endif
