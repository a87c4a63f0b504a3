// How a bucket is cut, and which algorithm it gets: pure functions.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "collectives/algorithm.hpp"
#include "collectives/message.hpp"

namespace gradwire::testing {
namespace {

using ::testing::HasSubstr;

BucketItem item(std::uint32_t id, std::size_t count, const std::string& spec, DType dtype = DType::f32) {
  return {ParamId{id}, count, dtype, make_compressor(spec), fmt::format("p{}", id)};
}

struct Cut {
  std::vector<BucketItem> items;
  int chunks;
  std::size_t segment_bytes;
};

/// Every element is in one piece, pieces are in bucket order, cut at blocks, and fit what the layout says they need.
void expect_partition(const Cut& cut) {
  const Layout layout(cut.items, cut.chunks, cut.segment_bytes);
  std::size_t at_item = 0;
  std::size_t at_element = 0;
  const auto skip_finished = [&] {
    while (at_item < cut.items.size() && at_element == cut.items[at_item].count) ++at_item, at_element = 0;
  };
  for (int chunk = 0; chunk < cut.chunks; ++chunk) {
    for (int segment = 0; segment < layout.segments(); ++segment) {
      std::size_t bytes = kEnvelopeBytes;
      std::size_t scratch = 0;
      for (const Piece& piece : layout.pieces(chunk, segment)) {
        skip_finished();
        ASSERT_EQ(piece.item, at_item);
        ASSERT_EQ(piece.first, at_element);
        ASSERT_GT(piece.count, 0u);
        const BucketItem& owner = cut.items[piece.item];
        EXPECT_EQ(piece.first % owner.compressor.traits().block_elems, 0u);
        bytes += owner.compressor.max_frame_size(piece.count, owner.dtype);
        if (owner.dtype != DType::f32) {
          EXPECT_EQ(piece.scratch_first * sizeof(float), scratch);
          scratch += piece.count * sizeof(float);
        }
        at_element += piece.count;
      }
      EXPECT_LE(bytes, layout.max_message_bytes(chunk));
      EXPECT_LE(scratch, layout.max_scratch_bytes(chunk));
    }
  }
  skip_finished();
  EXPECT_EQ(at_item, cut.items.size()) << "elements that nobody carries";
}

TEST(Layout, EveryElementIsCarriedOnce) {
  for (const int chunks : {1, 2, 3, 4, 7, 8}) {
    for (const std::size_t segment_bytes : {std::size_t{1}, std::size_t{4096}, std::size_t{1} << 20}) {
      for (const std::size_t count : {0u, 1u, 6u, 7u, 511u, 512u, 1009u, 5003u}) {
        expect_partition({{item(0, count, "q4")}, chunks, segment_bytes});
        expect_partition({{item(0, 3, "none"), item(1, count, "q2(bucket=32)", DType::f16), item(2, 0, "q8"),
                           item(3, 2000, "f16", DType::bf16)},
                          chunks,
                          segment_bytes});
      }
    }
  }
}

TEST(Layout, EmptyBucketHasOneEmptySegment) {
  const Layout layout({}, 3, 1024);
  EXPECT_EQ(layout.segments(), 1);
  for (int chunk = 0; chunk < 3; ++chunk) EXPECT_TRUE(layout.pieces(chunk, 0).empty());
}

TEST(Layout, SegmentsAreAsLongAsAskedFor) {
  const std::vector<BucketItem> items{item(0, 1 << 20, "none")};
  EXPECT_EQ(Layout(items, 1, 4u << 20).segments(), 1);
  EXPECT_EQ(Layout(items, 1, 1u << 20).segments(), 4);
  EXPECT_EQ(Layout(items, 4, 1u << 20).segments(), 1) << "of a chunk, not of the bucket";
}

std::string selected(const std::string& name, const std::vector<BucketItem>& items, int ranks) {
  const std::vector<int> one_node(static_cast<std::size_t>(ranks), 0);
  return std::string(select_algorithm({.algorithm = name, .items = items, .nodes = one_node}));
}

TEST(SelectAlgorithm, AutoGoesByCompressorsAndRanks) {
  const std::vector<BucketItem> lossless{item(0, 10, "none"), item(1, 10, "none")};
  const std::vector<BucketItem> mixed{item(0, 10, "none"), item(1, 10, "q4")};
  for (const int ranks : {1, 2, 3, 8}) EXPECT_EQ(selected("auto", lossless, ranks), "dense");
  EXPECT_EQ(selected("auto", {item(0, 10, "none|zstd")}, 3), "scatter_reduce") << "zstd was asked for";
  EXPECT_EQ(selected("auto", mixed, 2), "gather_sum");
  for (const int ranks : {1, 3, 8}) EXPECT_EQ(selected("auto", mixed, ranks), "scatter_reduce");
  for (const char* name : {"dense", "scatter_reduce", "ring", "gather_sum", "hierarchical"}) {
    EXPECT_EQ(selected(name, lossless, 4), name);
  }
}

TEST(SelectAlgorithm, AutoGoesByNodesAndFacets) {
  const std::vector<BucketItem> quantised{item(0, 10, "q4")};
  const std::vector<int> two_by_two{0, 0, 1, 1};
  const std::vector<int> one_each{0, 1, 2, 3};
  EXPECT_EQ(select_algorithm({.items = quantised, .nodes = two_by_two}), "hierarchical");
  EXPECT_EQ(select_algorithm({.items = quantised, .nodes = one_each}), "scatter_reduce");
  const std::vector<BucketItem> sparse{item(0, 1 << 20, "topk(0.01)")};
  EXPECT_EQ(select_algorithm({.items = sparse, .nodes = two_by_two}), "hierarchical");
  EXPECT_NE(select_algorithm({.items = sparse, .nodes = one_each}), "hierarchical");
  const std::vector<BucketItem> low_rank{item(0, 10, "powersgd")};
  EXPECT_EQ(select_algorithm({.items = low_rank, .nodes = two_by_two}), "hierarchical");
  EXPECT_EQ(select_algorithm({.items = low_rank, .nodes = one_each}), "lowrank");
  EXPECT_EQ(selected("auto", {item(0, 10, "thc")}, 4), "integer_sum");
  EXPECT_EQ(selected("auto", {item(0, 10, "randomk(0.1)")}, 4), "integer_sum");
  EXPECT_EQ(selected("auto", {item(0, 10, "thc"), item(1, 10, "randomk(0.1)")}, 4), "integer_sum");
  EXPECT_EQ(selected("auto", {item(0, 10, "randomk(0.1)|q4")}, 4), "gather_sum");
  EXPECT_EQ(selected("auto", {item(0, 10, "powersgd")}, 4), "lowrank");
  EXPECT_EQ(selected("auto", {item(0, 1 << 20, "topk(0.01)")}, 2), "gather_sum");
  EXPECT_EQ(selected("auto", {item(0, 1 << 20, "topk(0.01)")}, 16), "sparse_scatter");
}

/// Fields may be set one by one.
TEST(BucketItem, IsNotCompressedUnlessSaid) {
  BucketItem one;
  one.count = 10;
  EXPECT_EQ(one.compressor.spec(), "none");
  EXPECT_EQ(Item{}.compressor.spec(), "none");
}

TEST(SelectAlgorithm, SaysWhyNot) {
  const auto refusal = [](const std::string& name, Errc code) -> std::string {
    try {
      (void)selected(name, {item(0, 10, "none"), item(1, 10, "q4")}, 4);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code);
      return error.what();
    }
    return "none";
  };
  EXPECT_THAT(refusal("dense", Errc::unsupported),
              HasSubstr("algorithm 'dense' cannot carry p1, whose compressor is quantize(bits=4"));
  const std::string unknown = refusal("butterfly", Errc::invalid_argument);
  EXPECT_THAT(unknown, HasSubstr("unknown algorithm 'butterfly'"));
  for (const AlgorithmInfo& info : list_algorithms()) EXPECT_THAT(unknown, HasSubstr(info.name));
}

}  // namespace
}  // namespace gradwire::testing
