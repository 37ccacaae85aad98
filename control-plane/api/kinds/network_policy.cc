// NetworkPolicy. The rules are upstream's
// (https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/).
#include "base/net/ip.h"
#include "control-plane/api/cidr.h"
#include "control-plane/api/kinds/cells.h"
#include "control-plane/api/kinds/kinds.h"
#include "control-plane/api/kinds/label_rules.h"
#include "control-plane/api/kinds/spec_generation.h"
#include "proto/codec/int_or_string.h"
#include "proto/codec/json_reader.h"
#include "proto/k8s/intstr/int_or_string.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"
#include "proto/k8s/networking/v1/networking.pb.h"

namespace skiff::cp {
namespace {

namespace networking = k8s::networking::v1;

void SetRuleDefaults(google::protobuf::RepeatedPtrField<networking::NetworkPolicyPort>* ports) {
  for (networking::NetworkPolicyPort& port : *ports) {
    if (!port.has_protocol()) port.set_protocol("TCP");
  }
}

void SetPolicyDefaults(networking::NetworkPolicy& policy) {
  networking::NetworkPolicySpec& spec = *policy.mutable_spec();
  for (auto& rule : *spec.mutable_ingress()) SetRuleDefaults(rule.mutable_ports());
  for (auto& rule : *spec.mutable_egress()) SetRuleDefaults(rule.mutable_ports());
  if (!spec.policy_types().empty()) return;
  spec.add_policy_types("Ingress");
  if (!spec.egress().empty()) spec.add_policy_types("Egress");
}

void PreparePolicyCreate(networking::NetworkPolicy& policy) {
  policy.mutable_metadata()->set_generation(1);
}

void PreparePolicyUpdate(networking::NetworkPolicy& policy, const networking::NetworkPolicy& old) {
  RaiseGeneration(policy.spec(), old.spec(), old.metadata(), policy.mutable_metadata());
}

void ValidatePolicyPort(const networking::NetworkPolicyPort& port, const FieldPath& path,
                        FieldErrors& errors) {
  if (port.has_protocol()) {
    CheckOneOf(port.protocol(), {"SCTP", "TCP", "UDP"}, path.Child("protocol"), errors);
  }
  FieldPath end = path.Child("endPort");
  if (!port.has_port()) {
    if (port.has_end_port()) {
      errors.Invalid(end, port.end_port(), "may not be specified when `port` is not specified");
    }
    return;
  }
  if (!codec::IsInt(port.port())) {
    if (port.has_end_port()) {
      errors.Invalid(end, port.end_port(), "may not be specified when `port` is non-numeric");
    }
    CheckPortReference(port.port(), path.Child("port"), errors);
    return;
  }
  CheckPortReference(port.port(), path.Child("port"), errors);
  if (!port.has_end_port()) return;
  if (port.end_port() < port.port().int_val()) {
    errors.Invalid(end, port.port().int_val(), "must be greater than or equal to `port`");
  }
  CheckPortNumber(port.end_port(), end, errors);
}

std::optional<net::IpPrefix> CheckCidr(const std::string& text, const FieldPath& path,
                                       FieldErrors& errors) {
  std::optional<net::IpPrefix> cidr = ParseCidr(text);
  if (!cidr) {
    errors.Invalid(path, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
  }
  return cidr;
}

void ValidateIpBlock(const networking::IPBlock& block, const FieldPath& path, FieldErrors& errors) {
  if (block.cidr().empty()) return errors.Required(path.Child("cidr"));
  std::optional<net::IpPrefix> cidr = CheckCidr(block.cidr(), path.Child("cidr"), errors);
  if (!cidr) return;
  for (int i = 0; i < block.except_size(); ++i) {
    FieldPath at = path.Child("except").Index(static_cast<size_t>(i));
    std::optional<net::IpPrefix> except = CheckCidr(block.except(i), at, errors);
    if (!except) continue;
    if (!cidr->Contains(*except) || cidr->length() == except->length()) {
      errors.Invalid(at, block.except(i), "must be a strict subset of `cidr`");
    }
  }
}

void ValidatePeer(const networking::NetworkPolicyPeer& peer, const FieldPath& path,
                  FieldErrors& errors) {
  if (peer.has_pod_selector()) {
    CheckLabelSelector(peer.pod_selector(), path.Child("podSelector"), errors);
  }
  if (peer.has_namespace_selector()) {
    CheckLabelSelector(peer.namespace_selector(), path.Child("namespaceSelector"), errors);
  }
  if (peer.has_ip_block()) ValidateIpBlock(peer.ip_block(), path.Child("ipBlock"), errors);
  bool selects = peer.has_pod_selector() || peer.has_namespace_selector();
  if (!selects && !peer.has_ip_block()) errors.Required(path, "must specify a peer");
  if (selects && peer.has_ip_block()) {
    errors.Forbidden(path, "may not specify both ipBlock and another peer");
  }
}

template <class Ports, class Peers>
void ValidateRule(const Ports& ports, const Peers& peers, std::string_view peers_field,
                  const FieldPath& path, FieldErrors& errors) {
  size_t index = 0;
  for (const auto& port : ports) {
    ValidatePolicyPort(port, path.Child("ports").Index(index++), errors);
  }
  index = 0;
  for (const auto& peer : peers) {
    ValidatePeer(peer, path.Child(peers_field).Index(index++), errors);
  }
}

void ValidatePolicy(const networking::NetworkPolicy& policy, FieldErrors& errors) {
  const networking::NetworkPolicySpec& spec = policy.spec();
  FieldPath path("spec");
  CheckLabelSelector(spec.pod_selector(), path.Child("podSelector"), errors);
  for (int i = 0; i < spec.ingress_size(); ++i) {
    ValidateRule(spec.ingress(i).ports(), spec.ingress(i).from(), "from",
                 path.Child("ingress").Index(static_cast<size_t>(i)), errors);
  }
  for (int i = 0; i < spec.egress_size(); ++i) {
    ValidateRule(spec.egress(i).ports(), spec.egress(i).to(), "to",
                 path.Child("egress").Index(static_cast<size_t>(i)), errors);
  }
  FieldPath types = path.Child("policyTypes");
  if (spec.policy_types_size() > 2) {
    std::string shown;
    for (const std::string& type : spec.policy_types()) {
      shown += shown.empty() ? '[' : ',';
      codec::AppendJsonString(type, &shown);
    }
    errors.Invalid(types, ShownValue::Raw(shown + "]"),
                   "may not specify more than two policyTypes");
    return;
  }
  for (int i = 0; i < spec.policy_types_size(); ++i) {
    const std::string& type = spec.policy_types(i);
    if (type == "Ingress" || type == "Egress") continue;
    errors.NotSupported(types.Index(static_cast<size_t>(i)), type, {"Egress", "Ingress"});
  }
}

void ValidatePolicyUpdate(const networking::NetworkPolicy& policy, const networking::NetworkPolicy&,
                          FieldErrors& errors) {
  ValidatePolicy(policy, errors);
}

std::vector<TableCell> PolicyRow(const networking::NetworkPolicy& policy, WallTime now) {
  return {policy.metadata().name(), FormatLabelSelector(policy.spec().pod_selector()),
          AgeCell(policy.metadata(), now)};
}

}  // namespace

KindInfo NetworkPolicyKind() {
  KindInfo kind;
  kind.group = "networking.k8s.io";
  kind.version = "v1";
  kind.kind = "NetworkPolicy";
  kind.plural = "networkpolicies";
  kind.singular = "networkpolicy";
  kind.short_names = {"netpol"};
  kind.prototype = &networking::NetworkPolicy::default_instance();
  kind.list_prototype = &networking::NetworkPolicyList::default_instance();
  kind.rules.set_defaults = On<networking::NetworkPolicy>(&SetPolicyDefaults);
  kind.rules.prepare_create = On<networking::NetworkPolicy>(&PreparePolicyCreate);
  kind.rules.prepare_update = On<networking::NetworkPolicy>(&PreparePolicyUpdate);
  kind.rules.validate = On<networking::NetworkPolicy>(&ValidatePolicy);
  kind.rules.validate_update = On<networking::NetworkPolicy>(&ValidatePolicyUpdate);
  kind.rules.columns = {
      NameColumn(),
      Column("Pod-Selector", "The labels of the pods that the policy is about"),
      AgeColumn(),
  };
  kind.rules.table_row = On<networking::NetworkPolicy>(&PolicyRow);
  return kind;
}

}  // namespace skiff::cp
