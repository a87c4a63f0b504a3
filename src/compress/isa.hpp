#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

/// \file Which instruction set the compressors run on, and how their kernels are found.
///
/// Kernels come in families: a struct of function pointers that belong together (ElementKernels, QuantizeKernels, ...).
/// A family K is complete when it has
///
///     template <> const K& isa::scalar_kernels<K>();                     // the reference: obvious loops, the oracle
///     template <> const K* isa::simd_kernels<K>(std::int64_t target);    // by GRADWIRE_EXPORT_KERNELS in simd/
///
/// and callers take isa::kernels<K>() once a call, outside their loops.
namespace gradwire::isa {

/// Instruction sets that this build has kernels for and this CPU runs, best first; "scalar", the reference code, is
/// last.
[[nodiscard]] const std::vector<std::string_view>& list();

/// The one in use: at first the one GRADWIRE_FORCE_ISA names, else the best.
/// Throws Errc::invalid_argument when that names none of list().
[[nodiscard]] std::string_view current();

/// Switches all threads of the process: for tests and benchmarks. Throws Errc::invalid_argument.
void select(std::string_view name);

/// Highway's bit for each entry of list(); 0 for "scalar".
[[nodiscard]] const std::vector<std::int64_t>& targets();
/// Place of the instruction set in use, and of a named one, in list().
[[nodiscard]] std::size_t current_index();
[[nodiscard]] std::size_t index_of(std::string_view name);

template <class Kernels>
[[nodiscard]] const Kernels& scalar_kernels() noexcept;
/// Null where the family has no kernels for the target.
template <class Kernels>
[[nodiscard]] const Kernels* simd_kernels(std::int64_t target) noexcept;

/// The kernels of a family by place in list(). A family without SIMD code for a target runs its reference there.
template <class Kernels>
[[nodiscard]] const Kernels& kernels_at(std::size_t index) {
  static const std::vector<const Kernels*> tables = [] {
    std::vector<const Kernels*> found;
    for (const std::int64_t target : targets()) {
      const Kernels* const simd = target == 0 ? nullptr : simd_kernels<Kernels>(target);
      found.push_back(simd == nullptr ? &scalar_kernels<Kernels>() : simd);
    }
    return found;
  }();
  return *tables[index];
}

template <class Kernels>
[[nodiscard]] const Kernels& kernels() {
  return kernels_at<Kernels>(current_index());
}
template <class Kernels>
[[nodiscard]] const Kernels& kernels_of(std::string_view name) {
  return kernels_at<Kernels>(index_of(name));
}

}  // namespace gradwire::isa
