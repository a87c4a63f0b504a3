// WeLore's rule for ranks (arXiv 2407.11239; adaptive_rank_pruning in its utils.py): singular values of each matrix are
// scaled to 0..1, and one threshold for the whole model says how many of each stay.
//
// What is ours: spectra are of gradients, not of weights; the threshold comes from a budget of bytes; ranks are rounded
// to those that the table has; and a matrix whose factors would take as much as a quantised frame is quantised.
#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "base/fail.hpp"
#include "plan/policy.hpp"
#include "plan/table.hpp"

namespace gradwire {
namespace {

constexpr double kNotGiven = -1;

struct Settings {
  std::string spec;
  double ratio = kNotGiven;
  double bytes = kNotGiven;
  std::string quantiser;
};

/// A low-rank candidate.
struct Rank {
  std::size_t rank;
  std::uint64_t bytes;
  std::size_t candidate;
};

/// A layer with a spectrum, and what it may have.
struct Matrix {
  std::size_t layer;
  std::vector<Rank> ranks;     ///< rise; never empty
  std::vector<double> scaled;  ///< singular values within 0..1, largest first
  bool quantisable;            ///< its quantiser is one, and not of low rank itself
  std::size_t kept = 0;        ///< values at or above the threshold
};

/// (value - least) / (largest - least). The least is 0 where only the first values are known. A matrix whose values are
/// all the same is of full rank, all 1; one of zeros needs no rank, all 0.
std::vector<double> scale(const std::vector<double>& values, MatrixView view) {
  const double largest = values.front();
  const double least = values.size() == std::min(view.rows, view.cols) ? values.back() : 0;
  std::vector<double> scaled;
  for (const double value : values)
    scaled.push_back(largest == 0 ? 0 : (largest == least ? 1 : (value - least) / (largest - least)));
  return scaled;
}

/// The matrices of a table, at a threshold that rises.
class Spectra {
 public:
  Spectra(const Table& table, const std::string& quantiser) : table_(table), choice_(reference_of(table)) {
    for (std::size_t l = 0; l < table.layers.size(); ++l) {
      choice_[l] = find_candidate(table.layers[l], quantiser).value_or(choice_[l]);
      add(l);
    }
    for (std::size_t m = 0; m < matrices_.size(); ++m)
      for (const double value : matrices_[m].scaled) values_.emplace_back(value, m);
    std::sort(values_.begin(), values_.end());
    bytes_ = totals(table_, choice()).bytes;
  }

  [[nodiscard]] bool empty() const { return matrices_.empty(); }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

  /// Raises the threshold to the next singular value. Returns false, and does nothing, where it is the largest.
  bool raise() {
    if (values_[next_].first == values_.back().first) return false;
    const double passed = values_[next_].first;
    for (; values_[next_].first == passed; ++next_) {
      Matrix& matrix = matrices_[values_[next_].second];
      bytes_ -= bytes_of(matrix);
      --matrix.kept;
      bytes_ += bytes_of(matrix);
    }
    return true;
  }

  [[nodiscard]] Choice choice() const {
    Choice choice = choice_;
    for (const Matrix& matrix : matrices_) choice[matrix.layer] = candidate_of(matrix);
    return choice;
  }

 private:
  void add(std::size_t l) {
    const TableLayer& layer = table_.layers[l];
    if (layer.singular_values.empty()) return;
    const MatrixView view = matrix_view(layer.shape);
    Matrix matrix{l, {}, scale(layer.singular_values, view), true};
    for (std::size_t c = 0; c < layer.candidates.size(); ++c) {
      const std::optional<Compressor>& found = compressor(layer.candidates[c].spec);
      const LowRank* const scheme = found ? found->low_rank() : nullptr;
      if (scheme == nullptr || !scheme->pays(view)) continue;  // its fallback is what travels
      matrix.ranks.push_back({scheme->rank_for(view), layer.candidates[c].bytes, c});
      if (c == choice_[l]) matrix.quantisable = false;
    }
    if (matrix.ranks.empty()) return;
    std::stable_sort(matrix.ranks.begin(), matrix.ranks.end(), [](const Rank& a, const Rank& b) {
      return a.rank != b.rank ? a.rank < b.rank : a.bytes < b.bytes;
    });
    matrix.kept = matrix.scaled.size();
    matrices_.push_back(std::move(matrix));
  }
  [[nodiscard]] const std::optional<Compressor>& compressor(const std::string& spec) {
    const auto found = compressors_.find(spec);
    return found != compressors_.end() ? found->second
                                       : compressors_.emplace(spec, find_compressor(spec)).first->second;
  }

  /// The lowest rank that keeps the values at or above the threshold, or the highest there is; the quantiser where that
  /// takes no more bytes.
  [[nodiscard]] std::size_t candidate_of(const Matrix& matrix) const {
    const auto enough = std::find_if(matrix.ranks.begin(), matrix.ranks.end(),
                                     [&](const Rank& rank) { return rank.rank >= matrix.kept; });
    const Rank& rank = enough == matrix.ranks.end() ? matrix.ranks.back() : *enough;
    const bool quantise = matrix.quantisable && chosen(table_, choice_, matrix.layer).bytes <= rank.bytes;
    return quantise ? choice_[matrix.layer] : rank.candidate;
  }
  [[nodiscard]] std::uint64_t bytes_of(const Matrix& matrix) const {
    return table_.layers[matrix.layer].candidates[candidate_of(matrix)].bytes;
  }

  const Table& table_;
  Choice choice_;  ///< each layer's quantiser
  std::vector<Matrix> matrices_;
  std::vector<std::pair<double, std::size_t>> values_;  ///< of all matrices, with their index; rise
  std::size_t next_ = 0;                                ///< the threshold: the least value that is kept
  std::uint64_t bytes_ = 0;
  std::map<std::string, std::optional<Compressor>> compressors_;
};

Solution solve(const Table& table, const Settings& settings) {
  if (!settings.quantiser.empty()) require_candidate(table, settings.quantiser, settings.spec);
  Spectra spectra(table, settings.quantiser);
  require(!spectra.empty(),
          "policy \"{}\": no layer has singular values and a low-rank candidate that pays for its shape, like "
          "powersgd(rank=2)",
          settings.spec);
  const double budget = settings.ratio == kNotGiven ? settings.bytes : std::floor(dense_bytes(table) / settings.ratio);
  while (static_cast<double>(spectra.bytes()) > budget) {
    require(spectra.raise(),
            "policy \"{}\": no plan: at the highest threshold the bytes sum to {}, over the budget of {}",
            settings.spec, spectra.bytes(), budget);
  }
  return {spectra.choice(), PlanLimit::bytes, budget};
}

Solver make(const Spec& spec) {
  OptionReader options(spec);
  Settings settings;
  settings.spec = spec.text;
  settings.ratio = options.real("ratio", kNotGiven, 1e-3, 1e9);
  settings.bytes = options.real("bytes", kNotGiven, 0, static_cast<double>(kMaxBytes));
  settings.quantiser = options.spec("quantiser", "");
  options.finish();
  require((settings.ratio == kNotGiven) != (settings.bytes == kNotGiven),
          "policy \"{}\": which budget? One of ratio=R, bytes=B", spec.text);
  return [settings](const Table& table) { return solve(table, settings); };
}

}  // namespace

PolicyEntry spectral_entry() {
  return {
      {"spectral", "spectral(ratio=8)",
       "one of ratio=R: f32 bytes over the budget, bytes=B; quantiser=SPEC for what is not of low rank (the reference)",
       "one threshold on all matrices' scaled singular values says their ranks; what does not shrink is quantised",
       "Jaiswal et al. 2024, arXiv 2407.11239"},
      make};
}

}  // namespace gradwire
