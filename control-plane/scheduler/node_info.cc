#include "control-plane/scheduler/node_info.h"

#include <algorithm>

#include "proto/k8s/core/v1/container.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {
namespace {

bool IsEveryAddress(const std::string& ip) { return ip.empty() || ip == "0.0.0.0" || ip == "::"; }

void AppendPorts(const k8s::core::v1::Container& container, std::vector<HostPort>* ports) {
  for (const auto& port : container.ports()) {
    if (port.host_port() <= 0) continue;
    ports->push_back(
        {port.host_ip(), port.protocol().empty() ? "TCP" : port.protocol(), port.host_port()});
  }
}

}  // namespace

bool HostPort::ConflictsWith(const HostPort& other) const {
  return port == other.port && protocol == other.protocol &&
         (ip == other.ip || IsEveryAddress(ip) || IsEveryAddress(other.ip));
}

std::vector<HostPort> HostPortsOf(const k8s::core::v1::Pod& pod) {
  std::vector<HostPort> ports;
  for (const auto& container : pod.spec().containers()) AppendPorts(container, &ports);
  for (const auto& container : pod.spec().init_containers()) {
    if (container.restart_policy() == "Always") AppendPorts(container, &ports);
  }
  return ports;
}

void NodeInfo::SetNode(NodePtr node) {
  node_ = std::move(node);
  allocatable_ = node_ ? NodeAllocatable(*node_) : Allocatable();
}

void NodeInfo::AddPod(const PodPtr& pod) {
  const std::string& uid = pod->metadata().uid();
  RemovePod(uid);
  pods_[uid] = pod;
  requested_ += PodRequests(*pod);
  requested_for_score_ += PodRequestsForScore(*pod);
  if (auto ports = HostPortsOf(*pod); !ports.empty()) ports_[uid] = std::move(ports);
  if (auto terms = PodTermsOf(*pod)) terms_[uid] = std::move(terms);
}

void NodeInfo::RemovePod(const std::string& uid) {
  auto found = pods_.find(uid);
  if (found == pods_.end()) return;
  requested_ -= PodRequests(*found->second);
  requested_for_score_ -= PodRequestsForScore(*found->second);
  ports_.erase(uid);
  terms_.erase(uid);
  pods_.erase(found);
}

bool NodeInfo::HasPortConflict(const std::vector<HostPort>& ports) const {
  for (const auto& [uid, taken] : ports_) {
    for (const HostPort& port : ports) {
      if (std::ranges::any_of(taken, [&](const HostPort& t) { return t.ConflictsWith(port); })) {
        return true;
      }
    }
  }
  return false;
}

}  // namespace skiff::cp
