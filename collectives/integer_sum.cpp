// Codes that add up, summed by the backend's own all-reduce of integers. One lossy step.
//   0  find the ranges of my input, exchange them with everybody
//   1  take the largest ranges; code against them; all-reduce
//   2  decode the sums
// Items whose sums fit the same type go together: each group is a segment. (Codes may be values: see IntegerCoder.)
//
// Order. Backends match all-reduces by the order in which they are posted, over all slots, so that must be the order of
// starts. The codes cannot be posted before the ranges are agreed on, and a rank that went on in between could start,
// and post, another operation first, where a rank that hears of the ranges sooner does not. So stage 0 waits for the
// exchange, and the all-reduces of all groups are posted inside start(). Starts have the same order on all ranks, hence
// so have all-reduces, this operation's and those of `dense`. (Over a transport in stream order there is nothing to
// wait for on the host: all stages are put on the stream in start().)
//
// That wait ends, also with other operations in flight, which do not move on this rank meanwhile, as long as ranks run
// the same sequence of starts and waits, each on its own time. Take the rank that is least far in that sequence. If it
// waits for an earlier operation, all others have completed that one, so all they send in it is posted, and it
// completes here too. If it is in a start(), all others have entered the same one, so their ranges are posted. So the
// last rank always gets on. (The hook fits: it starts a bucket once those a fixed number before it are complete.)
//
// Ranges travel with the step's number, which keys what all ranks draw alike: where ranks differ in it their codes mean
// different things, and nothing else would tell. (On a device ranks compare it with their verdicts, at the end.)
//
// A verdict is part of the exchange of ranges. Everybody hears everybody there, so all ranks know of one before any
// all-reduce, and all of them leave it out. Coding against agreed ranges refuses nothing. On a device nobody knows of a
// verdict before the end: what a rank that refuses puts into sums is of no use.

#include <array>
#include <cstring>
#include <vector>

#include "base/device.hpp"
#include "base/fail.hpp"
#include "collectives/algorithm.hpp"
#include "collectives/message.hpp"
#include "compress/frame.hpp"
#include "compress/vector_ops.hpp"

namespace gradwire {
namespace {

/// Between the envelope and the ranges.
struct Preface {
  std::uint64_t step = 0;
  std::uint64_t zero = 0;
};
constexpr std::size_t kRangesAt = kEnvelopeBytes + sizeof(Preface);
constexpr MessageId kRanges{0, 0, sizeof(Preface)};

constexpr std::array kSumTypes{DType::u8, DType::u16, DType::u32, DType::f32};
// Each type's group is a segment, and stage 1 of all of them comes before stage 2 of the first.
static_assert(kSumTypes.size() <= kPipelineDepth + 1);

class IntegerSum final : public Algorithm {
 public:
  explicit IntegerSum(Operation& op) : Algorithm(op) {
    for (std::size_t i = 0; i < op.items.size(); ++i) {
      ranges_first_.push_back(ranges_);
      if (op.items[i].count > 0) ranges_ += coder(i).ranges(op.items[i].count);
    }
    message_bytes_ = kRangesAt + frame::align_up(ranges_ * sizeof(float));
    workspace_bytes_ = message_bytes_ * static_cast<std::size_t>(op.size());
    for (const DType dtype : kSumTypes) add_group(dtype);
    scratch_ = workspace_bytes_;
    std::size_t scratch_elems = 0;
    for (const BucketItem& item : op.items)
      if (item.dtype != DType::f32) scratch_elems = std::max(scratch_elems, item.count);
    workspace_bytes_ += frame::align_up(scratch_elems * sizeof(float));
    sends_.reserve(static_cast<std::size_t>(op.size()));
    recvs_.reserve(static_cast<std::size_t>(op.size()));
  }

  [[nodiscard]] int stages() const noexcept override { return 3; }
  [[nodiscard]] int segments() const noexcept override { return std::max(static_cast<int>(groups_.size()), 1); }
  [[nodiscard]] std::size_t workspace_bytes() const noexcept override { return workspace_bytes_; }

  [[nodiscard]] Work run_stage(int stage, int segment) override {
    if (groups_.empty()) return {};
    const Group& group = groups_[static_cast<std::size_t>(segment)];
    if (stage == 0) return segment == 0 ? exchange_ranges() : Work();
    if (stage == 1 && segment == 0) take_largest_ranges();
    const bool left_out = op_.verdict && !op_.on_device();
    if (stage == 1) return left_out ? Work() : reduce(group);
    if (!op_.verdict) decode(group);
    return {};
  }

 private:
  struct Part {
    std::uint32_t item = 0;
    std::size_t first_code = 0;
    std::size_t codes = 0;
  };
  struct Group {
    DType dtype;
    std::size_t first_byte = 0;  // of its codes
    std::size_t codes = 0;
    std::vector<Part> parts{};
  };

  [[nodiscard]] const IntegerCoder& coder(std::size_t item) const {
    return *op_.items[item].compressor.integer_coder();
  }

  void add_group(DType dtype) {
    Group group{.dtype = dtype, .first_byte = workspace_bytes_};
    for (std::size_t i = 0; i < op_.items.size(); ++i) {
      if (op_.items[i].count == 0 || coder(i).sum_dtype(op_.size()) != dtype) continue;
      const std::size_t codes = coder(i).codes(op_.items[i].count);
      group.parts.push_back({static_cast<std::uint32_t>(i), group.codes, codes});
      group.codes += codes;
    }
    if (group.parts.empty()) return;
    workspace_bytes_ += frame::align_up(group.codes * size_of(dtype));
    groups_.push_back(std::move(group));
  }

  [[nodiscard]] Bytes message_of(int rank) const {
    return workspace_.slice(static_cast<std::size_t>(rank) * message_bytes_, message_bytes_);
  }
  /// Mine at first, and common once agreed on. Workspaces are aligned as their owner aligned them, f32 at least.
  [[nodiscard]] float* ranges() const { return reinterpret_cast<float*>(message_of(op_.rank()).data + kRangesAt); }
  [[nodiscard]] Tensor codes_of(const Group& group) const {
    return {workspace_.data + group.first_byte, group.codes, group.dtype, workspace_.space};
  }
  [[nodiscard]] static Piece whole(const BucketItem& item, std::uint32_t index) { return {index, 0, item.count, 0}; }

  /// What is launched for a parameter is called so in timelines.
  [[nodiscard]] const char* range_name(std::size_t item) const {
    return op_.on_device() ? op_.items[item].name.c_str() : nullptr;
  }

  Work exchange_ranges() {
    find_ranges();
    if (op_.on_device() && ranges_ == 0) return {};
    const Bytes mine = message_of(op_.rank());
    const std::size_t size = seal_message(op_, kRanges, mine, message_bytes_);
    sends_.clear();
    recvs_.clear();
    for (int distance = 1; distance < op_.size(); ++distance) {
      const int peer = (op_.rank() + distance) % op_.size();
      sends_.push_back({mine.slice(0, size), peer});
      recvs_.push_back({message_of(peer), peer});
    }
    Work exchanged = op_.exchange(sends_, recvs_);
    if (!op_.on_device() || !op_.comm.transport().info().stream_ordered) exchanged.wait(op_.deadline);
    return exchanged;
  }

  void take_largest_ranges() {
    for (int peer = 0; peer < op_.size() && !op_.on_device(); ++peer) {
      if (peer != op_.rank()) check_ranges(peer);
    }
    if (op_.verdict) return;
    const auto* const first = reinterpret_cast<const float*>(message_of(0).data + kRangesAt);
    const Stopwatch watch(op_.stats.encode_us);
    ops::largest_of_rows(first, static_cast<std::size_t>(op_.size()), message_bytes_ / sizeof(float),
                         {ranges(), ranges_, DType::f32, workspace_.space}, op_.stream);
  }

  /// Of a host. The others' messages are checked also where there is a verdict.
  void check_ranges(int peer) {
    const ConstBytes theirs = open_message(op_, {kRanges, {}, message_of(peer), peer});
    if (op_.verdict) return;
    if (theirs.size != message_bytes_ - kRangesAt)
      fail(Errc::rank_mismatch, "rank {} sent {} bytes of ranges, expected {}", peer, theirs.size,
           message_bytes_ - kRangesAt);
    Preface preface;
    std::memcpy(&preface, message_of(peer).data + kEnvelopeBytes, sizeof preface);
    if (preface.step != op_.step)
      fail(Errc::rank_mismatch, "rank {} is at step {} in slot {}, this rank at step {}", peer, preface.step,
           static_cast<std::uint32_t>(op_.slot), op_.step);
  }

  void find_ranges() {
    const Stopwatch watch(op_.stats.encode_us);
    if (!op_.on_device()) {
      std::memset(message_of(op_.rank()).data, 0, message_bytes_);
      const Preface preface{op_.step};
      std::memcpy(message_of(op_.rank()).data + kEnvelopeBytes, &preface, sizeof preface);
    }
    for (std::size_t i = 0; i < op_.items.size() && !op_.verdict; ++i) {
      if (op_.items[i].count == 0) continue;
      const device::Range range(range_name(i));
      try {
        coder(i).find_ranges(op_.buffers[i].tensor, ranges() + ranges_first_[i], op_.stream);
      } catch (const Error& error) {
        if (error.code() != Errc::non_finite) throw;
        op_.refuse({Errc::non_finite, op_.rank(), op_.items[i].param});
      }
    }
  }

  Work reduce(const Group& group) {
    const Tensor all = codes_of(group);
    if (!op_.verdict) {
      const Stopwatch watch(op_.stats.encode_us);
      for (const Part& part : group.parts) {
        const device::Range range(range_name(part.item));
        const ItemBuffers& buffers = op_.buffers[part.item];
        const Piece piece = whole(op_.items[part.item], part.item);
        coder(part.item).encode(
            buffers.tensor, ranges() + ranges_first_[part.item], all.slice(part.first_code, part.codes),
            buffers.residual, {random_key(op_, piece, Draw::shared), random_key(op_, piece, Draw::input)}, op_.stream);
      }
    }
    const auto n = static_cast<std::uint64_t>(op_.size());
    op_.stats.wire_bytes += 2 * (n - 1) * all.bytes() / n;
    return op_.comm.transport().all_reduce_sum(all, op_.slot, op_.stream);
  }

  void decode(const Group& group) {
    const Tensor all = codes_of(group);
    const Sums sums(op_, workspace_.slice(scratch_, workspace_bytes_ - scratch_));
    for (const Part& part : group.parts) {
      const device::Range range(range_name(part.item));
      const Piece piece = whole(op_.items[part.item], part.item);
      {
        const Stopwatch watch(op_.stats.decode_us);
        coder(part.item).decode(all.slice(part.first_code, part.codes), op_.size(), ranges() + ranges_first_[part.item],
                                sums.of(piece), random_key(op_, piece, Draw::shared), op_.stream);
      }
      const bool credit = part.item % static_cast<std::uint32_t>(op_.size()) == static_cast<std::uint32_t>(op_.rank());
      deliver_sums(op_, {&piece, 1}, sums, credit);
    }
  }

  std::vector<std::size_t> ranges_first_;  // by item
  std::size_t ranges_ = 0;
  std::size_t message_bytes_ = 0;
  std::size_t workspace_bytes_ = 0;  // messages of all ranks, then the groups' codes, then scratch
  std::size_t scratch_ = 0;
  std::vector<Group> groups_;
  std::vector<Send> sends_;
  std::vector<Recv> recvs_;
};

}  // namespace

std::unique_ptr<Algorithm> make_integer_sum(Operation& op) { return std::make_unique<IntegerSum>(op); }

}  // namespace gradwire
