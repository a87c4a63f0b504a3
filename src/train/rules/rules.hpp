#pragma once
#include <array>
#include <memory>
#include <vector>

#include "compress/spec.hpp"
#include "train/rules/each.hpp"

#include "gradwire/feedback.hpp"

namespace gradwire::rules {

/// A name that a rule's spec may start with.
struct Entry {
  RuleInfo info;
  std::string_view main_option;  ///< may come first without its name; empty: none
  std::unique_ptr<FeedbackRule> (*make)(OptionReader& options, const RuleContext& context);
};

// What each file brings: a new rule is a row in one of these.
[[nodiscard]] std::vector<Entry> residual_entries();  ///< none, ef
[[nodiscard]] std::vector<Entry> estimate_entries();  ///< ef21, ef21_sgdm, econtrol, diana
[[nodiscard]] std::vector<Entry> momentum_entries();  ///< dgc
[[nodiscard]] std::vector<Entry> adam_entries();      ///< onebit_adam

/// A rule of N vectors, which all become the state together.
template <std::size_t N>
class RuleOf : public FeedbackRule {
 public:
  void commit() noexcept override {
    for (StateVector& vector : vectors_) vector.commit();
  }
  [[nodiscard]] std::vector<NamedState> state() final {
    std::vector<NamedState> all;
    for (std::size_t i = 0; i < N; ++i) {
      all.push_back({names_[i].name, names_[i].kind, &vectors_[i], names_[i].degree});
    }
    return all;
  }
  [[nodiscard]] std::size_t bytes() const noexcept override {
    std::size_t total = 0;
    for (const StateVector& vector : vectors_) total += vector.bytes();
    return total;
  }

 protected:
  struct Name {
    const char* name;
    StateKind kind;
    int degree = 1;          ///< NamedState::degree
    bool is_number = false;  ///< one element, in host memory, not one for each of the parameter's
  };
  /// The first vector is kept in `storage`, the others in f32.
  RuleOf(const RuleContext& context, std::array<Name, N> names, std::string_view storage = "f32")
      : count_(context.count), names_(names) {
    for (std::size_t i = 0; i < N; ++i) {
      const Name& name = names[i];
      vectors_.emplace_back(name.is_number ? 1 : count_, i == 0 ? storage : "f32",
                            name.is_number ? Space::host : context.space);
    }
  }
  [[nodiscard]] StateVector& vector(std::size_t i) noexcept { return vectors_[i]; }
  [[nodiscard]] const StateVector& vector(std::size_t i) const noexcept { return vectors_[i]; }

  const std::size_t count_;

 private:
  std::array<Name, N> names_;
  std::vector<StateVector> vectors_;
};

/// For rules that keep nothing in it: refused all the same where it is wrong.
inline void check_storage(std::string_view storage, Space space) { (void)StateVector(0, storage, space); }

}  // namespace gradwire::rules
