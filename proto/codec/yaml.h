// YAML as Kubernetes reads it: converted to JSON, then decoded as JSON.
//
// Scalars follow YAML 1.1 as sigs.k8s.io/yaml does (yes, no, on, off are booleans; 0x and 0o
// integers; plain scalars only). Pure functions, any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace skiff::codec {

struct YamlLimits {
  size_t max_bytes = 3 * 1024 * 1024;        // of the input
  size_t max_json_bytes = 10 * 1024 * 1024;  // of the output: bounds what aliases expand to
  int max_depth = 100;
};

// The JSON text of a stream's first document; keys keep their order and repeated keys stay
// repeated, so that DecodeJson reports them. An empty document is "null".
// InvalidArgument: `error converting YAML to JSON: yaml: line 3: ...`.
Result<std::string> YamlToJson(std::string_view yaml, const YamlLimits& limits = {});

// The same for every document of a stream; empty documents are left out.
Result<std::vector<std::string>> YamlStreamToJson(std::string_view yaml,
                                                  const YamlLimits& limits = {});

}  // namespace skiff::codec
