// The three kinds of patches on one document: no input may crash. The input is the document, a NUL
// and the patch.
#include <cstdint>
#include <string_view>

#include "proto/codec/patch.h"
#include "proto/k8s/core/v1/pod.pb.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  size_t split = text.find('\0');
  if (split == std::string_view::npos) return 0;
  std::string_view document = text.substr(0, split);
  std::string_view patch = text.substr(split + 1);
  static_cast<void>(skiff::codec::ApplyJsonPatch(document, patch));
  static_cast<void>(skiff::codec::ApplyMergePatch(document, patch));
  static_cast<void>(
      skiff::codec::ApplyStrategicMergePatch(document, patch, *k8s::core::v1::Pod::descriptor()));
  return 0;
}
