#include "control-plane/api/registry/service_allocator.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/net/families.h"
#include "base/random.h"
#include "control-plane/api/kind.h"
#include "control-plane/api/registry/service_families.h"
#include "proto/k8s/core/v1/service.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Service;
using k8s::core::v1::ServicePort;

// Of the store, beside /registry: no client sees these.
constexpr std::string_view kPrefix = "/allocations/services/";
constexpr std::string_view kAddresses = "/allocations/services/addresses/";
constexpr std::string_view kPorts = "/allocations/services/node-ports/";
// Random probes before the range is searched from its beginning.
constexpr int kRandomTries = 16;

std::string AddressKey(const net::IpAddress& address) {
  return std::string(kAddresses) + address.ToString();
}
std::string PortKey(int port) { return std::string(kPorts) + std::to_string(port); }

uint64_t RandomBelow(uint64_t bound) {
  std::string bytes = RandomBytes(sizeof(uint64_t));
  uint64_t number = 0;
  for (unsigned char byte : bytes) number = number << 8 | byte;
  return number % bound;
}

bool HasClusterAddress(const Service& service) {
  return service.spec().type() != "ExternalName" && service.spec().cluster_ip() != "None";
}

bool HasNodePorts(const Service& service) {
  const auto& spec = service.spec();
  if (spec.type() == "NodePort") return true;
  return spec.type() == "LoadBalancer" && (!spec.has_allocate_load_balancer_node_ports() ||
                                           spec.allocate_load_balancer_node_ports());
}

// A load balancer that keeps clients' addresses asks every node at this port for its endpoints.
bool HasHealthCheckPort(const Service& service) {
  return service.spec().type() == "LoadBalancer" &&
         service.spec().external_traffic_policy() == "Local";
}

// The keys a stored Service holds.
std::set<std::string> KeysOf(const Service& service) {
  std::set<std::string> keys;
  if (HasClusterAddress(service)) {
    for (const std::string& text : service.spec().cluster_ips()) {
      if (auto address = net::IpAddress::Parse(text); address.ok()) {
        keys.insert(AddressKey(*address));
      }
    }
  }
  if (service.spec().type() == "NodePort" || service.spec().type() == "LoadBalancer") {
    for (const auto& port : service.spec().ports()) {
      if (port.node_port() != 0) keys.insert(PortKey(port.node_port()));
    }
  }
  if (HasHealthCheckPort(service) && service.spec().health_check_node_port() != 0) {
    keys.insert(PortKey(service.spec().health_check_node_port()));
  }
  return keys;
}

std::string OwnerOf(const Service& service) {
  return service.metadata().namespace_() + "/" + service.metadata().name();
}

// A port is known by its name. A load balancer that is to do without node ports gives them back by
// leaving them out.
void CarryOverPorts(Service* service, const Service& old) {
  auto* spec = service->mutable_spec();
  const bool may_have = spec->type() == "NodePort" || spec->type() == "LoadBalancer";
  std::set<int> used;
  for (const auto& port : spec->ports()) used.insert(port.node_port());
  for (auto& port : *spec->mutable_ports()) {
    for (const auto& before : old.spec().ports()) {
      if (before.name() != port.name()) continue;
      if (!may_have && port.node_port() == before.node_port()) port.clear_node_port();
      bool missing = HasNodePorts(*service) && port.node_port() == 0 && before.node_port() != 0;
      if (missing && used.insert(before.node_port()).second) port.set_node_port(before.node_port());
    }
    if (port.node_port() == 0) port.clear_node_port();
  }
  if (HasHealthCheckPort(*service) && HasHealthCheckPort(old) &&
      spec->health_check_node_port() == 0) {
    spec->set_health_check_node_port(old.spec().health_check_node_port());
  }
}

// An update that leaves out what was allocated keeps it (as applied manifests do); a change of type
// drops what the new type has not.
void CarryOver(Service* service, const Service& old) {
  CarryOverAddresses(service, old);
  CarryOverPorts(service, old);
}

Result<void> CheckRange(const net::IpPrefix& range) {
  const int shortest = range.first().is_v4() ? 8 : 64;
  const int longest = range.first().bits() - 2;
  if (range.length() >= shortest && range.length() <= longest) return {};
  return Error(Code::kInvalidArgument, "service range " + range.ToString() +
                                           ": the prefix must be from " + std::to_string(shortest) +
                                           " to " + std::to_string(longest));
}

}  // namespace

// ---- Plan ----

ServiceAllocator::Plan::Plan(Plan&& other) noexcept { *this = std::move(other); }

ServiceAllocator::Plan& ServiceAllocator::Plan::operator=(Plan&& other) noexcept {
  if (this == &other) return *this;
  Abort();
  allocator_ = std::exchange(other.allocator_, nullptr);
  owner_ = std::move(other.owner_);
  taken_keys_ = std::move(other.taken_keys_);
  freed_keys_ = std::move(other.freed_keys_);
  return *this;
}

ServiceAllocator::Plan::~Plan() { Abort(); }

void ServiceAllocator::Plan::AddTo(TxnRequest& txn) const {
  for (const auto& key : taken_keys_) {
    txn.compares.push_back({key, 0});
    txn.ops.push_back(Op::Put(key, owner_));
  }
  for (const auto& key : freed_keys_) txn.ops.push_back(Op::Delete(key));
}

void ServiceAllocator::Plan::Commit() {
  if (allocator_ == nullptr) return;
  std::lock_guard lock(allocator_->mutex_);
  for (const auto& key : freed_keys_) allocator_->taken_.erase(key);
  allocator_ = nullptr;
}

void ServiceAllocator::Plan::Abort() {
  if (allocator_ == nullptr) return;
  std::lock_guard lock(allocator_->mutex_);
  for (const auto& key : taken_keys_) allocator_->taken_.erase(key);
  allocator_ = nullptr;
}

// ---- ServiceAllocator ----

Result<std::unique_ptr<ServiceAllocator>> ServiceAllocator::Open(Store& store,
                                                                 ServiceRanges ranges) {
  auto networks = TRY(net::ParseNetworks(ranges.cluster_ips).With("service ranges"));
  for (const net::IpPrefix& range : networks) TRY(CheckRange(range));
  if (ranges.first_node_port < 1 || ranges.last_node_port > 65535 ||
      ranges.first_node_port > ranges.last_node_port) {
    return Error(Code::kInvalidArgument, "node port range is empty or out of bounds");
  }
  std::unique_ptr<ServiceAllocator> allocator(
      new ServiceAllocator(store, std::move(ranges), std::move(networks)));
  auto range = TRY(store.Range({.prefix = std::string(kPrefix)}).With("load allocations"));
  for (auto& kv : range.kvs) allocator->taken_.insert(std::move(kv.key));
  return allocator;
}

std::string ServiceAllocator::FirstAddress() const { return networks_.front().At(1).ToString(); }

bool ServiceAllocator::Take(const std::string& key, Plan& plan) {
  if (!taken_.insert(key).second) return false;
  plan.taken_keys_.push_back(key);
  return true;
}

std::string ServiceAllocator::TakeAnyAddress(const net::IpPrefix& network, Plan& plan) {
  // Without the network's own address (IPv6: that of any router, RFC 4291) and IPv4's broadcast.
  const uint64_t usable = network.size() - (network.first().is_v4() ? 2 : 1);
  for (int i = 0; i < kRandomTries; ++i) {
    net::IpAddress address = network.At(1 + RandomBelow(usable));
    if (Take(AddressKey(address), plan)) return address.ToString();
  }
  for (uint64_t i = 0; i < usable; ++i) {
    net::IpAddress address = network.At(1 + i);
    if (Take(AddressKey(address), plan)) return address.ToString();
  }
  return {};
}

int ServiceAllocator::TakeAnyPort(Plan& plan) {
  const int count = ranges_.last_node_port - ranges_.first_node_port + 1;
  for (int i = 0; i < kRandomTries; ++i) {
    int port =
        ranges_.first_node_port + static_cast<int>(RandomBelow(static_cast<uint64_t>(count)));
    if (Take(PortKey(port), plan)) return port;
  }
  for (int port = ranges_.first_node_port; port <= ranges_.last_node_port; ++port) {
    if (Take(PortKey(port), plan)) return port;
  }
  return 0;
}

void ServiceAllocator::AllocateAddresses(Service* service, const std::set<std::string>& own,
                                         Plan& plan, FieldErrors& errors) {
  if (!HasClusterAddress(*service)) return;
  auto* spec = service->mutable_spec();
  for (int i = 0; i < spec->ip_families_size(); ++i) {
    const net::IpPrefix* network = nullptr;
    for (const net::IpPrefix& range : networks_) {
      if (net::FamilyName(range.family()) == spec->ip_families(i)) network = &range;
    }
    if (i < spec->cluster_ips_size()) {
      TakeAddress(*spec, i, network, own, plan, errors);
      continue;
    }
    if (network == nullptr) continue;  // of a family that the cluster no longer has
    std::string address = TakeAnyAddress(*network, plan);
    if (address.empty()) {
      errors.Invalid(FieldPath("spec").Child("clusterIPs"), ShownValue::Raw("[]"),
                     "failed to allocate a serviceIP: range is full");
      return;
    }
    if (i == 0) spec->set_cluster_ip(address);
    spec->add_cluster_ips(address);
  }
}

void ServiceAllocator::TakeAddress(const k8s::core::v1::ServiceSpec& spec, int index,
                                   const net::IpPrefix* network, const std::set<std::string>& own,
                                   Plan& plan, FieldErrors& errors) {
  const std::string& wanted = spec.cluster_ips(index);
  auto refuse = [&](const std::string& why) {
    errors.Invalid(FieldPath("spec").Child("clusterIPs"), ShownValue::Raw("[\"" + wanted + "\"]"),
                   "failed to allocate IP " + wanted + ": " + why);
  };
  auto address = net::IpAddress::Parse(wanted);
  if (!address.ok() || own.contains(AddressKey(*address))) return;
  if (network == nullptr || !network->Contains(*address)) {
    return refuse("the provided IP (" + wanted +
                  ") is not in the valid range. The range of valid IPs is " +
                  (network == nullptr ? "empty" : network->ToString()));
  }
  if (!Take(AddressKey(*address), plan)) refuse("provided IP is already allocated");
}

bool ServiceAllocator::TakeAskedPort(int wanted, const FieldPath& path, Plan& plan,
                                     FieldErrors& errors) {
  if (wanted < ranges_.first_node_port || wanted > ranges_.last_node_port) {
    errors.Invalid(path, wanted,
                   "provided port is not in the valid range. The range of valid ports is " +
                       std::to_string(ranges_.first_node_port) + "-" +
                       std::to_string(ranges_.last_node_port));
    return false;
  }
  if (Take(PortKey(wanted), plan)) return true;
  errors.Invalid(path, wanted, "provided port is already allocated");
  return false;
}

void ServiceAllocator::AllocateHealthCheckPort(Service* service, const std::set<std::string>& own,
                                               Plan& plan, FieldErrors& errors) {
  if (!HasHealthCheckPort(*service)) return;
  auto* spec = service->mutable_spec();
  const FieldPath path = FieldPath("spec").Child("healthCheckNodePort");
  if (int wanted = spec->health_check_node_port(); wanted != 0) {
    if (!own.contains(PortKey(wanted))) TakeAskedPort(wanted, path, plan, errors);
    return;
  }
  spec->set_health_check_node_port(TakeAnyPort(plan));
  if (spec->health_check_node_port() == 0) {
    errors.Invalid(path, 0, "failed to allocate a nodePort: range is full");
  }
}

void ServiceAllocator::AllocatePorts(Service* service, const std::set<std::string>& own, Plan& plan,
                                     FieldErrors& errors) {
  bool may_have = HasNodePorts(*service) || service->spec().type() == "LoadBalancer";
  if (!may_have) return;
  const FieldPath ports = FieldPath("spec").Child("ports");
  std::set<int> here;  // one number serves several protocols of the same Service
  for (int i = 0; i < service->spec().ports_size(); ++i) {
    int wanted = service->spec().ports(i).node_port();
    if (wanted == 0 || own.contains(PortKey(wanted)) || !here.insert(wanted).second) continue;
    TakeAskedPort(wanted, ports.Index(static_cast<size_t>(i)).Child("nodePort"), plan, errors);
  }
  if (!HasNodePorts(*service)) return;
  for (auto& port : *service->mutable_spec()->mutable_ports()) {
    if (port.node_port() != 0) continue;
    // The same port number under two protocols gets one node port.
    for (const auto& other : service->spec().ports()) {
      if (other.port() == port.port() && other.protocol() != port.protocol() &&
          other.node_port() != 0) {
        port.set_node_port(other.node_port());
      }
    }
    if (port.node_port() == 0) port.set_node_port(TakeAnyPort(plan));
    if (port.node_port() == 0) {
      errors.Invalid(ports, ShownValue::Raw("[]"), "failed to allocate a nodePort: range is full");
      return;
    }
  }
}

ServiceAllocator::Plan ServiceAllocator::Allocate(Service* service, const Service* old,
                                                  FieldErrors& errors) {
  if (old != nullptr) CarryOver(service, *old);
  std::vector<net::IpFamily> families;
  for (const net::IpPrefix& network : networks_) families.push_back(network.family());
  const bool resolved = ResolveFamilies(service, old, families, errors);
  Plan plan;
  if (!errors.empty()) return plan;
  plan.allocator_ = this;
  plan.owner_ = OwnerOf(*service);
  const std::set<std::string> own = old != nullptr ? KeysOf(*old) : std::set<std::string>();
  std::lock_guard lock(mutex_);
  if (resolved) AllocateAddresses(service, own, plan, errors);
  AllocatePorts(service, own, plan, errors);
  AllocateHealthCheckPort(service, own, plan, errors);
  const std::set<std::string> now = KeysOf(*service);
  for (const auto& key : own) {
    if (!now.contains(key)) plan.freed_keys_.push_back(key);
  }
  return plan;
}

ServiceAllocator::Plan ServiceAllocator::Release(const Service& service) {
  Plan plan;
  plan.allocator_ = this;
  for (const auto& key : KeysOf(service)) plan.freed_keys_.push_back(key);
  return plan;
}

Result<void> ServiceAllocator::Repair(const std::vector<const Service*>& services) {
  std::set<std::string> wanted;
  std::vector<Op> ops;
  std::lock_guard lock(mutex_);
  for (const Service* service : services) {
    for (const auto& key : KeysOf(*service)) {
      if (!wanted.insert(key).second) {
        log::Warning("two services hold the same address or port, leaving both",
                     {{"service", OwnerOf(*service)}, {"key", key}});
      }
      if (!taken_.contains(key)) ops.push_back(Op::Put(key, OwnerOf(*service)));
    }
  }
  for (const auto& key : taken_) {
    if (!wanted.contains(key)) ops.push_back(Op::Delete(key));
  }
  for (size_t i = 0; i < ops.size(); i += kMaxTxnOps) {
    TxnRequest txn;
    txn.ops.assign(ops.begin() + static_cast<ptrdiff_t>(i),
                   ops.begin() + static_cast<ptrdiff_t>(std::min(i + kMaxTxnOps, ops.size())));
    TRY(store_.Txn(std::move(txn)).With("repair service allocations"));
  }
  if (!ops.empty()) log::Info("service allocations repaired", {{"changes", ops.size()}});
  taken_ = std::move(wanted);
  return {};
}

}  // namespace skiff::cp
