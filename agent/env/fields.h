// The downward API's values: fields of a pod and resources of its containers as text. Pure.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "agent/spec/node_context.h"
#include "base/result.h"
#include "proto/k8s/fwd.h"

namespace skiff::agent {

// The value of a fieldPath ("metadata.name", "metadata.labels['app']", "status.podIP", ...).
// pod_ips: of the present sandbox. InvalidArgument for a path that does not exist.
Result<std::string> FieldValue(const k8s::core::v1::Pod& pod, std::string_view path,
                               const NodeContext& node, const std::vector<std::string>& pod_ips);

// The value of a resourceFieldRef; limits that are not set are what the node has to give.
Result<std::string> ResourceValue(const k8s::core::v1::Container& container,
                                  const k8s::core::v1::ResourceFieldSelector& selector,
                                  const NodeContext& node);

// Labels or annotations as the downward API's files show them: key="value" lines, sorted.
std::string FormatMap(const std::map<std::string, std::string>& map);

}  // namespace skiff::agent
