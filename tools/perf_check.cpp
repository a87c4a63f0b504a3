#include "perf_check.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "base/half.hpp"
#include "ranks.hpp"
#include "transfer_buffer.hpp"

namespace gradwire::tools {
namespace {

constexpr std::size_t kGatheredElems = std::size_t{4} << 20;  // what rank 0 holds of all ranks at a time

double largest(ConstTensor values) {
  double largest = 0;
  if (values.data == nullptr) return 0;
  for (std::size_t i = 0; i < values.count; ++i) {
    largest = std::max(largest, std::abs(double{load_f32(values.data, values.dtype, i)}));
  }
  return largest;
}

/// Collective; on rank 0 the bound of perf_check.hpp.
double tolerance(const Communicator& comm, const CheckedTensors& mine, Deadline deadline) {
  const double local = largest(mine.input) + largest(mine.residual);
  double scale = 0;
  for (const double each : gather_values(comm, std::span(&local, 1), deadline)) scale += each;
  const double ranks = comm.size();
  double bound = (ranks + 2) * 0x1p-22 * scale;
  if (mine.backend_sums && mine.input.dtype == DType::f16) bound += ranks * 0x1p-11 * scale;
  if (mine.backend_sums && mine.input.dtype == DType::bf16) bound += ranks * 0x1p-8 * scale;
  return bound;
}

/// How one rank sends a piece of its tensors: input, result, residual, one after another.
struct PieceLayout {
  PieceLayout(DType dtype_, std::size_t count_) : dtype(dtype_), count(count_) {}
  [[nodiscard]] std::size_t bytes() const { return count * (2 * size_of(dtype) + sizeof(float)); }
  [[nodiscard]] const std::byte* input(const std::byte* piece) const { return piece; }
  [[nodiscard]] const std::byte* result(const std::byte* piece) const { return piece + count * size_of(dtype); }
  [[nodiscard]] const std::byte* residual(const std::byte* piece) const { return piece + 2 * count * size_of(dtype); }

  void pack(const CheckedTensors& mine, std::size_t first, std::byte* piece) const {
    const std::size_t tensor_bytes = count * size_of(dtype);
    std::memcpy(piece, mine.input.slice(first, count).data, tensor_bytes);
    std::memcpy(piece + tensor_bytes, mine.result.slice(first, count).data, tensor_bytes);
    if (mine.residual.data == nullptr) {
      std::memset(piece + 2 * tensor_bytes, 0, count * sizeof(float));
    } else {
      std::memcpy(piece + 2 * tensor_bytes, mine.residual.slice(first, count).data, count * sizeof(float));
    }
  }

  DType dtype;
  std::size_t count;
};

/// Rank 0's judgement, piece after piece.
class Judge {
 public:
  Judge(bool lossless, double tolerance) : lossless_(lossless), tolerance_(tolerance) {}

  void judge(const std::byte* pieces, std::size_t ranks, const PieceLayout& layout) {
    const std::size_t width = size_of(layout.dtype);
    for (std::size_t i = 0; i < layout.count; ++i) {
      double exact = 0, owed = 0;
      bool differs = false;
      for (std::size_t rank = 0; rank < ranks; ++rank) {
        const std::byte* const piece = pieces + rank * layout.bytes();
        exact += double{load_f32(layout.input(piece), layout.dtype, i)};
        owed += double{load_f32(layout.residual(piece), DType::f32, i)};
        differs |= std::memcmp(layout.result(piece) + i * width, layout.result(pieces) + i * width, width) != 0;
      }
      add(exact, double{load_f32(layout.result(pieces), layout.dtype, i)}, owed, differs);
    }
  }

  [[nodiscard]] CheckResult verdict() const {
    if (squared_error_ == 0) return {0, wrong_};
    return {std::sqrt(squared_error_ / squared_sum_), wrong_};
  }

 private:
  void add(double exact, double result, double owed, bool differs) {
    const double error = exact - result;
    const bool conserved = std::abs(error - owed) <= tolerance_;  // false for NaN
    const bool close = !lossless_ || std::abs(error) <= tolerance_;
    if (differs || !conserved || !close) ++wrong_;
    squared_error_ += error * error;
    squared_sum_ += exact * exact;
  }

  bool lossless_;
  double tolerance_;
  double squared_error_ = 0;
  double squared_sum_ = 0;
  std::uint64_t wrong_ = 0;
};

}  // namespace

CheckResult check(const Communicator& comm, const CheckedTensors& mine, Deadline deadline) {
  const auto ranks = static_cast<std::size_t>(comm.size());
  const bool root = comm.rank() == 0;
  const std::size_t piece_elems = std::max<std::size_t>(kGatheredElems / ranks, 1024);
  const PieceLayout largest_piece(mine.input.dtype, std::min(piece_elems, mine.input.count));
  const TransferBuffer packed(largest_piece.bytes());
  const TransferBuffer gathered(root ? ranks * largest_piece.bytes() : 0);

  Judge judge(mine.lossless, tolerance(comm, mine, deadline));
  for (std::size_t first = 0; first < mine.input.count; first += piece_elems) {
    const PieceLayout piece(mine.input.dtype, std::min(piece_elems, mine.input.count - first));
    piece.pack(mine, first, packed->data());
    gather(comm, packed->bytes().slice(0, piece.bytes()), gathered->bytes(), deadline);
    if (root) judge.judge(gathered->data(), ranks, piece);
  }
  return root ? judge.verdict() : CheckResult{};
}

}  // namespace gradwire::tools
