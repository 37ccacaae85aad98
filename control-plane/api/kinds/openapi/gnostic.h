// A version 2 document as application/com.github.proto-openapi.spec.v2@v1.0+protobuf: the only form
// that kubectl before 1.27 asks for. For the sources of this folder only.
#pragma once

#include <string>

#include "control-plane/api/kinds/openapi/schemas.h"

namespace skiff::cp {

// Of the document that openapi.cc makes; keys it does not use are not known here.
std::string EncodeGnostic(const Json& document);

}  // namespace skiff::cp
