#include "cli/table.h"

#include <algorithm>

namespace skiff::cli {

std::string RenderTable(const std::vector<std::vector<std::string>>& rows) {
  std::string table;
  for (const auto& row : rows) {
    for (size_t column = 0; column < row.size(); ++column) {
      size_t width = 0;
      for (const auto& other : rows) width = std::max(width, other[column].size());
      table += row[column];
      if (column + 1 < row.size()) table.append(width - row[column].size() + 3, ' ');
    }
    table += '\n';
  }
  return table;
}

}  // namespace skiff::cli
