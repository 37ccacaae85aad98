// Layers: the inflater and the tar reader over any bytes, in small chunks.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "runtime/image/layer_writer.h"
#include "runtime/image/tar_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace skiff::runtime;
  constexpr uint64_t kLimit = 1 << 22;
  MemorySource memory({reinterpret_cast<const char*>(data), size}, 37);
  InflatingSource inflated(memory);
  HashingSource bounded(inflated, "sha256", kLimit);
  TarReader reader(bounded);
  while (true) {
    const auto entry = reader.Next();
    if (!entry.ok() || !*entry) return 0;
    const auto path = CleanLayerPath((*entry)->path);
    CHECK(!path.ok() || (*path != ".." && path->find("../") != 0));
    while (true) {
      const auto bytes = reader.ReadData();
      if (!bytes.ok()) return 0;
      if (bytes->empty()) break;
    }
  }
}
