// images.json: the records of the images, as one document that is replaced in one step. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runtime/image/image.h"

namespace skiff::runtime {

// The documents hold all of an image but how to run it, which is read from its config blob.
std::string FormatRecords(const std::vector<Image>& records);
// DataLoss when the text is not what FormatRecords writes.
Result<std::vector<Image>> ParseRecords(std::string_view text);

}  // namespace skiff::runtime
