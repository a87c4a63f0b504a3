#include "dataset.hpp"

#include "fail.hpp"
#include "idx_file.hpp"

namespace demo {
namespace {

// of the training images, as fractions of 255
constexpr double kMean = 0.2860;
constexpr double kDeviation = 0.3530;

torch::Tensor as_tensor(const IdxFile& file) {
  const auto bytes = torch::TensorOptions().dtype(torch::kUInt8);
  // from_blob wants a pointer to non-const and only reads here; clone() then owns the memory
  return torch::from_blob(const_cast<std::uint8_t*>(file.values.data()), file.shape, bytes).clone();
}

Split load_split(const std::string& directory, const std::string& prefix) {
  const std::string images_path = directory + "/" + prefix + "-images-idx3-ubyte.gz";
  const std::string labels_path = directory + "/" + prefix + "-labels-idx1-ubyte.gz";
  const IdxFile images = read_idx_file(images_path, 3);
  const IdxFile labels = read_idx_file(labels_path, 1);
  require(images.shape[1] == Dataset::kSide && images.shape[2] == Dataset::kSide,
          "{} holds images of {}x{}, expected {}x{}", images_path, images.shape[1], images.shape[2], Dataset::kSide,
          Dataset::kSide);
  require(images.shape[0] == labels.shape[0], "{} holds {} images and {} holds {} labels", images_path, images.shape[0],
          labels_path, labels.shape[0]);
  const Split split{as_tensor(images).unsqueeze(1), as_tensor(labels).to(torch::kInt64)};
  const auto highest = split.labels.max().item<std::int64_t>();
  require(highest < Dataset::kClasses, "{} holds label {}, expected 0 to {}", labels_path, highest,
          Dataset::kClasses - 1);
  return split;
}

}  // namespace

Batch make_batch(const Split& split, const torch::Tensor& indices) {
  const torch::Tensor pixels = split.images.index_select(0, indices).to(torch::kFloat32);
  return {(pixels / 255.0 - kMean) / kDeviation, split.labels.index_select(0, indices)};
}

Dataset load_dataset(const std::string& directory) {
  try {
    return {load_split(directory, "train"), load_split(directory, "t10k")};
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(fmt::format(
        "no usable Fashion-MNIST: {}\n(it comes with the Debian package dataset-fashion-mnist; --data DIR names "
        "another directory)",
        error.what()));
  }
}

}  // namespace demo
