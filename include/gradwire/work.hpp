#pragma once
#include <memory>
#include <string>

#include "gradwire/export.hpp"
#include "gradwire/types.hpp"

namespace gradwire {

/// One asynchronous operation, as its author implements it. Users hold a Work.
class GRADWIRE_API Completion {
 public:
  Completion() = default;
  Completion(const Completion&) = delete;
  Completion& operator=(const Completion&) = delete;
  virtual ~Completion();

  /// Moves the operation as far as it goes without blocking; true once it is complete.
  /// Throws the operation's failure, the same one each time.
  virtual bool poll() = 0;

  /// Blocks until complete. The default polls with a growing pause; throws Errc::timeout with describe() in the
  /// message.
  virtual void wait(Deadline deadline);

  /// Later work on `stream` waits, the host does not. The default accepts only the host stream.
  virtual void before(StreamRef stream);

  /// What it is and what it waits for, for messages: "exchange in slot 3 with ranks 1 2".
  [[nodiscard]] virtual std::string describe() const = 0;
};

/// Handle to one asynchronous operation. Dropping it neither blocks nor cancels; whoever starts an operation on its own
/// buffers keeps them alive until it is done.
class GRADWIRE_API Work {
 public:
  Work() noexcept = default;  ///< already complete
  explicit Work(std::shared_ptr<Completion> completion) noexcept : completion_(std::move(completion)) {}

  /// Blocks the host until complete or until the deadline; throws the first failure.
  void wait(Deadline deadline = Deadline::max()) const {
    if (completion_) completion_->wait(deadline);
  }
  /// Drives the operation without blocking; true once complete. Throws its failure.
  [[nodiscard]] bool done() const { return !completion_ || completion_->poll(); }
  /// Later work on `stream` waits for this one; the host does not.
  void before(StreamRef stream) const {
    if (completion_) completion_->before(stream);
  }
  [[nodiscard]] std::string describe() const { return completion_ ? completion_->describe() : "complete"; }

 private:
  std::shared_ptr<Completion> completion_;
};

}  // namespace gradwire
