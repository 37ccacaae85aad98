#include "control-plane/api/registry/service_allocator.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "base/log.h"
#include "base/random.h"
#include "control-plane/api/kind.h"
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

std::string AddressText(uint32_t address) {
  in_addr raw{htonl(address)};
  char text[INET_ADDRSTRLEN];
  return inet_ntop(AF_INET, &raw, text, sizeof text);
}

std::optional<uint32_t> ParseAddress(const std::string& text) {
  in_addr raw{};
  if (inet_pton(AF_INET, text.c_str(), &raw) != 1) return std::nullopt;
  return ntohl(raw.s_addr);
}

std::string AddressKey(const std::string& address) { return std::string(kAddresses) + address; }
std::string PortKey(int port) { return std::string(kPorts) + std::to_string(port); }

uint32_t RandomBelow(uint32_t bound) {
  std::string bytes = RandomBytes(4);
  uint32_t number = 0;
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
  if (HasClusterAddress(service) && !service.spec().cluster_ip().empty()) {
    keys.insert(AddressKey(service.spec().cluster_ip()));
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
  auto* spec = service->mutable_spec();
  bool had = HasClusterAddress(old) && !old.spec().cluster_ip().empty();
  if (spec->type() == "ExternalName") {
    if (had && spec->cluster_ip() == old.spec().cluster_ip()) {
      spec->clear_cluster_ip();
      spec->clear_cluster_ips();
      spec->clear_ip_families();
      spec->clear_ip_family_policy();
    }
  } else if (old.spec().type() != "ExternalName" && spec->cluster_ip().empty()) {
    spec->set_cluster_ip(old.spec().cluster_ip());
    if (spec->cluster_ips().empty()) *spec->mutable_cluster_ips() = old.spec().cluster_ips();
  }
  CarryOverPorts(service, old);
}

void FillFamilies(Service* service) {
  auto* spec = service->mutable_spec();
  if (spec->type() == "ExternalName") return;
  if (!spec->has_ip_family_policy()) spec->set_ip_family_policy("SingleStack");
  if (spec->ip_families().empty()) spec->add_ip_families("IPv4");
  if (!spec->cluster_ip().empty() && spec->cluster_ips().empty()) {
    spec->add_cluster_ips(spec->cluster_ip());
  }
  if (spec->cluster_ip().empty() && !spec->cluster_ips().empty()) {
    spec->set_cluster_ip(spec->cluster_ips(0));
  }
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
  auto bad = [&](const char* why) {
    return Error(Code::kInvalidArgument,
                 "service range \"" + ranges.cluster_ips + "\": " + std::string(why));
  };
  size_t slash = ranges.cluster_ips.find('/');
  if (slash == std::string::npos) return bad("want ADDRESS/PREFIX");
  auto base = ParseAddress(ranges.cluster_ips.substr(0, slash));
  int length = -1;
  const char* end = ranges.cluster_ips.data() + ranges.cluster_ips.size();
  auto parsed = std::from_chars(ranges.cluster_ips.data() + slash + 1, end, length);
  if (!base || parsed.ec != std::errc() || parsed.ptr != end) return bad("want an IPv4 range");
  if (length < 8 || length > 30) return bad("the prefix must be from 8 to 30");
  if ((*base & ((1u << (32 - length)) - 1)) != 0) return bad("has bits beyond its prefix");
  if (ranges.first_node_port < 1 || ranges.last_node_port > 65535 ||
      ranges.first_node_port > ranges.last_node_port) {
    return Error(Code::kInvalidArgument, "node port range is empty or out of bounds");
  }
  std::unique_ptr<ServiceAllocator> allocator(
      new ServiceAllocator(store, std::move(ranges), *base, length));
  auto range = TRY(store.Range({.prefix = std::string(kPrefix)}).With("load allocations"));
  for (auto& kv : range.kvs) allocator->taken_.insert(std::move(kv.key));
  return allocator;
}

std::string ServiceAllocator::FirstAddress() const { return AddressText(base_ + 1); }

bool ServiceAllocator::Take(const std::string& key, Plan& plan) {
  if (!taken_.insert(key).second) return false;
  plan.taken_keys_.push_back(key);
  return true;
}

std::string ServiceAllocator::TakeAnyAddress(Plan& plan) {
  // Without the network's own address and the broadcast address.
  const uint32_t usable = size() - 2;
  for (int i = 0; i < kRandomTries; ++i) {
    std::string address = AddressText(base_ + 1 + RandomBelow(usable));
    if (Take(AddressKey(address), plan)) return address;
  }
  for (uint32_t i = 0; i < usable; ++i) {
    std::string address = AddressText(base_ + 1 + i);
    if (Take(AddressKey(address), plan)) return address;
  }
  return {};
}

int ServiceAllocator::TakeAnyPort(Plan& plan) {
  const int count = ranges_.last_node_port - ranges_.first_node_port + 1;
  for (int i = 0; i < kRandomTries; ++i) {
    int port =
        ranges_.first_node_port + static_cast<int>(RandomBelow(static_cast<uint32_t>(count)));
    if (Take(PortKey(port), plan)) return port;
  }
  for (int port = ranges_.first_node_port; port <= ranges_.last_node_port; ++port) {
    if (Take(PortKey(port), plan)) return port;
  }
  return 0;
}

void ServiceAllocator::AllocateAddress(Service* service, const std::set<std::string>& own,
                                       Plan& plan, FieldErrors& errors) {
  if (!HasClusterAddress(*service)) return;
  auto* spec = service->mutable_spec();
  const FieldPath path = FieldPath("spec").Child("clusterIPs");
  if (spec->cluster_ip().empty()) {
    std::string address = TakeAnyAddress(plan);
    if (address.empty()) {
      errors.Invalid(path, ShownValue::Raw("[]"), "failed to allocate a serviceIP: range is full");
      return;
    }
    spec->set_cluster_ip(address);
    spec->clear_cluster_ips();
    spec->add_cluster_ips(address);
    return;
  }
  const std::string& wanted = spec->cluster_ip();
  if (own.contains(AddressKey(wanted))) return;
  auto refuse = [&](const std::string& why) {
    errors.Invalid(path, ShownValue::Raw("[\"" + wanted + "\"]"),
                   "failed to allocate IP " + wanted + ": " + why);
  };
  auto address = ParseAddress(wanted);
  if (!address) return;  // validation has said so
  if (*address - base_ >= size()) {
    return refuse("the provided IP (" + wanted +
                  ") is not in the valid range. The range of valid IPs is " + ranges_.cluster_ips);
  }
  if (!Take(AddressKey(wanted), plan)) refuse("provided IP is already allocated");
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
  FillFamilies(service);
  Plan plan;
  plan.allocator_ = this;
  plan.owner_ = OwnerOf(*service);
  const std::set<std::string> own = old != nullptr ? KeysOf(*old) : std::set<std::string>();
  std::lock_guard lock(mutex_);
  AllocateAddress(service, own, plan, errors);
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
