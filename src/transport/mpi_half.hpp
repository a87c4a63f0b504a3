#pragma once
#include <mpi.h>

#include "gradwire/types.hpp"

namespace gradwire {

/// MPI's datatype and operation for summing tensors of each dtype: its own for f32 and the unsigned integers. MPI has
/// no 16-bit floats, so those are summed by operations of ours: widened to f32, added, rounded to nearest even.
class MpiSums {
 public:
  MpiSums();
  MpiSums(const MpiSums&) = delete;
  MpiSums& operator=(const MpiSums&) = delete;
  ~MpiSums();

  [[nodiscard]] MPI_Datatype type(DType dtype) const noexcept;
  [[nodiscard]] MPI_Op op(DType dtype) const noexcept;

 private:
  MPI_Op f16_ = MPI_OP_NULL;
  MPI_Op bf16_ = MPI_OP_NULL;
};

}  // namespace gradwire
