#include "recorder.hpp"

#include <bit>
#include <cstddef>
#include <filesystem>
#include <fstream>

#include "fail.hpp"

namespace demo {
namespace {

/// Version 1.0 of NumPy's format: magic, version, the length of the dictionary, and the dictionary, padded with blanks
/// so that the data start at a multiple of 64.
std::string npy_header(const std::vector<std::size_t>& shape) {
  std::string extents;
  for (const std::size_t extent : shape) extents += fmt::format("{},", extent);
  std::string dictionary = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", extents);
  constexpr std::size_t kBefore = 10;
  dictionary.append(63 - (kBefore + dictionary.size()) % 64, ' ');
  dictionary += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(dictionary.size() & 0xff);
  header += static_cast<char>(dictionary.size() >> 8);
  return header + dictionary;
}

}  // namespace

Recorder::Recorder(std::string directory, std::vector<Learner::Parameter> parameters)
    : directory_(std::move(directory)), parameters_(std::move(parameters)) {
  std::filesystem::create_directories(directory_);
}

void Recorder::write(const std::string& tag, const Learner::Gradient& gradient) const {
  static_assert(std::endian::native == std::endian::little);
  const Learner::Parameter& parameter = parameters_[gradient.parameter];
  const std::string path = fmt::format("{}/{}.{}.npy", directory_, tag, parameter.name);
  std::ofstream file(path, std::ios::binary);
  const std::string header = npy_header(parameter.shape);
  file.write(header.data(), static_cast<std::streamsize>(header.size()));
  file.write(reinterpret_cast<const char*>(gradient.data),
             static_cast<std::streamsize>(gradient.count * sizeof(float)));
  file.close();
  require(file.good(), "cannot write {}", path);
}

}  // namespace demo
