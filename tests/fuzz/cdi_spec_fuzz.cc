// CDI files, which vendors' tools write.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "cri/cdi.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto spec =
      skiff::cri::ParseCdiSpec(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!spec.ok()) return 0;
  skiff::runtime::ContainerSpec container;
  for (const auto& [name, edits] : spec->devices) {
    CHECK(!name.empty());
    skiff::cri::ApplyCdiEdits(edits, &container);
  }
  for (const auto& mount : container.mounts) CHECK(mount.target.starts_with('/'));
  return 0;
}
