// The Node object: what this machine is and how it is.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/cri_client/cri_client.h"
#include "base/clock.h"
#include "base/result.h"
#include "proto/k8s/fwd.h"

namespace skiff::agent {

// How a node tells its peers the MTU of its pods.
inline constexpr const char* kPodMtuAnnotation = "skiff.dev/pod-mtu";

// And its public WireGuard key.
inline constexpr const char* kWireguardKeyAnnotation = "skiff.dev/wireguard-key";

struct NodeOptions {
  std::string node_name;
  std::vector<std::string> node_ips;          // given, or found by FindNodeIps
  std::map<std::string, std::string> labels;  // beside the well-known ones
  std::string state_dir = "/var/lib/skiff";   // its filesystem is the node's storage
  std::string agent_version;
  int max_pods = 110;
  uint32_t pod_mtu = 0;       // what peers may send its pods, once known
  std::string wireguard_key;  // public; empty: the overlay is another
  // How the way to other nodes is, once known; the condition OverlayDegraded.
  struct Overlay {
    bool degraded = false;
    std::string reason, message;
  };
  std::optional<Overlay> overlay;
  // Kept back from pods.
  int64_t reserved_milli_cpu = 0;
  int64_t reserved_memory_bytes = 0;
  // What the machine is said to have, for several nodes on one; 0: all of it.
  int64_t milli_cpu = 0;
  int64_t memory_bytes = 0;
};

// Facts that do not change while the machine runs.
struct MachineFacts {
  std::string machine_id;
  std::string system_uuid;
  std::string boot_id;
  std::string kernel_version;
  std::string os_image;
  std::string architecture;  // Go's name: "amd64"
  std::string hostname;
  int64_t milli_cpu = 0;
  int64_t memory_bytes = 0;
  int64_t swap_bytes = 0;
};
MachineFacts ReadMachineFacts();

// What changes.
struct NodeHealth {
  bool runtime_ready = false;
  std::string runtime_message;  // why not
  bool network_ready = false;
  std::string network_message;
  uint64_t available_memory_bytes = 0;
  uint64_t disk_bytes = 0;  // of the state directory's filesystem
  uint64_t available_disk_bytes = 0;
  uint64_t disk_inodes = 0;
  uint64_t available_inodes = 0;
  uint64_t max_pids = 0;
  uint64_t used_pids = 0;
  RuntimeVersion runtime;
  std::vector<RuntimeHandlerFeatures> handlers;
  bool supplemental_groups_policy = false;
  std::vector<ImageInfo> images;
};
NodeHealth ObserveHealth(CriClient& cri, const std::string& state_dir);

// The object as the node reports it. previous: the one before, or null; the times of conditions are
// taken from it. Pure.
k8s::core::v1::Node MakeNode(const NodeOptions& options, const MachineFacts& facts,
                             const NodeHealth& health, const k8s::core::v1::Node* previous,
                             WallTime now);

// Whether they differ in more than heartbeats: a reason to report before the time.
bool NodeDiffers(const k8s::core::v1::Node& a, const k8s::core::v1::Node& b);

}  // namespace skiff::agent
