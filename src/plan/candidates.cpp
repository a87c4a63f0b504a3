#include "gradwire/plan.hpp"

namespace gradwire {

std::vector<std::string> default_candidates() {
  std::vector<std::string> specs;
  for (const char* const bits : {"q2", "q3", "q4", "q5", "q6", "q8"}) specs.emplace_back(bits);
  for (const char* const density : {"0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1"})
    specs.push_back(std::string("topk(") + density + ")|q4");
  for (const char* const rank : {"1", "2", "4", "8", "16"}) specs.push_back(std::string("powersgd(") + rank + ")");
  return specs;
}

}  // namespace gradwire
