#include "compress/registry.hpp"
#include "compress/rotate.hpp"
#include "compress/thc.hpp"

namespace gradwire {

std::vector<RegistryEntry> rotation_entries() {
  return {
      {{"rotate", "rotate(inner=quantize(bits=4,bucket=512,norm=linf,round=nearest),block=4096,scale=none,clip=0)",
        "inner=a quantiser block=32..8192 (powers of two) scale=none|contractive|unbiased clip=0..64 (0: no)",
        "a randomised Hadamard transform before a quantiser: low bits for heavy tails",
        "(sqrt(b)+2^-19)^2, b = the inner's; linf: min(b, (ln 2B + 1)/(2L^2)); contractive q1 of whole blocks 1/2; "
        "unbiased b/(1-b), at most 3",
        "DRIVE, arXiv:2105.08339; EDEN, arXiv:2108.08842"},
       make_rotate},
      {{"thc", "thc(bits=4,block=4096,p=0.03125)", "bits=1..8 block=32..8192 (powers of two) p=1e-06..0.5",
        "integers of clipped, rotated values, which integer_sum adds without decoding",
        "(sqrt(c + T^2/(2^bits-1)^2) + 2^-19)^2, T = Phi^-1(1-p/2), c = 4(exp(-T^2/2) - T sqrt(2 pi) p/2)",
        "THC, arXiv:2302.08545"},
       make_thc},
  };
}

}  // namespace gradwire
