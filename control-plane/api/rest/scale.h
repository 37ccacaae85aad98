// The scale subresource (autoscaling/v1 Scale). Pure.
#pragma once

#include "control-plane/api/registry/registry.h"

namespace skiff::cp {

// What GET shows of an object with spec.replicas and status.replicas.
MessagePtr ScaleOf(const Message& object);
// The object with the replicas of a Scale; 422 for a negative number.
ApiResult<MessagePtr> WithScale(const KindInfo& kind, const Message& object, const Message& scale);

}  // namespace skiff::cp
