#pragma once
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "base/half.hpp"
#include "ranks/hook_suite.hpp"
#include "train/state_file.hpp"

namespace gradwire::test {

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline bool same_files(const std::filesystem::path& a, const std::filesystem::path& b) {
  const std::string bytes = read_bytes(a);
  return !bytes.empty() && bytes == read_bytes(b);
}

/// A folder that all ranks of a test share and no other test has.
class StateFolder {
 public:
  /// Collective.
  explicit StateFolder(Communicator& comm) : comm_(comm) {
    float process = comm.rank() == 0 ? static_cast<float>(::getpid()) : 0;  // below 2^24
    comm.transport()
        .all_reduce_sum({&process, 1, DType::f32, Space::host}, Slot{0}, StreamRef::host())
        .wait(patience());
    path_ = std::filesystem::temp_directory_path() / fmt::format("gradwire-{}-of-{}", process, comm.size());
    remove();
  }

  /// A folder in it, for hook.save().
  [[nodiscard]] std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  /// What this rank saved there.
  [[nodiscard]] std::filesystem::path file(const std::string& name) const {
    return path_ / name / state_file_name(comm_.rank(), comm_.size());
  }

  /// Collective: the end of the test. What a failed test leaves stays to be looked at.
  void remove() {
    comm_.barrier(patience());
    if (comm_.rank() == 0) std::filesystem::remove_all(path_);
    comm_.barrier(patience());
  }

 private:
  Communicator comm_;
  std::filesystem::path path_;
};

/// A toy model in training, one rank of it, with gradients of any float dtype.
class Training {
 public:
  Training(Communicator& comm, const HookOptions& options, DType dtype = DType::f32)
      : Training(comm, options, dtype, [](std::vector<ParamInfo>&) {}) {}
  /// `change` has a last say in what is registered.
  template <class Change>
  Training(Communicator& comm, const HookOptions& options, DType dtype, Change&& change) : model(comm), dtype_(dtype) {
    for (std::size_t p = 0; p < model.weights.size(); ++p) {
      model.params[p].dtype = dtype;
      narrow_.emplace_back(model.weights[p].size());
      model.compute_gradient(p);
      targets_.push_back(model.gradients[p]);  // minus the target, as the weights are 0
    }
    change(model.params);
    hook = std::make_unique<GradientHook>(comm, model.params, options);
  }

  void step(unsigned number, bool poisoned = false) {
    for (std::size_t p = model.weights.size(); p-- > 0;) {
      std::vector<float>& gradient = model.gradients[p];
      for (std::size_t i = 0; i < gradient.size(); ++i)
        gradient[i] = model.weights[p][i] + targets_[p][i] + noise(number, i);
      if (poisoned && p == 2) gradient[1234] = std::nanf("");
      for (std::size_t i = 0; i < gradient.size() && dtype_ != DType::f32; ++i) {
        store_f32(narrow_[p].data(), dtype_, i, gradient[i]);
      }
      hook->ready(model.id(p), tensor(p));
    }
    wait(hook->finish_step());
    for (std::size_t p = 0; p < model.weights.size() && dtype_ != DType::f32; ++p) {
      std::vector<float>& gradient = model.gradients[p];
      for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] = load_f32(narrow_[p].data(), dtype_, i);
    }
    model.descend(0.1F);
  }
  void steps(unsigned first, unsigned last) {
    for (unsigned number = first; number < last; ++number) step(number);
  }

  [[nodiscard]] Tensor tensor(std::size_t p) {
    if (dtype_ == DType::f32) return model.gradient(p);
    return {narrow_[p].data(), narrow_[p].size(), dtype_, Space::host};
  }

  ToyModel model;
  std::unique_ptr<GradientHook> hook;

 private:
  /// Gradients differ from step to step.
  static float noise(unsigned step, std::size_t i) { return 0.01F * static_cast<float>((step * 7 + i * 3) % 11); }

  DType dtype_;
  std::vector<std::vector<std::uint16_t>> narrow_;
  std::vector<std::vector<float>> targets_;
};

}  // namespace gradwire::test
