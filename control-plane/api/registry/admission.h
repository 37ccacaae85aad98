// What the server adds to objects on their way in besides the kind's own defaults: the work of
// upstream's built-in admission plugins. Pure.
#pragma once

#include "control-plane/api/kind.h"

namespace skiff::cp {

// On create, after the defaults. Pods: service account, tolerations for lost nodes, priority.
// Namespaces: the finalizer, the phase, the name label.
void Admit(Message& object);

// Whether nothing keeps a namespace marked for deletion (spec.finalizers) or any other object.
bool HasFinalizers(const Message& object);

}  // namespace skiff::cp
