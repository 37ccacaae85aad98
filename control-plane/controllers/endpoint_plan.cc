#include "control-plane/controllers/endpoint_plan.h"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "control-plane/controllers/framework/objects.h"
#include "control-plane/controllers/framework/pods.h"
#include "proto/codec/int_or_string.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::EndpointAddress;
using k8s::core::v1::Endpoints;
using k8s::core::v1::Pod;
using k8s::core::v1::Service;
using k8s::core::v1::ServicePort;
using k8s::discovery::v1::Endpoint;
using k8s::discovery::v1::EndpointSlice;

constexpr char kOverCapacity[] = "endpoints.kubernetes.io/over-capacity";

struct Port {
  std::string name;
  std::string protocol;
  std::string app_protocol;
  int32_t number = 0;
  auto operator<=>(const Port&) const = default;
};
using Ports = std::vector<Port>;  // sorted

// Endpoints that share a slice's ports and address type.
struct Group {
  std::string address_type;
  Ports ports;
  auto operator<=>(const Group&) const = default;
};

bool IsHeadless(const Service& service) { return service.spec().cluster_ip() == "None"; }

std::string_view AddressType(std::string_view ip) {
  return ip.find(':') == std::string_view::npos ? "IPv4" : "IPv6";
}

std::vector<std::string> AddressTypes(const Service& service) {
  std::vector<std::string> types(service.spec().ip_families().begin(),
                                 service.spec().ip_families().end());
  if (types.empty()) types.emplace_back(AddressType(service.spec().cluster_ip()));
  return types;
}

std::string AddressOf(const Pod& pod, std::string_view address_type) {
  for (const auto& ip : pod.status().pod_ips()) {
    if (AddressType(ip.ip()) == address_type) return ip.ip();
  }
  if (pod.status().pod_ips().empty() && !pod.status().pod_ip().empty() &&
      AddressType(pod.status().pod_ip()) == address_type) {
    return pod.status().pod_ip();
  }
  return {};
}

std::optional<int32_t> NamedPort(const k8s::core::v1::Container& container, const std::string& name,
                                 const std::string& protocol) {
  for (const auto& port : container.ports()) {
    if (port.name() != name) continue;
    if ((port.protocol().empty() ? "TCP" : port.protocol()) == protocol) {
      return port.container_port();
    }
  }
  return std::nullopt;
}

// The number of the port on this pod; a name is looked up in its containers and sidecars.
std::optional<int32_t> TargetPort(const ServicePort& port, const std::string& protocol,
                                  const Pod& pod) {
  if (!port.has_target_port()) return port.port();
  if (codec::IsInt(port.target_port())) {
    return port.target_port().int_val() != 0 ? port.target_port().int_val() : port.port();
  }
  const std::string& name = port.target_port().str_val();
  if (name.empty()) return port.port();
  for (const auto& container : pod.spec().containers()) {
    if (auto number = NamedPort(container, name, protocol)) return number;
  }
  for (const auto& container : pod.spec().init_containers()) {
    if (container.restart_policy() != "Always") continue;
    if (auto number = NamedPort(container, name, protocol)) return number;
  }
  return std::nullopt;
}

Ports PortsOf(const Service& service, const Pod& pod) {
  Ports ports;
  for (const ServicePort& port : service.spec().ports()) {
    std::string protocol = port.protocol().empty() ? "TCP" : port.protocol();
    if (auto number = TargetPort(port, protocol, pod)) {
      ports.push_back({port.name(), protocol, port.app_protocol(), *number});
    }
  }
  std::ranges::sort(ports);
  return ports;
}

bool HasHostname(const Service& service, const Pod& pod) {
  return !pod.spec().hostname().empty() && pod.spec().subdomain() == service.metadata().name() &&
         pod.metadata().namespace_() == service.metadata().namespace_();
}

void SetTarget(k8s::core::v1::ObjectReference* target, const Pod& pod) {
  target->set_kind("Pod");
  target->set_namespace_(pod.metadata().namespace_());
  target->set_name(pod.metadata().name());
  target->set_uid(pod.metadata().uid());
}

// Whom the Service's spec.trafficDistribution gives a ready endpoint to (KEP-4444, KEP-3015). One
// whose zone is not known has no hint, and then the proxies ignore those of the others.
void SetHints(const Service& service, Endpoint* endpoint) {
  if (WantsTopologyHints(service)) return;
  const std::string& wanted = service.spec().traffic_distribution();
  const bool same_node = wanted == "PreferSameNode";
  if (!same_node && wanted != "PreferSameZone" && wanted != "PreferClose") return;
  if (!endpoint->zone().empty()) {
    endpoint->mutable_hints()->add_for_zones()->set_name(endpoint->zone());
  }
  if (same_node && !endpoint->node_name().empty()) {
    endpoint->mutable_hints()->add_for_nodes()->set_name(endpoint->node_name());
  }
}

Endpoint EndpointOf(const Service& service, const Pod& pod, const std::string& address,
                    const ZoneOf& zone_of) {
  const bool serving = IsPodReady(pod);
  const bool terminating = IsBeingDeleted(pod.metadata());
  Endpoint endpoint;
  endpoint.add_addresses(address);
  auto* conditions = endpoint.mutable_conditions();
  conditions->set_ready(service.spec().publish_not_ready_addresses() || (serving && !terminating));
  conditions->set_serving(serving);
  conditions->set_terminating(terminating);
  SetTarget(endpoint.mutable_target_ref(), pod);
  if (!pod.spec().node_name().empty()) {
    endpoint.set_node_name(pod.spec().node_name());
    if (std::string zone = zone_of(pod.spec().node_name()); !zone.empty()) endpoint.set_zone(zone);
  }
  if (HasHostname(service, pod)) endpoint.set_hostname(pod.spec().hostname());
  if (conditions->ready()) SetHints(service, &endpoint);
  return endpoint;
}

// What identifies an endpoint over its changes: the pod.
using DesiredByPod = std::map<std::string, Endpoint>;

std::map<Group, DesiredByPod> DesiredGroups(const Service& service, const std::vector<PodPtr>& pods,
                                            const ZoneOf& zone_of) {
  std::map<Group, DesiredByPod> groups;
  for (const std::string& type : AddressTypes(service)) {
    for (const PodPtr& pod : pods) {
      std::string address = AddressOf(*pod, type);
      if (address.empty() || IsPodTerminal(*pod)) continue;
      groups[{type, PortsOf(service, *pod)}].emplace(pod->metadata().uid(),
                                                     EndpointOf(service, *pod, address, zone_of));
    }
  }
  return groups;
}

// All ready endpoints of an address type have a hint, or none has. Returns why not.
std::string SetTopologyHints(std::map<Group, DesiredByPod>& groups, const std::string& address_type,
                             const ZoneCpu& zone_cpu) {
  std::vector<Endpoint*> ready;
  std::vector<std::string> zones;
  for (auto& [group, desired] : groups) {
    if (group.address_type != address_type) continue;
    for (auto& [pod, endpoint] : desired) {
      if (!endpoint.conditions().ready()) continue;
      ready.push_back(&endpoint);
      zones.push_back(endpoint.zone());
    }
  }
  ZoneHints hints = AssignZones(zone_cpu, zones);
  for (size_t i = 0; i < hints.zones.size(); ++i) {
    ready[i]->mutable_hints()->add_for_zones()->set_name(hints.zones[i]);
  }
  return hints.why_not.empty() ? "" : hints.why_not + ", addressType: " + address_type;
}

Group GroupOf(const EndpointSlice& slice) {
  Group group{slice.address_type(), {}};
  for (const auto& port : slice.ports()) {
    group.ports.push_back({port.name(), port.protocol(), port.app_protocol(), port.port()});
  }
  std::ranges::sort(group.ports);
  return group;
}

// Everything but the endpoints.
void SetFrame(EndpointSlice* slice, const Service& service, const Group& group) {
  auto* meta = slice->mutable_metadata();
  const auto& service_meta = service.metadata();
  if (meta->name().empty()) {
    meta->set_generate_name(service_meta.name() + "-");
    meta->set_namespace_(service_meta.namespace_());
    *meta->add_owner_references() = ControllerReference(service);
  }
  auto& labels = *meta->mutable_labels();
  labels = service_meta.labels();
  labels[kServiceNameLabel] = service_meta.name();
  labels[kManagedByLabel] = kSliceManager;
  if (IsHeadless(service)) labels[kHeadlessLabel] = "";
  slice->set_address_type(group.address_type);
  slice->clear_ports();
  for (const Port& port : group.ports) {
    auto* added = slice->add_ports();
    added->set_name(port.name);
    added->set_protocol(port.protocol);
    added->set_port(port.number);
    if (!port.app_protocol.empty()) added->set_app_protocol(port.app_protocol);
  }
}

// Keeps in the slice what is still wanted, as it is wanted now, and takes it out of desired.
void KeepWanted(EndpointSlice* slice, DesiredByPod* desired) {
  auto before = slice->endpoints();
  slice->clear_endpoints();
  for (const Endpoint& endpoint : before) {
    auto found = desired->find(endpoint.target_ref().uid());
    if (found == desired->end()) continue;
    *slice->add_endpoints() = std::move(found->second);
    desired->erase(found);
  }
}

void FillUp(EndpointSlice* slice, DesiredByPod* desired) {
  while (!desired->empty() && slice->endpoints_size() < kMaxEndpointsPerSlice) {
    *slice->add_endpoints() = std::move(desired->begin()->second);
    desired->erase(desired->begin());
  }
}

}  // namespace

bool HasManagedEndpoints(const Service& service) {
  return !service.spec().selector().empty() && service.spec().type() != "ExternalName";
}

SliceChanges PlanSlices(const Service& service, const std::vector<PodPtr>& pods,
                        const ZoneOf& zone_of, const ZoneCpu& zone_cpu,
                        const std::vector<SlicePtr>& existing) {
  SliceChanges changes;
  std::map<Group, DesiredByPod> groups = DesiredGroups(service, pods, zone_of);
  if (WantsTopologyHints(service)) {
    for (const std::string& type : AddressTypes(service)) {
      std::string why_not = SetTopologyHints(groups, type, zone_cpu);
      if (!why_not.empty()) changes.no_hints = std::move(why_not);
    }
  }
  // Without endpoints there is still one empty slice for each family.
  for (const std::string& type : AddressTypes(service)) {
    bool present = std::ranges::any_of(
        groups, [&](const auto& group) { return group.first.address_type == type; });
    if (!present) groups[{type, {}}];
  }
  for (auto& [group, desired] : groups) {
    std::deque<std::pair<EndpointSlice, SlicePtr>> slices;
    for (const SlicePtr& slice : existing) {
      if (GroupOf(*slice) != group || IsBeingDeleted(slice->metadata())) continue;
      EndpointSlice& kept = slices.emplace_back(*slice, slice).first;
      KeepWanted(&kept, &desired);
      SetFrame(&kept, service, group);
    }
    for (auto& slice : slices) FillUp(&slice.first, &desired);
    // An emptied slice goes, unless it is the only one and stands for "none".
    bool any = std::ranges::any_of(
        slices, [](const auto& slice) { return slice.first.endpoints_size() > 0; });
    for (auto& [slice, before] : slices) {
      if (slice.endpoints().empty() && any) {
        changes.remove.push_back(before);
        continue;
      }
      any = true;
      if (!Equal(slice, *before)) changes.update.push_back(std::move(slice));
    }
    while (!desired.empty() || !any) {
      any = true;
      EndpointSlice& slice = changes.create.emplace_back();
      SetFrame(&slice, service, group);
      FillUp(&slice, &desired);
    }
  }
  for (const SlicePtr& slice : existing) {
    if (!groups.contains(GroupOf(*slice)) && !IsBeingDeleted(slice->metadata())) {
      changes.remove.push_back(slice);
    }
  }
  return changes;
}

namespace {

struct Addresses {
  std::map<std::string, EndpointAddress> ready;  // by IP
  std::map<std::string, EndpointAddress> not_ready;
};

EndpointAddress AddressEntry(const Service& service, const Pod& pod, const std::string& ip) {
  EndpointAddress address;
  address.set_ip(ip);
  SetTarget(address.mutable_target_ref(), pod);
  if (!pod.spec().node_name().empty()) address.set_node_name(pod.spec().node_name());
  if (HasHostname(service, pod)) address.set_hostname(pod.spec().hostname());
  return address;
}

// Addresses that have the same ports share a subset. At most `capacity` of them, ready ones first.
void FillSubsets(const std::map<Ports, Addresses>& by_ports, int capacity, Endpoints* endpoints) {
  std::map<const Addresses*, int> room;
  for (const auto& [ports, addresses] : by_ports) {
    room[&addresses] = std::min(capacity, static_cast<int>(addresses.ready.size()));
    capacity -= room[&addresses];
  }
  for (const auto& [ports, addresses] : by_ports) {
    auto* subset = endpoints->add_subsets();
    for (const auto& [ip, address] : addresses.ready) {
      if (room[&addresses]-- <= 0) break;
      *subset->add_addresses() = address;
    }
    for (const auto& [ip, address] : addresses.not_ready) {
      if (capacity-- <= 0) break;
      *subset->add_not_ready_addresses() = address;
    }
    for (const Port& port : ports) {
      auto* added = subset->add_ports();
      if (!port.name.empty()) added->set_name(port.name);
      added->set_port(port.number);
      added->set_protocol(port.protocol);
      if (!port.app_protocol.empty()) added->set_app_protocol(port.app_protocol);
    }
  }
}

}  // namespace

Endpoints PlanEndpoints(const Service& service, const std::vector<PodPtr>& pods,
                        const Endpoints* existing) {
  const bool publish_all = service.spec().publish_not_ready_addresses();
  const std::string family = AddressTypes(service)[0];
  std::map<Ports, Addresses> by_ports;
  int count = 0;
  for (const PodPtr& pod : pods) {
    std::string ip = AddressOf(*pod, family);
    if (ip.empty() || IsPodTerminal(*pod)) continue;
    if (IsBeingDeleted(pod->metadata()) && !publish_all) continue;
    Ports ports = PortsOf(service, *pod);
    // Only a headless Service may do without ports.
    if (ports.empty() && !(IsHeadless(service) && service.spec().ports().empty())) continue;
    Addresses& addresses = by_ports[std::move(ports)];
    auto& into = publish_all || IsPodReady(*pod) ? addresses.ready : addresses.not_ready;
    into.emplace(ip, AddressEntry(service, *pod, ip));
    ++count;
  }
  Endpoints endpoints;
  if (existing != nullptr) endpoints = *existing;
  auto* meta = endpoints.mutable_metadata();
  meta->set_name(service.metadata().name());
  meta->set_namespace_(service.metadata().namespace_());
  auto& labels = *meta->mutable_labels();
  labels = service.metadata().labels();
  labels["endpoints.kubernetes.io/managed-by"] = "endpoint-controller";
  if (IsHeadless(service)) labels[kHeadlessLabel] = "";
  meta->mutable_annotations()->erase(kOverCapacity);
  if (count > kMaxEndpointsPerService) (*meta->mutable_annotations())[kOverCapacity] = "truncated";
  endpoints.clear_subsets();
  FillSubsets(by_ports, kMaxEndpointsPerService, &endpoints);
  return endpoints;
}

}  // namespace skiff::cp
