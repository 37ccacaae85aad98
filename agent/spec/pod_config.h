// A pod and its containers as CRI configurations: the one place where Kubernetes' words become the
// runtime's. Pure: what has to be made on disk first is named by the paths in the arguments.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "agent/cri_client/cri_client.h"
#include "agent/env/environment.h"
#include "agent/spec/dns.h"
#include "agent/spec/node_context.h"
#include "base/result.h"
#include "proto/k8s/fwd.h"

namespace runtime::v1 {
class ContainerConfig;
class PodSandboxConfig;
}  // namespace runtime::v1

namespace skiff::agent {

Result<> FillSandboxConfig(const k8s::core::v1::Pod& pod, uint32_t attempt, const NodeContext& node,
                           const DnsConfig& host_dns, ::runtime::v1::PodSandboxConfig* config);

// A volume mount whose source is on the node.
struct ResolvedMount {
  std::string host_path;
  std::string container_path;
  bool read_only = false;
  bool recursive_read_only = false;
  std::string propagation;  // "", "None", "HostToContainer", "Bidirectional"
};

struct ContainerInputs {
  uint32_t attempt = 0;
  const ImageInfo* image = nullptr;
  EnvList env;
  std::vector<ResolvedMount> mounts;  // volumes, and the files below where they are to be mounted
};

Result<> FillContainerConfig(const k8s::core::v1::Pod& pod,
                             const k8s::core::v1::Container& container,
                             const ContainerInputs& inputs, const NodeContext& node,
                             ::runtime::v1::ContainerConfig* config);

// Where a run's termination message is on the node: <pod dir>/containers/<name>/<attempt>.
std::string TerminationMessageFile(const std::string& pod_dir, const std::string& container,
                                   uint32_t attempt);
// Relative to the sandbox's log directory: "web/0.log".
std::string LogPath(const std::string& container, uint32_t attempt);

}  // namespace skiff::agent
