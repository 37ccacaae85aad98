// Image archives of any bytes: read whole or refused, and nothing stays in staging.
#include <cstdint>
#include <filesystem>
#include <string_view>

#include "base/os/files.h"
#include "runtime/image/archive.h"
#include "runtime/image/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace skiff;
  static const TempDir directory = TempDir::Make("fuzz-archive").value();
  static const auto content = runtime::Content::Open(directory.path(), true).value();
  runtime::MemorySource archive(std::string_view(reinterpret_cast<const char*>(data), size));
  const auto images = runtime::ReadImageArchive(*content, archive, runtime::Platform::Host());
  CHECK(std::filesystem::is_empty(directory.path() + "/staging"));
  if (!images.ok()) return 0;
  for (const runtime::ArchivedImage& image : *images) {
    const auto manifest = runtime::ParseManifest(image.manifest_bytes);
    CHECK(manifest.ok());
    CHECK(content->HasBlob(manifest->config.digest, manifest->config.size_bytes));
  }
  return 0;
}
