// What benchmark programs print: one JSON object a figure.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace skiff::bench {

inline void PrintFigure(const std::string& name, double value, const char* unit) {
  nlohmann::json line{{"name", name}, {"value", std::round(value * 100) / 100}, {"unit", unit}};
  std::printf("%s\n", line.dump().c_str());
}

// Milliseconds by the name of a step, of many rounds.
class Samples {
 public:
  void Add(const std::map<std::string, double>& times) {
    for (const auto& [name, value] : times) values_[name].push_back(value);
  }
  void Print(const std::string& suffix) {
    for (auto& [name, values] : values_) {
      std::sort(values.begin(), values.end());
      for (int percent : {50, 95, 99}) {
        size_t index = values.size() * static_cast<size_t>(percent) / 100;
        PrintFigure(name + suffix + ", p" + std::to_string(percent),
                    values[std::min(index, values.size() - 1)], "ms");
      }
    }
  }

 private:
  std::map<std::string, std::vector<double>> values_;
};

}  // namespace skiff::bench
