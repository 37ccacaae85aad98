// JSON as runtimes and plugins exchange it, read with limits and written whatever it holds.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace skiff::cni {

using Json = nlohmann::json;

// Of a configuration, a result or an error.
inline constexpr size_t kDocumentLimitBytes = 1 << 20;
inline constexpr int kDocumentDepth = 64;  // writing and comparing documents recurse

// One JSON object. InvalidArgument: no JSON, no object, too large or nested too deep.
Result<Json> ParseDocument(std::string_view text, size_t limit_bytes = kDocumentLimitBytes,
                           int max_depth = kDocumentDepth);
// On one line; bytes that are no UTF-8 are replaced.
std::string RenderDocument(const Json& document);

// Fields of an object; one that is missing or null is the default. InvalidArgument names the field
// where its value is of another kind or beyond the limit.
Result<std::string> TextField(const Json& object, const char* name);
Result<bool> BoolField(const Json& object, const char* name, bool fallback);
Result<std::optional<uint32_t>> NumberField(const Json& object, const char* name);
Result<std::vector<std::string>> TextsField(const Json& object, const char* name,
                                            size_t limit = 256);
// The array of that name, or null where there is none.
Result<const Json*> ArrayField(const Json& object, const char* name, size_t limit);
Result<const Json*> ObjectField(const Json& object, const char* name);

}  // namespace skiff::cni
