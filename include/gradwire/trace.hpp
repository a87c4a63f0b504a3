#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "gradwire/export.hpp"
#include "gradwire/plan.hpp"

namespace gradwire {

/// Writes a trace (docs/trace-format.md): what a run's gradients were, layer by layer, and the tables made of them.
/// Each record is with the operating system when the call returns: a file whose run was killed is readable up to its
/// last whole record. To be used from one thread at a time.
class GRADWIRE_API TraceWriter {
 public:
  /// Makes the file, or empties the one that is there, and keeps it locked (flock) until close(). `meta` is the JSON
  /// text of an object: any keys and values. Throws Errc::io naming the file, also where another TraceWriter, of this
  /// process or of another, is still writing it; Errc::invalid_argument for other JSON.
  explicit TraceWriter(const std::string& path, std::string_view meta = "{}");
  TraceWriter(TraceWriter&&) noexcept;
  TraceWriter& operator=(TraceWriter&&) noexcept;
  ~TraceWriter();

  /// What the wire would carry of a layer in this step (its key is not kept), and the spec that the layer has without a
  /// plan. Throws Errc::invalid_argument for a sample that is wrong, as measure_layer() does, or a name that is no
  /// UTF-8; Errc::io, after which the file ends with the record before.
  void sample(std::uint64_t step, const LayerSample& sample, std::string_view reference);
  /// Throws what check() and sample() throw.
  void table(std::uint64_t step, const Table& table);
  /// The end; nothing can be written after it. Throws Errc::io. Without it the destructor closes, and says nothing.
  void close();

  /// Of the file so far.
  [[nodiscard]] std::uint64_t bytes() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct TraceSample {
  std::uint64_t step = 0;
  std::string name;
  std::vector<std::size_t> shape;  ///< empty: no matrix
  std::vector<float> values;       ///< in the order of the layer's memory
  std::string reference;           ///< the spec that the layer has without a plan

  /// For measure_layer(); a view of this.
  [[nodiscard]] LayerSample view() const { return {name, {values.data(), values.size()}, shape, {}}; }
};

struct TraceTable {
  std::uint64_t step = 0;
  Table table;
};

using TraceRecord = std::variant<TraceSample, TraceTable>;

/// Reads a trace record by record; one record at a time is in memory.
class GRADWIRE_API TraceReader {
 public:
  /// What to do where the file ends within a record, as that of a killed run may.
  enum class Torn : std::uint8_t {
    refuse,  ///< Errc::bad_state
    stop,    ///< as at the end of the file; torn_bytes() says that it was not
  };

  /// Throws Errc::io where the file cannot be read, Errc::bad_state, naming the file, for one that is no trace, is of a
  /// later version, or ends within its first record.
  explicit TraceReader(const std::string& path, Torn torn = Torn::refuse);
  TraceReader(TraceReader&&) noexcept;
  TraceReader& operator=(TraceReader&&) noexcept;
  ~TraceReader();

  /// JSON text of an object.
  [[nodiscard]] const std::string& meta() const noexcept;
  /// The next record that is known (records of other types are passed over); none at the end. Throws Errc::bad_state
  /// naming file and place for damage, Errc::io.
  [[nodiscard]] std::optional<TraceRecord> next();
  /// Bytes in the file of the record that next() gave last.
  [[nodiscard]] std::uint64_t record_bytes() const noexcept;
  /// Bytes behind the last whole record, once next() has found the end.
  [[nodiscard]] std::uint64_t torn_bytes() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// A table of the samples that `reader` still has (of `step` only, where it is given): what measure_layer() finds of
/// each, and of several samples of a layer root mean squares of errors, norms and singular values, and mean bytes.
/// Layers stand in the order in which they come first. The reference is `reference`, or else the one that a layer has
/// in the trace; it is a candidate too where `specs` has none that means the same. Throws what TraceReader and
/// measure_layer() throw, with the step; Errc::invalid_argument where there are no samples, and where a layer's
/// elements, shape or reference change.
[[nodiscard]] GRADWIRE_API Table measure_trace(TraceReader& reader, std::span<const std::string> specs,
                                               std::string_view reference = {}, std::optional<std::uint64_t> step = {});

}  // namespace gradwire
