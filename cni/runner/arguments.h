// What plugins are told of a pod, as Kubernetes' runtimes tell it, and what their result means.
// Pure.
#pragma once

#include <string>
#include <vector>

#include "base/net/ip.h"
#include "base/result.h"
#include "cni/network.h"
#include "cni/runner/chain.h"

namespace skiff::cni {

// "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;...". InvalidArgument: a name that would end its
// field.
Result<std::string> PluginArguments(const AttachRequest& request);

// Every capability argument that there is something to say of (CONVENTIONS.md): portMappings,
// bandwidth, ips, ipRanges, dns, mac, cgroupPath.
Json CapabilityArguments(const AttachRequest& request, const std::vector<net::IpPrefix>& pod_cidrs);

// The pod's addresses, one a family, are those of the interface in its namespace; an address of no
// interface counts as one. FailedPrecondition where there is none.
Result<Attachment> AttachmentOf(const Json& result, const CniVersion& version,
                                const std::string& pod_interface);

}  // namespace skiff::cni
