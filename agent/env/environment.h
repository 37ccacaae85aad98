// A container's environment: env, envFrom, the downward API and the services' variables. Pure.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/desired/object_source.h"
#include "agent/spec/node_context.h"
#include "base/result.h"
#include "proto/k8s/fwd.h"

namespace skiff::agent {

using EnvList = std::vector<std::pair<std::string, std::string>>;

// In the order of the spec, service variables last. NotFound, in kubelet's words, when a ConfigMap,
// a Secret or a key is missing and not optional.
Result<EnvList> MakeEnvironment(const k8s::core::v1::Pod& pod,
                                const k8s::core::v1::Container& container,
                                const ObjectSource& objects, const NodeContext& node,
                                const std::vector<std::string>& pod_ips);

// FOO_SERVICE_HOST and so on for the services of the pod's namespace and for
// default/kubernetes, which pods get even where service links are off.
EnvList ServiceVariables(const k8s::core::v1::Pod& pod, const ObjectSource& objects);

// Replaces $(NAME); $$ stands for one $, an unknown name stays as it is.
std::string Expand(std::string_view text, const std::map<std::string, std::string>& variables);

}  // namespace skiff::agent
