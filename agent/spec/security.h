// securityContext, of the pod and of a container, as CRI wants it. Pure.
#pragma once

#include <optional>

#include "agent/cri_client/cri_client.h"
#include "agent/spec/node_context.h"
#include "base/result.h"
#include "proto/k8s/fwd.h"

namespace runtime::v1 {
class LinuxContainerSecurityContext;
class LinuxSandboxSecurityContext;
}  // namespace runtime::v1

namespace skiff::agent {

Result<> FillSandboxSecurity(const k8s::core::v1::Pod& pod, const NodeContext& node,
                             ::runtime::v1::LinuxSandboxSecurityContext* security);

// The container's settings over the pod's over the image's. InvalidArgument, in kubelet's words,
// when runAsNonRoot forbids the user.
Result<> FillContainerSecurity(const k8s::core::v1::Pod& pod,
                               const k8s::core::v1::Container& container, const ImageInfo& image,
                               const NodeContext& node,
                               ::runtime::v1::LinuxContainerSecurityContext* security);

}  // namespace skiff::agent
