#include "control-plane/api/bootstrap.h"

#include <algorithm>

#include "base/log.h"
#include "base/net/ip.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;
namespace discovery = k8s::discovery::v1;

constexpr const char* kName = "kubernetes";
constexpr const char* kNamespace = "default";
constexpr int kServicePort = 443;
constexpr const char* kDnsName = "kube-dns";
constexpr const char* kDnsNamespace = "kube-system";
constexpr const char* kProxyLabel = "service.kubernetes.io/service-proxy-name";
constexpr const char* kProxyName = "skiff-dns";

template <class T>
Result<void> CreateIfMissing(Client& client, const T& object) {
  const auto& meta = object.metadata();
  auto present = client.Get<T>(meta.namespace_(), meta.name());
  if (present.ok()) return {};
  if (present.error().code() != Code::kNotFound) return std::move(present).error();
  auto created = client.Create(object);
  if (!created.ok() && created.error().code() != Code::kAlreadyExists) {
    return std::move(created).error().With("create " + meta.name());
  }
  return {};
}

template <class T>
T Named() {
  T object;
  object.mutable_metadata()->set_name(kName);
  object.mutable_metadata()->set_namespace_(kNamespace);
  return object;
}

Result<void> EnsureService(Client& client, const BootstrapOptions& options) {
  auto service = Named<core::Service>();
  auto& labels = *service.mutable_metadata()->mutable_labels();
  labels["component"] = "apiserver";
  labels["provider"] = "kubernetes";
  auto* spec = service.mutable_spec();
  spec->set_cluster_ip(options.service_address);
  auto* port = spec->add_ports();
  port->set_name("https");
  port->set_protocol("TCP");
  port->set_port(kServicePort);
  // The kind's default for the target is the port itself; ours is another.
  port->mutable_target_port()->set_type(0);
  port->mutable_target_port()->set_int_val(options.advertise_port);
  return CreateIfMissing(client, service);
}

Result<void> EnsureEndpoints(Client& client, const BootstrapOptions& options) {
  auto endpoints = Named<core::Endpoints>();
  (*endpoints.mutable_metadata()->mutable_labels())["endpointslice.kubernetes.io/skip-mirror"] =
      "true";
  auto* subset = endpoints.add_subsets();
  subset->add_addresses()->set_ip(options.advertise_address);
  auto* port = subset->add_ports();
  port->set_name("https");
  port->set_protocol("TCP");
  port->set_port(options.advertise_port);
  TRY(CreateIfMissing(client, endpoints));
  auto stored = TRY(client.Get<core::Endpoints>(kNamespace, kName));
  if (stored->subsets_size() == 1 &&
      stored->subsets(0).SerializeAsString() == subset->SerializeAsString()) {
    return {};
  }
  auto corrected = *stored;
  *corrected.mutable_subsets() = endpoints.subsets();
  TRY(client.Update(corrected).With("correct the kubernetes endpoints"));
  return {};
}

Result<void> EnsureSlice(Client& client, const BootstrapOptions& options) {
  auto slice = Named<discovery::EndpointSlice>();
  (*slice.mutable_metadata()->mutable_labels())["kubernetes.io/service-name"] = kName;
  slice.set_address_type(options.advertise_address.find(':') == std::string::npos ? "IPv4"
                                                                                  : "IPv6");
  auto* endpoint = slice.add_endpoints();
  endpoint->add_addresses(options.advertise_address);
  endpoint->mutable_conditions()->set_ready(true);
  auto* port = slice.add_ports();
  port->set_name("https");
  port->set_protocol("TCP");
  port->set_port(options.advertise_port);
  TRY(CreateIfMissing(client, slice));
  auto stored = TRY(client.Get<discovery::EndpointSlice>(kNamespace, kName));
  if (stored->address_type() != slice.address_type()) {
    // The type of a slice cannot be changed.
    TRY(client.Delete<discovery::EndpointSlice>(kNamespace, kName));
    return CreateIfMissing(client, slice);
  }
  if (stored->endpoints_size() == 1 && stored->ports_size() == 1 &&
      stored->endpoints(0).addresses(0) == options.advertise_address &&
      stored->ports(0).port() == options.advertise_port) {
    return {};
  }
  auto corrected = *stored;
  *corrected.mutable_endpoints() = slice.endpoints();
  *corrected.mutable_ports() = slice.ports();
  TRY(client.Update(corrected).With("correct the kubernetes endpoint slice"));
  return {};
}

void SetDnsAddresses(const BootstrapOptions& options, core::ServiceSpec* spec) {
  spec->set_cluster_ip(options.dns_addresses.front());
  *spec->mutable_cluster_ips() = {options.dns_addresses.begin(), options.dns_addresses.end()};
  spec->clear_ip_families();
  spec->set_ip_family_policy(options.dns_addresses.size() > 1 ? "RequireDualStack" : "SingleStack");
}

// A family may have come or gone since the Service was made.
Result<void> CorrectDnsService(Client& client, const BootstrapOptions& options) {
  auto stored = TRY(client.Get<core::Service>(kDnsNamespace, kDnsName));
  auto proxied_by = stored->metadata().labels().find(kProxyLabel);
  const auto& present = stored->spec().cluster_ips();
  bool ours = proxied_by != stored->metadata().labels().end() && proxied_by->second == kProxyName;
  if (!ours || present.empty() || present[0] != options.dns_addresses.front() ||
      std::equal(present.begin(), present.end(), options.dns_addresses.begin(),
                 options.dns_addresses.end())) {
    return {};
  }
  auto corrected = *stored;
  SetDnsAddresses(options, corrected.mutable_spec());
  TRY(client.Update(corrected));
  return {};
}

// A Service that somebody else has made of it (another DNS in pods, say) is left alone.
Result<void> EnsureDnsService(Client& client, const BootstrapOptions& options) {
  core::Service service;
  service.mutable_metadata()->set_name(kDnsName);
  service.mutable_metadata()->set_namespace_(kDnsNamespace);
  auto& labels = *service.mutable_metadata()->mutable_labels();
  labels["k8s-app"] = "kube-dns";
  labels["kubernetes.io/cluster-service"] = "true";
  labels["kubernetes.io/name"] = "CoreDNS";
  labels[kProxyLabel] = kProxyName;
  auto* spec = service.mutable_spec();
  SetDnsAddresses(options, spec);
  for (auto [name, protocol] : {std::pair("dns", "UDP"), std::pair("dns-tcp", "TCP")}) {
    auto* port = spec->add_ports();
    port->set_name(name);
    port->set_protocol(protocol);
    port->set_port(53);
  }
  auto made = CreateIfMissing(client, service);
  if (made.ok()) made = CorrectDnsService(client, options);
  if (!made.ok() && made.error().code() == Code::kInvalidArgument) {
    // An older cluster may have given the address away.
    log::Error("no kube-dns Service; set clusterDns to an address that is free",
               {{"address", options.dns_addresses.front()}, {"error", made.error()}});
    return {};
  }
  return made;
}

}  // namespace

Result<void> Bootstrap(Client& client, const BootstrapOptions& options) {
  for (const char* name : {"default", "kube-system", "kube-public", "kube-node-lease"}) {
    core::Namespace ns;
    ns.mutable_metadata()->set_name(name);
    TRY(CreateIfMissing(client, ns));
  }
  TRY(EnsureService(client, options));
  auto address = net::IpAddress::Parse(options.advertise_address);
  if (address.ok() && address->is_loopback()) {
    // No endpoint of a Service: to a pod it is the pod itself.
    log::Warning("pods cannot reach the API server; set advertiseAddress to one that they can",
                 {{"address", options.advertise_address}});
  } else {
    TRY(EnsureEndpoints(client, options));
    TRY(EnsureSlice(client, options));
  }
  if (!options.dns_addresses.empty()) TRY(EnsureDnsService(client, options));
  return {};
}

}  // namespace skiff::cp
