#include "optimizer.hpp"

namespace demo {
namespace {

/// An option of "rule(value,...,name=value)", which may come first without its name.
double option(const std::string& rule, const std::string& name, double fallback) {
  const std::size_t open = rule.find('(');
  if (open == std::string::npos) return fallback;
  for (std::size_t first = open + 1; first < rule.size();) {
    const std::size_t end = rule.find_first_of(",)", first);
    const std::string text = rule.substr(first, end - first);
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos && first == open + 1 && !text.empty()) return std::stod(text);
    if (equals != std::string::npos && text.substr(0, equals) == name) return std::stod(text.substr(equals + 1));
    if (end == std::string::npos) break;
    first = end + 1;
  }
  return fallback;
}

}  // namespace

Optimizer optimizer_for(const std::string& rule) {
  const std::string name = rule.substr(0, rule.find('('));
  Optimizer o;
  if (name == "dgc") {
    const double momentum = option(rule, "momentum", 0.9);
    o = {0.2, 0, o.weight_decay, true, momentum, 1};
  } else if (name == "ef21_sgdm") {
    const double eta = option(rule, "eta", 0.1);
    o = {2, 0, o.weight_decay, true, 1 - eta, eta};
  } else if (name == "onebit_adam") {
    o = {0.001, 0, 0.01, true, 0, 1};
  }
  return o;
}

}  // namespace demo
