#include "compress/sparse/values.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/fail.hpp"
#include "compress/frame.hpp"
#include "compress/isa.hpp"
#include "compress/kernels.hpp"

namespace gradwire::sparse {
ValueCoding::ValueCoding(const Compressor& compressor, std::string_view sparsifier) {
  if (compressor.sparsifier() != nullptr)
    fail(Errc::unsupported, "{} cannot code its values with {}, which is a sparsifier itself", sparsifier,
         compressor.spec());
  if (compressor.low_rank() != nullptr)
    fail(Errc::unsupported, "{} cannot code its values with {}: low rank makes no frames", sparsifier,
         compressor.spec());
  if (compressor.spec() == "none") return;
  kind_ = compressor.spec() == "f16" ? Kind::f16 : compressor.spec() == "bf16" ? Kind::bf16 : Kind::frame;
  compressor_ = compressor;
}

std::string ValueCoding::suffix() const { return compressor_ ? "|" + std::string(compressor_->spec()) : ""; }

std::size_t ValueCoding::max_bytes(std::size_t count) const {
  if (kind_ == Kind::frame) return compressor_->max_frame_size(count, DType::f32);
  return frame::align_up(count * size_of(dtype_of(kind_)));
}

double ValueCoding::error_bound(std::size_t count) const { return compressor_ ? compressor_->error_bound(count) : 0; }

std::size_t ValueCoding::encode(float* values, std::size_t count, Bytes out, const RandomKey& key) const {
  const Tensor tensor{values, count};
  if (kind_ == Kind::frame) {
    const std::size_t bytes = compressor_->encode(tensor, out, {}, key);
    compressor_->decode({out.data, bytes}, tensor, Write::assign);
    return bytes;
  }
  if (count == 0) return 0;
  const std::size_t bytes = max_bytes(count);
  std::memset(out.data + bytes - frame::kAlign, 0, frame::kAlign);
  if (kind_ == Kind::f32) {
    std::memcpy(out.data, values, 4 * count);
    return bytes;
  }
  const auto& kernels = isa::kernels<ElementKernels>();
  kernels.cast_encode({tensor, out.data, dtype_of(kind_), nullptr});
  kernels.cast_decode({out.data, dtype_of(kind_), tensor, Write::assign});
  return bytes;
}

ValueReader::ValueReader(const ValueCoding& coding, std::size_t count, ConstBytes in, std::string_view spec)
    : kind_(coding.kind()), data_(in.data) {
  if (kind_ != ValueCoding::Kind::frame) {
    bytes_ = coding.max_bytes(count);
    if (in.size < bytes_)
      fail(Errc::bad_frame, "{}: values take {} bytes, the frame has {} left", spec, bytes_, in.size);
    const std::byte* const end = in.data + bytes_;
    const std::byte* const padding = in.data + count * size_of(dtype_of(kind_));
    if (!std::all_of(padding, end, [](std::byte byte) { return byte == std::byte{0}; }))
      fail(Errc::bad_frame, "{}: values are followed by bytes that are not zero", spec);
    return;
  }
  static thread_local std::vector<float> decoded;
  if (decoded.size() < count) decoded.resize(count);
  bytes_ = coding.compressor().decode(in, {decoded.data(), count}, Write::assign);
  decoded_ = decoded.data();
}

const float* ValueReader::read(std::size_t first, std::size_t n, float* scratch) const {
  if (decoded_ != nullptr) return decoded_ + first;
  const DType dtype = dtype_of(kind_);
  isa::kernels<ElementKernels>().cast_decode({data_ + first * size_of(dtype), dtype, {scratch, n}, Write::assign});
  return scratch;
}

}  // namespace gradwire::sparse
