// A pod's names: its host name, its resolv.conf and its /etc/hosts. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/spec/node_context.h"
#include "proto/k8s/fwd.h"

namespace skiff::agent {

struct DnsConfig {
  std::vector<std::string> servers;
  std::vector<std::string> searches;
  std::vector<std::string> options;
  bool operator==(const DnsConfig&) const = default;
};

// A resolv.conf(5); what it does not understand is left out.
DnsConfig ParseResolvConf(std::string_view text);

// By dnsPolicy and dnsConfig
// (https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/). host: the node's own.
DnsConfig PodDns(const k8s::core::v1::Pod& pod, const NodeContext& node, const DnsConfig& host);

// What hostname(1) says in the pod, at most 63 characters; empty on the host's network.
std::string PodHostname(const k8s::core::v1::Pod& pod, const NodeContext& node);

// The pod's /etc/hosts. host_file: the node's own, for pods on the host's network.
std::string HostsFile(const k8s::core::v1::Pod& pod, const NodeContext& node,
                      const std::vector<std::string>& pod_ips, std::string_view host_file);

}  // namespace skiff::agent
