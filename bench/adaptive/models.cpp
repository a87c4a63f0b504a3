#include "models.hpp"

#include <fmt/format.h>

#include <stdexcept>

namespace gradwire::adaptive {
namespace {

/// Appends parameters under a common prefix.
class Builder {
 public:
  explicit Builder(Model& model) : model_(model) {}

  void add(const std::string& name, std::vector<std::size_t> shape, double positions = 1) {
    model_.parameters.push_back({name, std::move(shape), positions});
  }
  /// A matrix and its bias.
  void linear(const std::string& name, std::size_t out, std::size_t in, bool bias = true) {
    add(name + ".weight", {out, in});
    if (bias) add(name + ".bias", {out});
  }
  /// Scales and shifts.
  void norm(const std::string& name, std::size_t width) {
    add(name + ".weight", {width});
    add(name + ".bias", {width});
  }
  /// A convolution without bias, and its batch norm. `side`: of its output.
  void convolution(const std::string& name, std::size_t out, std::size_t in, std::size_t kernel, std::size_t side) {
    add(name + ".weight", {out, in, kernel, kernel}, static_cast<double>(side * side));
    norm(name + "_bn", out);
  }

 private:
  Model& model_;
};

Model resnet50() {
  Model model{"resnet50", 60'000, {}};
  Builder to(model);
  to.convolution("conv1", 64, 3, 7, 112);
  std::size_t in = 64;
  const std::size_t blocks[] = {3, 4, 6, 3};
  for (std::size_t stage = 0; stage < 4; ++stage) {
    const std::size_t width = std::size_t{64} << stage;
    const std::size_t side = std::size_t{56} >> stage;
    for (std::size_t block = 0; block < blocks[stage]; ++block) {
      const std::string name = fmt::format("layer{}.{}", stage + 1, block);
      to.convolution(name + ".conv1", width, in, 1, block == 0 && stage > 0 ? 2 * side : side);
      to.convolution(name + ".conv2", width, width, 3, side);
      to.convolution(name + ".conv3", 4 * width, width, 1, side);
      if (block == 0) to.convolution(name + ".downsample", 4 * width, in, 1, side);
      in = 4 * width;
    }
  }
  to.linear("fc", 1000, in);
  return model;
}

Model transformer_xl() {
  Model model{"transformer_xl_base", 250'000, {}};
  Builder to(model);
  const std::size_t width = 512;
  to.add("word_emb.weight", {267'735, width}, 0.01);
  to.add("r_w_bias", {8, 64});
  to.add("r_r_bias", {8, 64});
  for (int layer = 0; layer < 16; ++layer) {
    const std::string name = fmt::format("layers.{}", layer);
    to.linear(name + ".qkv_net", 3 * width, width, false);
    to.linear(name + ".o_net", width, width, false);
    to.linear(name + ".r_net", width, width, false);
    to.norm(name + ".attn_norm", width);
    to.linear(name + ".ff1", 2048, width);
    to.linear(name + ".ff2", width, 2048);
    to.norm(name + ".ff_norm", width);
  }
  to.linear("crit.cluster", 3, width);
  to.add("crit.out_bias", {267'735});
  return model;
}

Model bert_base() {
  Model model{"bert_base", 120'000, {}};
  Builder to(model);
  const std::size_t width = 768;
  to.add("embeddings.word", {30'522, width}, 0.01);
  to.add("embeddings.position", {512, width}, 0.01);
  to.add("embeddings.token_type", {2, width}, 0.01);
  to.norm("embeddings.norm", width);
  for (int layer = 0; layer < 12; ++layer) {
    const std::string name = fmt::format("encoder.{}", layer);
    for (const char* const part : {".query", ".key", ".value", ".output"}) to.linear(name + part, width, width);
    to.norm(name + ".attention_norm", width);
    to.linear(name + ".intermediate", 4 * width, width);
    to.linear(name + ".out", width, 4 * width);
    to.norm(name + ".out_norm", width);
  }
  to.linear("pooler", width, width);
  return model;
}

Model gpt2_medium() {
  Model model{"gpt2_medium", 300'000, {}};
  Builder to(model);
  const std::size_t width = 1024;
  to.add("wte", {50'257, width}, 0.01);
  to.add("wpe", {1024, width}, 0.01);
  for (int layer = 0; layer < 24; ++layer) {
    const std::string name = fmt::format("h.{}", layer);
    to.norm(name + ".ln_1", width);
    to.linear(name + ".attn", 3 * width, width);
    to.linear(name + ".attn_proj", width, width);
    to.norm(name + ".ln_2", width);
    to.linear(name + ".mlp", 4 * width, width);
    to.linear(name + ".mlp_proj", width, 4 * width);
  }
  to.norm("ln_f", width);
  return model;
}

}  // namespace

std::uint64_t elements(const std::vector<std::size_t>& shape) {
  std::uint64_t count = 1;
  for (const std::size_t extent : shape) count *= extent;
  return count;
}

std::vector<Model> models() {
  std::vector<Model> all{resnet50(), transformer_xl(), bert_base(), gpt2_medium()};
  const std::uint64_t published[] = {25'557'032, 191'950'298, 109'482'240, 354'823'168};
  for (std::size_t i = 0; i < all.size(); ++i) {
    std::uint64_t sum = 0;
    for (const Parameter& parameter : all[i].parameters) sum += elements(parameter.shape);
    if (sum != published[i])
      throw std::logic_error(fmt::format("{} has {} elements, expected {}", all[i].name, sum, published[i]));
  }
  return all;
}

}  // namespace gradwire::adaptive
