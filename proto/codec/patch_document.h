// What the three kinds of patches share: documents as trees, within limits. For their sources only.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace skiff::codec {

using Json = nlohmann::json;

inline constexpr int kMaxPatchDepth = 200;
inline constexpr size_t kMaxPatchBytes = 10 * 1024 * 1024;

// What is no patch, and what is one that does not fit its document.
inline Error Malformed(std::string why) { return Error(Code::kInvalidArgument, std::move(why)); }
inline Error NotApplicable(std::string why) {
  return Error(Code::kFailedPrecondition, std::move(why));
}

// InvalidArgument with `what` ("patch") in front: no JSON, or nested too deep.
Result<Json> ParseDocument(std::string_view text, std::string_view what);
// ResourceExhausted: what the patch made is too large.
Result<std::string> DumpDocument(const Json& document);

}  // namespace skiff::codec
