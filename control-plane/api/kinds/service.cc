#include <algorithm>
#include <set>

#include "control-plane/api/kinds/cells.h"
#include "control-plane/api/kinds/kinds.h"
#include "control-plane/api/kinds/label_rules.h"
#include "control-plane/api/kinds/service_exposure.h"
#include "control-plane/api/kinds/service_families.h"
#include "proto/codec/int_or_string.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/intstr/int_or_string.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;

constexpr int32_t kAffinitySeconds = 10800;
constexpr int32_t kMaxAffinitySeconds = 86400;

bool IsHeadless(const core::ServiceSpec& spec) { return spec.cluster_ip() == "None"; }

void SetDefaults(core::Service& service) {
  core::ServiceSpec& spec = *service.mutable_spec();
  if (spec.session_affinity().empty()) spec.set_session_affinity("None");
  if (spec.session_affinity() == "None") spec.clear_session_affinity_config();
  if (spec.session_affinity() == "ClientIP") {
    auto& config = *spec.mutable_session_affinity_config()->mutable_client_ip();
    if (!config.has_timeout_seconds()) config.set_timeout_seconds(kAffinitySeconds);
  }
  if (spec.type().empty()) spec.set_type("ClusterIP");
  for (auto& port : *spec.mutable_ports()) {
    if (port.protocol().empty()) port.set_protocol("TCP");
    const auto& target = port.target_port();
    bool unset = codec::IsInt(target) ? target.int_val() == 0 : target.str_val().empty();
    if (unset) codec::SetInt(port.mutable_target_port(), port.port());
  }
  if (spec.type() != "ExternalName" && !spec.has_internal_traffic_policy()) {
    spec.set_internal_traffic_policy("Cluster");
  }
  SetExposureDefaults(service);
}

void PrepareCreate(core::Service& service) { service.clear_status(); }

// What only means something for a type the service no longer has goes with the type.
void PrepareUpdate(core::Service& service, const core::Service& old) {
  *service.mutable_status() = old.status();
  core::ServiceSpec& spec = *service.mutable_spec();
  const core::ServiceSpec& before = old.spec();
  DropUnusedExposure(service, old);
  if (spec.type() != "ExternalName" && before.type() == "ExternalName" &&
      spec.external_name() == before.external_name()) {
    spec.clear_external_name();
  }
}

void PrepareStatusUpdate(core::Service& service, const core::Service& old) {
  *service.mutable_spec() = old.spec();
}

void ValidatePort(const core::ServicePort& port, bool name_required, const FieldPath& path,
                  FieldErrors& errors) {
  if (port.name().empty()) {
    if (name_required) errors.Required(path.Child("name"));
  } else {
    AddInvalid(codec::CheckDns1123Label(port.name()), path.Child("name"), port.name(), errors);
  }
  CheckPortNumber(port.port(), path.Child("port"), errors);
  CheckOneOf(port.protocol(), {"SCTP", "TCP", "UDP"}, path.Child("protocol"), errors);
  CheckPortReference(port.target_port(), path.Child("targetPort"), errors);
  if (!port.app_protocol().empty()) {
    CheckLabelKey(port.app_protocol(), path.Child("appProtocol"), errors);
  }
}

void ValidatePorts(const core::ServiceSpec& spec, FieldErrors& errors) {
  FieldPath path = FieldPath("spec").Child("ports");
  if (spec.ports().empty() && !IsHeadless(spec) && spec.type() != "ExternalName") {
    errors.Required(path);
  }
  std::set<std::string> names;
  std::set<std::pair<int32_t, std::string>> numbers, node_ports;
  for (int i = 0; i < spec.ports_size(); ++i) {
    const core::ServicePort& port = spec.ports(i);
    FieldPath at = path.Index(static_cast<size_t>(i));
    ValidatePort(port, spec.ports_size() > 1, at, errors);
    if (!port.name().empty() && !names.insert(port.name()).second) {
      errors.Duplicate(at.Child("name"), port.name());
    }
    if (!numbers.emplace(port.port(), port.protocol()).second) {
      errors.Duplicate(at, ShownValue::Raw("{\"port\":" + std::to_string(port.port()) +
                                           ",\"protocol\":\"" + port.protocol() + "\"}"));
    }
    if (port.node_port() == 0) continue;
    if (spec.type() != "NodePort" && spec.type() != "LoadBalancer") {
      errors.Forbidden(at.Child("nodePort"),
                       "may not be used when `type` is '" + spec.type() + "'");
    } else if (!node_ports.emplace(port.node_port(), port.protocol()).second) {
      errors.Duplicate(at.Child("nodePort"), port.node_port());
    }
  }
}

void ValidateAddresses(const core::ServiceSpec& spec, FieldErrors& errors) {
  FieldPath path("spec");
  ValidateServiceFamilies(spec, errors);
  if (IsHeadless(spec) && (spec.type() == "NodePort" || spec.type() == "LoadBalancer")) {
    errors.Invalid(path.Child("clusterIPs").Index(0), spec.cluster_ip(),
                   "may not be set to 'None' for " + spec.type() + " services");
  }
  if (spec.type() == "ExternalName") {
    // A trailing dot only says that the name is complete.
    std::string name = spec.external_name();
    if (name.ends_with('.')) name.pop_back();
    if (name.empty()) {
      errors.Required(path.Child("externalName"));
    } else {
      AddInvalid(codec::CheckDns1123Subdomain(name), path.Child("externalName"), name, errors);
    }
  }
}

void ValidatePolicies(const core::ServiceSpec& spec, FieldErrors& errors) {
  FieldPath path("spec");
  CheckOneOf(spec.session_affinity(), {"ClientIP", "None"}, path.Child("sessionAffinity"), errors);
  if (spec.session_affinity() == "ClientIP") {
    int32_t seconds = spec.session_affinity_config().client_ip().timeout_seconds();
    if (seconds <= 0 || seconds > kMaxAffinitySeconds) {
      errors.Invalid(path.Child("sessionAffinityConfig").Child("clientIP").Child("timeoutSeconds"),
                     seconds, "must be greater than 0 and less than 86400");
    }
  }
  if (spec.has_internal_traffic_policy()) {
    CheckOneOf(spec.internal_traffic_policy(), {"Cluster", "Local"},
               path.Child("internalTrafficPolicy"), errors);
  }
  if (spec.has_traffic_distribution()) {
    CheckOneOf(spec.traffic_distribution(), {"PreferClose", "PreferSameNode", "PreferSameZone"},
               path.Child("trafficDistribution"), errors);
  }
}

void Validate(const core::Service& service, FieldErrors& errors) {
  const core::ServiceSpec& spec = service.spec();
  ValidatePorts(spec, errors);
  CheckOneOf(spec.type(), {"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"},
             FieldPath("spec").Child("type"), errors);
  ValidateAddresses(spec, errors);
  CheckLabels(spec.selector(), FieldPath("spec").Child("selector"), errors);
  ValidatePolicies(spec, errors);
  ValidateExposure(spec, errors);
}

void ValidateUpdate(const core::Service& service, const core::Service& old, FieldErrors& errors) {
  Validate(service, errors);
  ValidateServiceFamiliesUpdate(service.spec(), old.spec(), errors);
  ValidateExposureUpdate(service.spec(), old.spec(), errors);
}

void ValidateStatusUpdate(const core::Service& service, const core::Service&, FieldErrors& errors) {
  ValidateLoadBalancerStatus(service, errors);
}

std::string ExternalIpText(const core::Service& service) {
  const core::ServiceSpec& spec = service.spec();
  std::vector<std::string> addresses(spec.external_ips().begin(), spec.external_ips().end());
  if (spec.type() == "ExternalName") return spec.external_name();
  if (spec.type() != "LoadBalancer") return OrNone(JoinText(addresses));
  std::vector<std::string> balancer;
  for (const auto& ingress : service.status().load_balancer().ingress()) {
    const std::string& address = ingress.ip().empty() ? ingress.hostname() : ingress.ip();
    if (!address.empty()) balancer.push_back(address);
  }
  balancer.insert(balancer.end(), addresses.begin(), addresses.end());
  return balancer.empty() ? "<pending>" : JoinText(balancer);
}

std::string PortsText(const core::ServiceSpec& spec) {
  std::vector<std::string> ports;
  for (const auto& port : spec.ports()) {
    std::string text = std::to_string(port.port());
    if (port.node_port() > 0) text += ":" + std::to_string(port.node_port());
    ports.push_back(text + "/" + port.protocol());
  }
  return OrNone(JoinText(ports));
}

std::vector<TableCell> Row(const core::Service& service, WallTime now) {
  const core::ServiceSpec& spec = service.spec();
  return {service.metadata().name(),    spec.type(),     OrNone(spec.cluster_ip()),
          ExternalIpText(service),      PortsText(spec), AgeCell(service.metadata(), now),
          FormatLabels(spec.selector())};
}

std::map<std::string, std::string> SelectableFields(const core::Service& service) {
  return {{"spec.clusterIP", service.spec().cluster_ip()}, {"spec.type", service.spec().type()}};
}

}  // namespace

KindInfo ServiceKind() {
  KindInfo kind;
  kind.version = "v1";
  kind.kind = "Service";
  kind.plural = "services";
  kind.singular = "service";
  kind.short_names = {"svc"};
  kind.categories = {"all"};
  kind.prototype = &core::Service::default_instance();
  kind.list_prototype = &core::ServiceList::default_instance();
  kind.has_status = true;
  kind.rules.set_defaults = On<core::Service>(&SetDefaults);
  kind.rules.prepare_create = On<core::Service>(&PrepareCreate);
  kind.rules.prepare_update = On<core::Service>(&PrepareUpdate);
  kind.rules.prepare_status_update = On<core::Service>(&PrepareStatusUpdate);
  kind.rules.validate = On<core::Service>(&Validate);
  kind.rules.validate_update = On<core::Service>(&ValidateUpdate);
  kind.rules.validate_status_update = On<core::Service>(&ValidateStatusUpdate);
  // The name becomes a DNS name and part of environment variables.
  kind.rules.validate_name = &codec::CheckDns1035Label;
  kind.rules.columns = {
      NameColumn(),
      Column("Type", "How the service is reached"),
      Column("Cluster-IP", "The service's address within the cluster"),
      Column("External-IP", "The service's addresses from outside"),
      Column("Port(s)", "The service's ports"),
      AgeColumn(),
      WideColumn("Selector", "The labels of the pods that serve"),
  };
  kind.rules.table_row = On<core::Service>(&Row);
  kind.rules.selectable_fields = On<core::Service>(&SelectableFields);
  return kind;
}

}  // namespace skiff::cp
