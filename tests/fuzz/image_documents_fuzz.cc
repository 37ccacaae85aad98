// Manifests, indexes, configs and authentication challenges, as a registry could send them.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "runtime/image/manifest.h"
#include "runtime/image/records.h"
#include "runtime/image/registry_client.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace skiff::runtime;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)ClassifyDocument(text, "");
  (void)ParseManifest(text);
  (void)ParseConfig(text);
  if (const auto index = ParseIndex(text); index.ok()) {
    (void)ChooseManifest(*index, Platform::Host());
  }
  if (const auto records = ParseRecords(text); records.ok()) {
    CHECK(ParseRecords(FormatRecords(*records)).ok());
  }
  (void)ParseChallenges(text);
  (void)CredentialsFromBasicAuth(text);
  return 0;
}
