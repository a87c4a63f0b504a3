#include "compress/minifloat.hpp"
#include "compress/registry.hpp"

namespace gradwire {

std::vector<RegistryEntry> minifloat_entries() {
  return {
      {{"f8", "f8(format=e4m3,block=128,round=nearest)",
        "format=e4m3|e5m2 block=32..8192 (multiples of 32) round=nearest|stochastic",
        "8-bit floating point with an f32 scale per block",
        "nearest r^2 + a, r = 1/(1+2^(M+1)), a = (B-1)h^2/max^2, h half the subnormal step; stochastic "
        "2^-2M/(4+2^(2-M)) + a",
        "OCP OFP8 1.0, arXiv:2209.05433"},
       make_minifloat},
      {{"mx4", "mx4(round=nearest)", "round=nearest|stochastic", "E2M1 with a power-of-two scale per 32 elements",
        "(1/16 + a)/(1+a), a = (B-1)/256, B <= 32", "OCP MX 1.0, arXiv:2310.10537"},
       make_minifloat},
      {{"mx6", "mx6(format=e2m3,round=nearest)", "format=e2m3|e3m2 round=nearest|stochastic",
        "E2M3 or E3M2 with a power-of-two scale per 32 elements",
        "(s^2 + a)/(1+a), s = 1/16 or 1/8, a = (B-1)/2^12 or /2^18", "OCP MX 1.0, arXiv:2310.10537"},
       make_minifloat},
      {{"mx8", "mx8(format=e4m3,round=nearest)", "format=e4m3|e5m2 round=nearest|stochastic",
        "E4M3 or E5M2 with a power-of-two scale per 32 elements", "1/64: saturation of the largest",
        "OCP MX 1.0, arXiv:2310.10537"},
       make_minifloat},
      {{"nvfp4", "nvfp4(span=2048,round=nearest)", "span=32..8192 (multiples of 32) round=nearest|stochastic",
        "E2M1 with an E4M3 scale per 16 elements and an f32 scale per span",
        "(1/25 + a)/(1+a), a = 15/510; stochastic 1/24 + 15/455", "NVIDIA NVFP4"},
       make_minifloat},
  };
}

}  // namespace gradwire
