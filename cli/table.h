// Columns of text, as the commands that list things print them.
#pragma once

#include <string>
#include <vector>

namespace skiff::cli {

// Each column as wide as its widest cell. Every row has as many cells as the first.
std::string RenderTable(const std::vector<std::vector<std::string>>& rows);

}  // namespace skiff::cli
