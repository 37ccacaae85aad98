// Selectors: the text of what was read reads as the same.
#include <google/protobuf/map.h>

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "proto/codec/selector.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  skiff::codec::LabelMap labels;
  labels.insert({"a", "1"});  // GCC 12 warns of an assignment here (its bug 105329)
  if (auto selector = skiff::codec::LabelSelector::Parse(text)) {
    auto again = skiff::codec::LabelSelector::Parse(selector->ToString());
    if (!again || again->Matches(labels) != selector->Matches(labels)) std::abort();
  }
  if (auto selector = skiff::codec::FieldSelector::Parse(text)) {
    static_cast<void>(selector->Matches([](std::string_view) { return std::string(); }));
  }
  return 0;
}
