// What a RuntimeClass does to the pods that name it, as upstream's admission plugin
// (https://kubernetes.io/docs/concepts/containers/runtime-class/). Pure.
#pragma once

#include <string>

#include "proto/k8s/fwd.h"

namespace k8s::node::v1 {
class RuntimeClass;
}

namespace skiff::cp {

// Gives the pod the class's overhead, node selector and tolerations. Why the pod is refused; empty:
// it is not.
std::string ApplyRuntimeClass(const ::k8s::node::v1::RuntimeClass& runtime_class,
                              ::k8s::core::v1::Pod* pod);

// The same of a pod as it would be stored: an overhead is its class's or none. runtime_class: null
// where it names none.
std::string CheckOverhead(const ::k8s::node::v1::RuntimeClass* runtime_class,
                          const ::k8s::core::v1::Pod& pod);

}  // namespace skiff::cp
