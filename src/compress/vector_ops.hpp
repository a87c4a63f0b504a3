#pragma once
#include <cstddef>

#include "compress/element_jobs.hpp"
#include "compress/job_list.hpp"

#include "gradwire/compressor.hpp"

/// \file Loops over elements that layers above need. Any dtype unless noted; counts must be equal. Those that take a
/// stream take memory of a device too, all of their arguments there, in the order of the stream.
namespace gradwire::ops {

void zero(Tensor to, StreamRef stream);
/// Of one dtype.
void copy(ConstTensor from, Tensor to, StreamRef stream);
/// To nearest even; finite values beyond the target's range saturate. `to` must not overlap `from`.
void convert(ConstTensor from, Tensor to, StreamRef stream);
/// y += x.
void add(ConstTensor x, Tensor y, StreamRef stream);
/// out = x * scale + addend, each rounded on its own; the latter two are f32.
void scale_add(ConstTensor x, float scale, ConstTensor addend, Tensor out, StreamRef stream);
/// tensor *= factor, in its own dtype.
void scale(Tensor tensor, float factor, StreamRef stream);
/// Common ranges (IntegerCoder): each of `to` (f32) is the largest of its column, of `rows` rows of as many floats,
/// `pitch` floats apart. `to` may be one of them; NaN is the largest.
void largest_of_rows(const float* first, std::size_t rows, std::size_t pitch, Tensor to, StreamRef stream);

// Device memory only, all jobs in one launch or a few (device/batch.hpp); none may write what another reads or writes.

void copy_all(const JobList<CopyJob>& jobs, StreamRef stream);
void convert_all(const JobList<Convert>& jobs, StreamRef stream);
/// The same, added to what is there.
void add_all(const JobList<Convert>& jobs, StreamRef stream);
void scale_add_all(const JobList<ScaleAdd>& jobs, StreamRef stream);
/// Flags become 1 where x holds NaN or Inf, and are left else.
void find_non_finite(const JobList<FindNonFinite>& jobs, StreamRef stream);

// Host memory only.

/// out = x * scale + addend, each rounded on its own; null `addend` means none. `out` may be x (when f32) or addend.
void scale_add(ConstTensor x, float scale, const float* addend, float* out);

/// To nearest even; finite values beyond the target's range saturate. `to` must not overlap `from`.
void convert(ConstTensor from, Tensor to);

/// y += x.
void add(const float* x, float* y, std::size_t n);

[[nodiscard]] bool all_finite(ConstTensor x);

/// Accumulated in double, in an order that does not depend on the instruction set.
[[nodiscard]] double sum_squares(const float* x, std::size_t n);

/// The elements of largest magnitude, ties going to the lower index, in ascending order of place: as many as `out` has
/// room for, fewer where fewer are not zero. Throws Errc::non_finite where any element is
/// (and there is room).
[[nodiscard]] Entries select_largest(ConstTensor x, Entries out);

}  // namespace gradwire::ops
