// Which ConfigMaps, Secrets and RuntimeClass a pod names: what its node may and must be told. Pure.
#pragma once

#include <set>
#include <string>

#include "proto/k8s/fwd.h"

namespace skiff::cp {

struct PodReferences {
  std::set<std::string> config_maps;  // names, in the pod's own namespace
  std::set<std::string> secrets;
  std::set<std::string> runtime_classes;
};

// From env, envFrom, volumes (projected ones included) and imagePullSecrets of all containers, and
// runtimeClassName.
PodReferences ReferencesOf(const k8s::core::v1::PodSpec& spec);

}  // namespace skiff::cp
