// What plugins answer: any bytes are a result, an error document, or neither; a result survives
// being written and read in the newest version, and can be written in each.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "cni/spec/error.h"
#include "cni/spec/result.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace skiff::cni;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (auto error = ParsePluginError(text)) (void)RenderPluginError(*error, kCni110);
  auto document = ParseDocument(text);
  if (!document.ok()) return 0;
  auto result = ParseAddResult(*document, kCni100);
  if (!result.ok()) return 0;
  for (const CniVersion& version : AllCniVersions()) {
    Json rendered = RenderAddResult(*result, version);
    auto again = ParseAddResult(rendered, kCni010);
    CHECK(again.ok());
    if (version == kCni110) CHECK(*again == *result);
  }
  return 0;
}
