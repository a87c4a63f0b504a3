#include "train/planning/device_samples.hpp"

#include <algorithm>

#include "base/backoff.hpp"
#include "base/clock.hpp"
#include "base/deadline.hpp"
#include "base/env.hpp"
#include "base/fail.hpp"

namespace gradwire {

DeviceSamples::DeviceSamples(std::span<const PlannedLayer> layers, bool at_once, bool keeps_values)
    : at_once_(at_once), device_(device::current()) {
  std::size_t most = 0;
  for (const PlannedLayer& planned : layers) {
    Layer& layer = layers_.emplace_back(Layer{DeviceMeasurement(
        {planned.name, planned.count, planned.shape, planned.reference, planned.specs}, keeps_values)});
    most = std::max(most, layer.measurement.result_bytes());
    if (at_once_) {
      results_.push_back(std::make_unique<device::Results>(layer.measurement.result_bytes()));
    } else {
      layer.copy = Buffer(planned.count * sizeof(float), Space::device);
      layer.copied = std::make_unique<device::Event>();
    }
  }
  if (at_once_) return;
  results_.push_back(std::make_unique<device::Results>(most));
  stream_ = std::make_unique<device::Stream>(device::Priority::least);
}

DeviceSamples::~DeviceSamples() {
  for (Layer& layer : layers_)
    if (layer.copied && !(layer.copied->is_surely_done() && results_.front()->is_surely_done())) layer.copy.abandon();
}

void DeviceSamples::launch(std::size_t layer, ConstTensor sent, const RandomKey& key, StreamRef stream) {
  device::Results& into = results(layer);
  const device::Results::Writing writing(into, stream);
  layers_[layer].measurement.launch(sent, key, into.data(), stream);
}

TableLayer DeviceSamples::finish(std::size_t layer) const {
  return layers_[layer].measurement.finish(results(layer).data());
}

void DeviceSamples::copy(std::size_t layer, ConstTensor sent, StreamRef stream) {
  device::copy(layers_[layer].copy.data(), sent.data, sent.bytes(), stream);
  layers_[layer].copied->record(stream);
}

bool DeviceSamples::is_ready(std::size_t layer) const { return layers_[layer].copied->done() && results(layer).done(); }

TableLayer DeviceSamples::measure(std::size_t layer, const RandomKey& key) {
  const device::Scope scope(device_);
  Layer& from = layers_[layer];
  device::Results& into = results(layer);
  from.copied->before(stream_->ref());
  {
    const device::Results::Writing writing(into, stream_->ref());
    from.measurement.launch(from.copy.tensor(from.copy.size() / sizeof(float)), key, into.data(), stream_->ref());
  }
  const auto timeout = environment().timeout;
  const Deadline deadline = deadline_after(timeout);
  for (Backoff backoff; !into.done(); backoff.pause()) {
    if (stopped_) fail(Errc::aborted, "the hook ends");
    if (Clock::now() > deadline) fail(Errc::timeout, "the device has not measured it in {} ms", timeout.count());
  }
  return finish(layer);
}

ConstTensor DeviceSamples::values(std::size_t layer) const {
  return layers_[layer].measurement.values(results(layer).data());
}

}  // namespace gradwire
