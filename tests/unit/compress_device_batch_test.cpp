// Which of a launch's blocks does what, of several jobs.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <vector>

#include "compress/device/batch.hpp"
#include "compress/device/quantize_tile.hpp"
#include "compress/job_list.hpp"

namespace gradwire::testing {
namespace {

struct Job {
  std::size_t number;
};
using Batch = device::Batch<Job, 9>;

Batch batch_of(const std::vector<std::size_t>& items) {
  Batch batch;
  for (std::size_t i = 0; i < items.size(); ++i) batch.add({i}, items[i]);
  return batch;
}

/// Each job's items are found in order, once each.
void expect_all_found(const std::vector<std::size_t>& items) {
  const Batch batch = batch_of(items);
  std::size_t all = 0;
  for (std::size_t job = 0; job < items.size(); ++job)
    for (std::size_t item = 0; item < items[job]; ++item, ++all) {
      std::size_t found = all;
      EXPECT_EQ(batch.find(found).number, job) << all;
      EXPECT_EQ(found, item) << all;
    }
  EXPECT_EQ(batch.items(), all);
}

TEST(DeviceBatch, FindsTheJobOfEachItem) {
  for (std::size_t jobs = 1; jobs <= 9; ++jobs) {
    expect_all_found(std::vector<std::size_t>(jobs, 1));
    expect_all_found(std::vector<std::size_t>(jobs, 3));
    std::vector<std::size_t> growing;
    for (std::size_t i = 0; i < jobs; ++i) growing.push_back(1 + i * i);
    expect_all_found(growing);
    expect_all_found({growing.rbegin(), growing.rend()});
  }
  expect_all_found({1, 0, 0, 2, 0, 5});
  expect_all_found({0, 0, 4});
}

TEST(DeviceBatch, CountsPast32Bits) {
  constexpr std::size_t kLarge = std::size_t{1} << 33;
  const Batch batch = batch_of({kLarge, 1, kLarge});
  EXPECT_EQ(batch.items(), 2 * kLarge + 1);
  for (const auto& [item, job, place] : {std::array<std::size_t, 3>{kLarge - 1, 0, kLarge - 1},
                                         {kLarge, 1, 0},
                                         {kLarge + 1, 2, 0},
                                         {2 * kLarge, 2, kLarge - 1}}) {
    std::size_t found = item;
    EXPECT_EQ(batch.find(found).number, job);
    EXPECT_EQ(found, place);
  }
}

TEST(DeviceBatch, IsFullAndEmptyAgain) {
  Batch batch;
  EXPECT_EQ(batch.items(), 0u);
  for (std::size_t i = 0; i < 9; ++i) {
    EXPECT_FALSE(batch.is_full());
    batch.add({i}, 2);
  }
  EXPECT_TRUE(batch.is_full());
  EXPECT_EQ(batch.size(), 9u);
  batch.clear();
  EXPECT_EQ(batch.size(), 0u);
  EXPECT_EQ(batch.items(), 0u);
}

template <class Large>
void expect_fits(std::size_t bytes) {
  constexpr std::size_t kPerJob = sizeof(Large) + sizeof(std::size_t);
  const std::size_t jobs = device::jobs_in<Large>(bytes);
  EXPECT_LE(jobs * kPerJob + sizeof(std::size_t), bytes);
  EXPECT_GT((jobs + 1) * kPerJob + sizeof(std::size_t), bytes);
}

TEST(DeviceBatch, HasRoomForJobsInALaunchsParameters) {
  expect_fits<Job>(4096);
  expect_fits<device::QuantizeEncodeRun>(4096);
  expect_fits<device::QuantizeEncodeRun>(32764);
  EXPECT_LE(sizeof(device::Batch<device::QuantizeEncodeRun, device::jobs_in<device::QuantizeEncodeRun>(32764)>),
            32764u);
  EXPECT_GE(device::jobs_in<device::QuantizeEncodeRun>(32764), 200u);
  EXPECT_EQ((device::jobs_in<std::array<std::byte, 5000>>(4096)), 1u);
}

TEST(DeviceBatch, FindsTheFrameOfAnItem) {
  for (const std::size_t of_frame : {1u, 2u, 7u})
    for (std::size_t frame = 0; frame < 4; ++frame)
      for (std::size_t item = 0; item < of_frame; ++item) {
        const device::FrameItem found = device::frame_item(frame * of_frame + item, of_frame);
        EXPECT_EQ(found.frame, frame);
        EXPECT_EQ(found.item, item);
      }
}

/// Blocks of whole buckets: as many as hold all of them, and one for an empty frame.
TEST(DeviceBatch, HasBlocksForAllBuckets) {
  for (const std::uint32_t bucket : {128u, 384u, 512u, 8192u}) {
    const QuantizeParams params{4, bucket};
    const std::size_t together = device::kBlockThreads / device::tiles_a_bucket(params);
    EXPECT_EQ(device::bucket_items({params, 0}), 1u);
    EXPECT_EQ(device::bucket_items({params, 1}), 1u);
    EXPECT_EQ(device::bucket_items({params, together * bucket}), 1u);
    EXPECT_EQ(device::bucket_items({params, together * bucket + 1}), 2u);
    EXPECT_EQ(device::bucket_items({params, 7 * together * bucket - 1}), 7u);
  }
  EXPECT_EQ(device::warp_items({{4, 96}, 0}), 1u);
  EXPECT_EQ(device::warp_items({{4, 96}, 8 * 96}), 1u);
  EXPECT_EQ(device::warp_items({{4, 96}, 8 * 96 + 1}), 2u);
}

TEST(JobLists, AreMadeWhereTheyAreAskedFor) {
  const Job job{7};
  const JobList<Job> single(job);
  ASSERT_EQ(single.size(), 1u);
  EXPECT_EQ(single[0].number, 7u);
  const auto square = [](std::size_t i) { return Job{i * i}; };
  const JobList<Job> squares(5, square);
  ASSERT_EQ(squares.size(), 5u);
  EXPECT_EQ(squares[3].number, 9u);
}

}  // namespace
}  // namespace gradwire::testing
