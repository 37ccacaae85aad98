// authorization.k8s.io: what a user may do (kubectl auth can-i).
#pragma once

#include "control-plane/api/rest/call.h"

namespace skiff::cp {

// SelfSubjectAccessReview and SelfSubjectRulesReview; create only.
Answer ServeAccessReview(Call& call);

}  // namespace skiff::cp
