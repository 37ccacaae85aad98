#include "control-plane/api/kinds/service_exposure.h"

#include <algorithm>

#include "base/net/ip.h"
#include "control-plane/api/kinds/label_rules.h"
#include "proto/k8s/core/v1/service.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;

// Of every node's agent (kubelet); a load balancer that took it would cut the node off.
constexpr int32_t kKubeletPort = 10250;

bool IsLoadBalancer(const core::ServiceSpec& spec) { return spec.type() == "LoadBalancer"; }

void ValidateExternalPolicy(const core::ServiceSpec& spec, FieldErrors& errors) {
  const FieldPath path("spec");
  FieldPath external = path.Child("externalTrafficPolicy");
  if (IsExternal(spec)) {
    CheckOneOf(spec.external_traffic_policy(), {"Cluster", "Local"}, external, errors);
  } else if (!spec.external_traffic_policy().empty()) {
    errors.Invalid(external, spec.external_traffic_policy(),
                   "may only be set for externally-accessible services");
  }
  // Where one is needed and not asked for, it is allocated.
  if (spec.health_check_node_port() == 0) return;
  FieldPath check = path.Child("healthCheckNodePort");
  if (NeedsHealthCheckPort(spec)) {
    CheckPortNumber(spec.health_check_node_port(), check, errors);
  } else {
    errors.Invalid(check, spec.health_check_node_port(),
                   "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is "
                   "'Local'");
  }
}

void ValidateSourceRanges(const core::ServiceSpec& spec, FieldErrors& errors) {
  if (spec.load_balancer_source_ranges().empty()) return;
  FieldPath path = FieldPath("spec").Child("LoadBalancerSourceRanges");
  if (!IsLoadBalancer(spec)) {
    errors.Forbidden(path, "may only be used when `type` is 'LoadBalancer'");
  }
  for (int i = 0; i < spec.load_balancer_source_ranges_size(); ++i) {
    // Spaces around and host bits were always let through.
    const std::string& text = spec.load_balancer_source_ranges(i);
    size_t start = text.find_first_not_of(' '), end = text.find_last_not_of(' ');
    std::string range = start == std::string::npos ? "" : text.substr(start, end - start + 1);
    size_t slash = std::min(range.find('/'), range.size());
    auto address = net::IpAddress::Parse(std::string_view(range).substr(0, slash));
    bool good =
        address.ok() &&
        net::IpPrefix::Parse((address->is_v4() ? "0.0.0.0" : "::") + range.substr(slash)).ok();
    if (!good) {
      errors.Invalid(path.Index(static_cast<size_t>(i)), range,
                     "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    }
  }
}

void ValidateLoadBalancer(const core::ServiceSpec& spec, FieldErrors& errors) {
  const FieldPath path("spec");
  constexpr char kOnlyLoadBalancers[] = "may only be used when `type` is 'LoadBalancer'";
  ValidateSourceRanges(spec, errors);
  if (!IsLoadBalancer(spec)) {
    if (spec.has_allocate_load_balancer_node_ports()) {
      errors.Forbidden(path.Child("allocateLoadBalancerNodePorts"), kOnlyLoadBalancers);
    }
    if (spec.has_load_balancer_class()) {
      errors.Forbidden(path.Child("loadBalancerClass"), kOnlyLoadBalancers);
    }
    return;
  }
  if (spec.has_load_balancer_class()) {
    AddInvalid(codec::CheckQualifiedName(spec.load_balancer_class()),
               path.Child("loadBalancerClass"), spec.load_balancer_class(), errors);
  }
  for (int i = 0; i < spec.ports_size(); ++i) {
    if (spec.ports(i).port() != kKubeletPort) continue;
    errors.Invalid(path.Child("ports").Index(static_cast<size_t>(i)).Child("port"), kKubeletPort,
                   "may not expose port 10250 externally since it is used by kubelet");
  }
}

void ValidateIngress(const core::LoadBalancerIngress& ingress, const FieldPath& path,
                     FieldErrors& errors) {
  if (!ingress.ip().empty()) {
    if (!IsIpAddress(ingress.ip())) {
      errors.Invalid(path.Child("ip"), ingress.ip(),
                     "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
    if (!ingress.has_ip_mode()) {
      errors.Required(path.Child("ipMode"), "must be specified when `ip` is set");
    }
  } else if (ingress.has_ip_mode()) {
    errors.Forbidden(path.Child("ipMode"), "may not be specified when `ip` is not set");
  }
  if (ingress.has_ip_mode() && !ingress.ip().empty()) {
    CheckOneOf(ingress.ip_mode(), {"Proxy", "VIP"}, path.Child("ipMode"), errors);
  }
  if (ingress.hostname().empty()) return;
  AddInvalid(codec::CheckDns1123Subdomain(ingress.hostname()), path.Child("hostname"),
             ingress.hostname(), errors);
  if (IsIpAddress(ingress.hostname())) {
    errors.Invalid(path.Child("hostname"), ingress.hostname(),
                   "must be a DNS name, not an IP address");
  }
}

}  // namespace

bool IsExternal(const core::ServiceSpec& spec) {
  return spec.type() == "NodePort" || IsLoadBalancer(spec) ||
         (spec.type() == "ClusterIP" && !spec.external_ips().empty());
}

bool NeedsHealthCheckPort(const core::ServiceSpec& spec) {
  return IsLoadBalancer(spec) && spec.external_traffic_policy() == "Local";
}

void SetExposureDefaults(core::Service& service) {
  core::ServiceSpec& spec = *service.mutable_spec();
  if (IsExternal(spec) && spec.external_traffic_policy().empty()) {
    spec.set_external_traffic_policy("Cluster");
  }
  if (!IsLoadBalancer(spec)) return;
  if (!spec.has_allocate_load_balancer_node_ports()) {
    spec.set_allocate_load_balancer_node_ports(true);
  }
  if (!service.status().has_load_balancer()) return;
  for (auto& ingress : *service.mutable_status()->mutable_load_balancer()->mutable_ingress()) {
    if (!ingress.ip().empty() && !ingress.has_ip_mode()) ingress.set_ip_mode("VIP");
  }
}

void DropUnusedExposure(core::Service& service, const core::Service& old) {
  core::ServiceSpec& spec = *service.mutable_spec();
  const core::ServiceSpec& before = old.spec();
  if (!IsExternal(spec) && IsExternal(before) &&
      spec.external_traffic_policy() == before.external_traffic_policy()) {
    spec.clear_external_traffic_policy();
  }
  if (!NeedsHealthCheckPort(spec) && NeedsHealthCheckPort(before) &&
      spec.health_check_node_port() == before.health_check_node_port()) {
    spec.clear_health_check_node_port();
  }
  if (IsLoadBalancer(spec) || !IsLoadBalancer(before)) return;
  if (spec.allocate_load_balancer_node_ports() == before.allocate_load_balancer_node_ports()) {
    spec.clear_allocate_load_balancer_node_ports();
  }
  if (spec.load_balancer_class() == before.load_balancer_class()) spec.clear_load_balancer_class();
  service.mutable_status()->clear_load_balancer();
}

void ValidateExposure(const core::ServiceSpec& spec, FieldErrors& errors) {
  FieldPath external_ips = FieldPath("spec").Child("externalIPs");
  for (int i = 0; i < spec.external_ips_size(); ++i) {
    CheckRoutableAddress(spec.external_ips(i), external_ips.Index(static_cast<size_t>(i)), errors);
  }
  ValidateExternalPolicy(spec, errors);
  ValidateLoadBalancer(spec, errors);
}

void ValidateExposureUpdate(const core::ServiceSpec& spec, const core::ServiceSpec& old,
                            FieldErrors& errors) {
  if (IsLoadBalancer(spec) && IsLoadBalancer(old) &&
      (spec.has_load_balancer_class() != old.has_load_balancer_class() ||
       spec.load_balancer_class() != old.load_balancer_class())) {
    errors.Invalid(FieldPath("spec").Child("loadBalancerClass"),
                   spec.has_load_balancer_class() ? ShownValue(spec.load_balancer_class())
                                                  : ShownValue::Raw("null"),
                   "may not change once set");
  }
  if (NeedsHealthCheckPort(spec) && NeedsHealthCheckPort(old) &&
      spec.health_check_node_port() != old.health_check_node_port()) {
    errors.Forbidden(FieldPath("spec").Child("healthCheckNodePort"), "field is immutable");
  }
}

void ValidateLoadBalancerStatus(const core::Service& service, FieldErrors& errors) {
  const auto& ingress = service.status().load_balancer().ingress();
  FieldPath path = FieldPath("status").Child("loadBalancer").Child("ingress");
  if (!ingress.empty() && !IsLoadBalancer(service.spec())) {
    errors.Forbidden(path, "may only be used when `spec.type` is LoadBalancer");
  }
  for (int i = 0; i < ingress.size(); ++i) {
    ValidateIngress(ingress[i], path.Index(static_cast<size_t>(i)), errors);
  }
}

}  // namespace skiff::cp
