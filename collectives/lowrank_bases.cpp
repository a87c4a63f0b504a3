#include "collectives/lowrank_bases.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/device.hpp"
#include "base/fail.hpp"

namespace gradwire {
namespace {

constexpr std::uint64_t kColdRight = 0;  // draws; runs have those up to 64
constexpr std::uint64_t kColdLeft = 65;

Buffer zeros(std::size_t elems, Space space) {
  Buffer buffer(elems * sizeof(float), space);
  buffer.fill_zero();
  return buffer;
}

/// From and to memory of hosts; done when it returns.
void copy_across(void* to, const void* from, std::size_t bytes, Space space) {
  if (bytes == 0) return;
  if (space == Space::host) {
    std::memcpy(to, from, bytes);
    return;
  }
  const device::Stream stream;
  device::copy(to, from, bytes, stream.ref());
  device::wait(stream.ref());
}

/// Whether a run may begin with the right side, which needs a basis for the left one.
bool keeps_left(const LowRank& scheme) { return scheme.kind == LowRank::Kind::projection || scheme.rounds == 1; }

/// One basis within a saved warm start: floats at any address.
struct Saved {
  const char* data;
  std::size_t length;
  std::size_t rank;

  [[nodiscard]] std::size_t bytes() const { return length * rank * sizeof(float); }
  [[nodiscard]] bool all_finite() const {
    for (std::size_t i = 0; i < length * rank; ++i) {
      float value = 0;
      std::memcpy(&value, data + i * sizeof value, sizeof value);
      if (!std::isfinite(value)) return false;
    }
    return true;
  }
};

/// As many leading columns as both have; behind them those that the cold start `key` has at these places, made
/// orthogonal to all before.
void take_columns(const Saved& from, const Factor& to, const RandomKey& key, Space space) {
  std::vector<float> values(to.count());
  const Factor basis{values.data(), to.length, to.rank};
  const std::size_t bytes = std::min(from.rank, to.rank) * to.length * sizeof(float);
  if (from.rank < to.rank) {
    std::vector<double> scratch(ops::orthonormalise_scratch_bytes(to.length, to.rank) / sizeof(double));
    ops::fill_random(basis, key);
    if (bytes > 0) std::memcpy(basis.data, from.data, bytes);
    ops::orthonormalise(basis, reinterpret_cast<std::byte*>(scratch.data()), key);
  }
  if (bytes > 0) std::memcpy(basis.data, from.data, bytes);  // to the bit: a reflection may have turned signs
  copy_across(to.data, basis.data, values.size() * sizeof(float), space);
}

}  // namespace

RandomKey shared_key(const Operation& op, const Matrix& matrix, std::uint64_t step, std::uint64_t draw) {
  constexpr std::uint64_t kShared = 0x6c6f'7772'616e'6b00;
  return {op.seed ^ (kShared + draw), step, op.items[matrix.item].param, 0};
}

LowRankBases::LowRankBases(const Operation& op, const LowRankMemory& memory)
    : op_(op),
      memory_(memory),
      left_(keeps_left(memory.scheme()) ? memory.left_elems() : 0, op.space),
      right_(memory.right_elems(), op.space),
      places_(memory.matrices().size()) {}

LowRankBases::Side::Side(std::size_t elems, Space space) : current(zeros(elems, space)), next(zeros(elems, space)) {}

Factor LowRankBases::left(const Matrix& m) const noexcept {
  return {reinterpret_cast<float*>(left_.current.data()) + m.left_first, m.view.rows, m.rank};
}
Factor LowRankBases::right(const Matrix& m) const noexcept {
  return {reinterpret_cast<float*>(right_.current.data()) + m.right_first, m.view.cols, m.rank};
}

void LowRankBases::seed() {
  for (const Matrix& matrix : memory_.matrices()) {
    if (place_of(matrix).seeded) continue;
    take_columns({nullptr, matrix.view.cols, 0}, right(matrix), shared_key(op_, matrix, 0, kColdRight), op_.space);
    place_of(matrix) = {{}, true};
  }
}

LowRankBases::Head LowRankBases::common() const noexcept {
  if (places_.empty()) return {};
  Head all = places_.front().head;
  for (const auto& [head, seeded] : places_) {
    all.basis_step = std::min(all.basis_step, head.basis_step);
    all.has_basis = std::min(all.has_basis, head.has_basis);
    all.turn = std::min(all.turn, head.turn);
  }
  if (all.has_basis == 0) all.turn = static_cast<std::uint32_t>(Move::left);
  return all;
}

void LowRankBases::keep(const Head& head, bool left, bool right) noexcept {
  if (left) std::swap(left_.current, left_.next);
  if (right) std::swap(right_.current, right_.next);
  for (Place& place : places_) place.head = head;
}

std::string LowRankBases::save(std::size_t item) const {
  const Matrix* const matrix = find(item);
  if (matrix == nullptr) return {};
  const auto& [head, seeded] = places_[static_cast<std::size_t>(matrix - memory_.matrices().data())];
  if (!seeded) return {};
  std::string text(reinterpret_cast<const char*>(&head), sizeof head);
  const auto add = [&](const Factor& factor) {
    const std::size_t size = text.size();
    text.resize(size + factor.count() * sizeof(float));
    copy_across(text.data() + size, factor.data, factor.count() * sizeof(float), op_.space);
  };
  if (has_left()) add(left(*matrix));
  add(right(*matrix));
  return text;
}

void LowRankBases::restore(std::size_t item, std::string_view memory, const Compressor& from) {
  const Matrix* const matrix = find(item);
  if (memory.empty()) {
    if (matrix != nullptr) place_of(*matrix) = {};
    return;
  }
  const LowRank& then = *from.low_rank();
  const LowRank& now = memory_.scheme();
  const MatrixView view = matrix != nullptr ? matrix->view : MatrixView{};
  const std::size_t rank = then.rank_for(view);
  const std::size_t left_length = keeps_left(then) ? view.rows : 0;
  const auto expect = [&](bool fits) {
    if (fits) return;
    fail(Errc::bad_state, "{}: {} bytes that are no warm start of {} for its shape", op_.items[item].name,
         memory.size(), from.spec());
  };
  Head head;
  expect(matrix != nullptr && memory.size() == sizeof head + (left_length + view.cols) * rank * sizeof(float));
  std::memcpy(&head, memory.data(), sizeof head);
  const Saved old_left{memory.data() + sizeof head, left_length, rank};
  const Saved old_right{old_left.data + old_left.bytes(), view.cols, rank};
  expect(head.turn <= static_cast<std::uint32_t>(Move::right) && head.has_basis <= 1 && old_left.all_finite() &&
         old_right.all_finite());
  take_columns(old_right, right(*matrix), shared_key(op_, *matrix, 0, kColdRight), op_.space);
  if (then.kind != now.kind || then.rounds != now.rounds) {
    head = {};
  } else if (has_left()) {
    take_columns(old_left, left(*matrix), shared_key(op_, *matrix, 0, kColdLeft), op_.space);
    // Columns that no run has seen would stay as they are until the next renewal.
    if (now.kind == LowRank::Kind::projection && matrix->rank > rank) head.has_basis = 0;
  }
  place_of(*matrix) = {head, true};
}

const Matrix* LowRankBases::find(std::size_t item) const {
  for (const Matrix& matrix : memory_.matrices()) {
    if (matrix.item == item) return &matrix;
  }
  return nullptr;
}

LowRankBases::Place& LowRankBases::place_of(const Matrix& matrix) {
  return places_[static_cast<std::size_t>(&matrix - memory_.matrices().data())];
}

}  // namespace gradwire
