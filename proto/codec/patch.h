// The patches of the Kubernetes API, on JSON documents.
//
// Pure functions, any thread. All return the patched document as JSON text. Errors:
//   InvalidArgument     the patch is malformed: answer 400
//   FailedPrecondition  it does not apply to this document (a path that is not there, a failed
//                       "test", a list without its merge key): answer 422
//   ResourceExhausted   too large, too deep, or too many operations: answer 413
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace google::protobuf {
class Descriptor;
}

namespace skiff::codec {

// RFC 6902, application/json-patch+json. At most 10000 operations, as upstream.
Result<std::string> ApplyJsonPatch(std::string_view document, std::string_view patch);

// RFC 7386, application/merge-patch+json.
Result<std::string> ApplyMergePatch(std::string_view document, std::string_view patch);

// application/strategic-merge-patch+json with the directives $patch (replace, delete, merge),
// $deleteFromPrimitiveList/FIELD, $setElementOrder/FIELD and $retainKeys. Strategies and merge keys
// are those of the schema's patch_strategy and patch_merge_key options.
Result<std::string> ApplyStrategicMergePatch(std::string_view document, std::string_view patch,
                                             const google::protobuf::Descriptor& schema);

}  // namespace skiff::codec
