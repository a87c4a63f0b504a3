#include "base/device.hpp"
#include "compress/device/carver.hpp"
#include "compress/device/launch.cuh"
#include "compress/device/sparse_select.cuh"

namespace gradwire::device {
namespace {

using Kind = sparse::ValueCoding::Kind;

__device__ Chosen chosen_of(const Selection& selection) {
  return {selection.places, selection.state->chosen, selection.state->most};
}

__global__ void __launch_bounds__(kBlockThreads)
    write_frame(const SparseEncode job, const FrameStart start, const Selection selection) {
  const Chosen chosen = chosen_of(selection);
  const SparseLayout layout = layout_of(job, chosen);
  const std::size_t words = job.shape.capacity / sizeof(std::uint32_t);
  for (std::size_t w = thread_index(); w < words; w += thread_count()) write_frame_word(job, start, layout, chosen, w);
}

/// Values that another compressor codes, as f32.
__global__ void __launch_bounds__(kBlockThreads)
    gather_values(const SparseEncode job, const Selection selection, std::size_t entries, float* values) {
  const Chosen chosen = chosen_of(selection);
  const SparseLayout layout = layout_of(job, chosen);
  for (std::size_t e = thread_index(); e < entries; e += thread_count())
    values[e] = entry_value(job, chosen, e, element_of(layout, chosen.places, e));
}

/// What is owed once it has.
__global__ void __launch_bounds__(kBlockThreads)
    settle_values(const SparseEncode job, const Selection selection, std::size_t entries, const float* values) {
  const Chosen chosen = chosen_of(selection);
  const SparseLayout layout = layout_of(job, chosen);
  for (std::size_t e = thread_index(); e < entries; e += thread_count())
    settle_entry(job, element_of(layout, chosen.places, e), values[e]);
}

}  // namespace

void sparse_encode(const SparseEncode& job, const FrameStart& start, const CodeValues& code, StreamRef stream) {
  const SparseShape& shape = job.shape;
  const std::size_t units = sparse::units_of(shape.count, shape.block);
  const SparseLayout full = full_layout(shape);
  const std::size_t coded = shape.values == Kind::frame ? full.entries : 0;
  Carver carver;
  const std::size_t state = carver.take<SelectState>(1);
  const std::size_t tiles = carver.take<std::uint64_t>(select_tiles(units));
  const std::size_t norms = carver.take<float>(shape.block == 0 ? 0 : units);
  const std::size_t places = carver.take<std::uint32_t>(shape.most);
  const std::size_t sample = carver.take<float>(job.rule.guess.sample);
  const std::size_t of_sample = carver.take<SelectState>(job.rule.guess.sample == 0 ? 0 : 1);
  const std::size_t values_at = carver.take<float>(coded);
  const Scratch scratch(carver.bytes(), stream);
  const auto at = [&](std::size_t offset) { return static_cast<void*>(scratch.data() + offset); };
  const Selection selection{static_cast<SelectState*>(at(state)), static_cast<std::uint64_t*>(at(tiles)),
                            static_cast<float*>(at(norms)),       static_cast<std::uint32_t*>(at(places)),
                            static_cast<float*>(at(sample)),      static_cast<SelectState*>(at(of_sample))};
  select_entries(job, selection, stream);
  launch("write_frame", write_frame, shape.capacity / sizeof(std::uint32_t), stream, job, start, selection);
  if (shape.values != Kind::frame) return;
  auto* const values = static_cast<float*>(at(values_at));
  launch("gather_values", gather_values, coded, stream, job, selection, coded, values);
  code({values, coded, DType::f32, Space::device}, {job.frame + full.values_at(), full.value_bytes, Space::device});
  if (job.residual != nullptr) launch("settle_values", settle_values, coded, stream, job, selection, coded, values);
}

}  // namespace gradwire::device
