#include "dataset.hpp"

#include <algorithm>

#include "fail.hpp"
#include "idx_file.hpp"

namespace demo {
namespace {

Split load_split(const std::string& directory, const std::string& prefix) {
  const std::string images_path = directory + "/" + prefix + "-images-idx3-ubyte.gz";
  const std::string labels_path = directory + "/" + prefix + "-labels-idx1-ubyte.gz";
  IdxFile images = read_idx_file(images_path, 3);
  IdxFile labels = read_idx_file(labels_path, 1);
  require(images.shape[1] == Dataset::kSide && images.shape[2] == Dataset::kSide,
          "{} holds images of {}x{}, expected {}x{}", images_path, images.shape[1], images.shape[2], Dataset::kSide,
          Dataset::kSide);
  require(images.shape[0] == labels.shape[0], "{} holds {} images and {} holds {} labels", images_path, images.shape[0],
          labels_path, labels.shape[0]);
  const auto highest = *std::max_element(labels.values.begin(), labels.values.end());
  require(highest < Dataset::kClasses, "{} holds label {}, expected 0 to {}", labels_path, highest,
          Dataset::kClasses - 1);
  return {std::move(images.values), std::move(labels.values)};
}

}  // namespace

Dataset load_dataset(const std::string& directory) {
  try {
    return {load_split(directory, "train"), load_split(directory, "t10k")};
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(
        fmt::format("no usable Fashion-MNIST: {}\n(it comes with the Debian package dataset-fashion-mnist; --data DIR "
                    "names another directory)",
                    error.what()));
  }
}

}  // namespace demo
