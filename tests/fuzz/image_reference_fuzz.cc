// Image references: whatever is accepted is safe in URLs and reads back as itself.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "runtime/image/reference.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using skiff::runtime::ImageReference;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto reference = ImageReference::Parse(text);
  if (!reference.ok()) return 0;
  const auto again = ImageReference::Parse(reference->ToString());
  CHECK(again.ok() && again->ToString() == reference->ToString());
  CHECK(reference->repository.find("..") == std::string::npos);
  return 0;
}
