// YAML: no input may crash, and what comes out is JSON.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "proto/codec/json_reader.h"
#include "proto/codec/yaml.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  skiff::codec::YamlLimits limits;
  limits.max_bytes = 64 * 1024;
  limits.max_json_bytes = 256 * 1024;
  auto documents = skiff::codec::YamlStreamToJson(text, limits);
  if (!documents) return 0;
  for (const std::string& document : *documents) {
    skiff::codec::JsonReader reader(document, 1000);
    if (!reader.SkipValue(nullptr) || !reader.AtEnd()) std::abort();
  }
  return 0;
}
