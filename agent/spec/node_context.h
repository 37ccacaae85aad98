// What of the node goes into its pods: a value, copied into whatever is made of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace skiff::agent {

struct NodeContext {
  std::string node_name;
  std::vector<std::string> host_ips;  // the primary one first
  std::string cluster_domain = "cluster.local";
  std::vector<std::string> cluster_dns;
  // Above kubepods, e.g. "/skiff-a": two nodes on one machine need different ones. Empty: the root.
  std::string cgroup_root;
  bool cgroup_v2 = true;
  std::string state_dir = "/var/lib/skiff";  // pods/<uid>/ holds what is the pod's on disk
  std::string log_dir = "/var/log/pods";
  std::string resolv_conf = "/etc/resolv.conf";
  std::string hosts_file = "/etc/hosts";
  // Stand in for limits that a container does not have (downward API).
  int64_t allocatable_milli_cpu = 1000;
  int64_t allocatable_memory_bytes = int64_t{1} << 30;
  int64_t memory_capacity_bytes = int64_t{1} << 30;

  std::string PodDir(const std::string& uid) const { return state_dir + "/pods/" + uid; }
};

}  // namespace skiff::agent
