// From a pod's spec to what a probe or a hook connects to. Pure.
#pragma once

#include <string>

#include "agent/probes/runner.h"
#include "base/result.h"
#include "proto/k8s/fwd.h"

namespace skiff::agent {

// InvalidArgument for a named port that the container does not have.
Result<ProbeTarget> TargetOf(const k8s::core::v1::ProbeHandler& handler,
                             const k8s::core::v1::Container& container,
                             const std::string& container_id, const std::string& pod_ip);
Result<HttpProbe> HttpTargetOf(const k8s::core::v1::HTTPGetAction& action,
                               const k8s::core::v1::Container& container,
                               const std::string& pod_ip);

}  // namespace skiff::agent
