#include "transport/mpi_half.hpp"

#include "base/half.hpp"
#include "transport/mpi_session.hpp"

namespace gradwire {
namespace {

template <DType dtype>
void add_halves(void* in, void* inout, int* length, MPI_Datatype*) {  // NOLINT: the signature is MPI's
  const auto count = static_cast<std::size_t>(*length);
  for (std::size_t i = 0; i < count; ++i) {
    store_f32(inout, dtype, i, load_f32(in, dtype, i) + load_f32(inout, dtype, i));
  }
}

}  // namespace

MpiSums::MpiSums() {
  constexpr int kCommutes = 1;
  mpi_check(MPI_Op_create(add_halves<DType::f16>, kCommutes, &f16_), "MPI_Op_create");
  mpi_check(MPI_Op_create(add_halves<DType::bf16>, kCommutes, &bf16_), "MPI_Op_create");
}

MpiSums::~MpiSums() {
  if (!mpi_usable()) return;
  MPI_Op_free(&f16_);
  MPI_Op_free(&bf16_);
}

MPI_Datatype MpiSums::type(DType dtype) const noexcept {
  switch (dtype) {
    case DType::f32: return MPI_FLOAT;
    case DType::u8: return MPI_UINT8_T;
    case DType::u32: return MPI_UINT32_T;
    case DType::f16:
    case DType::bf16:
    case DType::u16: break;
  }
  return MPI_UINT16_T;
}

MPI_Op MpiSums::op(DType dtype) const noexcept {
  switch (dtype) {
    case DType::f16: return f16_;
    case DType::bf16: return bf16_;
    default: break;
  }
  return MPI_SUM;
}

}  // namespace gradwire
