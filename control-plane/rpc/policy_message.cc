#include "control-plane/rpc/policy_message.h"

#include <algorithm>

#include "control-plane/api/cidr.h"
#include "proto/codec/int_or_string.h"
#include "proto/k8s/intstr/int_or_string.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"
#include "proto/k8s/networking/v1/networking.pb.h"
#include "proto/skiff/node/v1/policy.pb.h"

namespace skiff::cp {

namespace {

namespace networking = k8s::networking::v1;

codec::LabelSelector SelectorOf(const k8s::meta::v1::LabelSelector& message) {
  auto selector = codec::LabelSelector::From(message);
  return selector.ok() ? *std::move(selector) : codec::LabelSelector::Nothing();
}

std::string ProtocolOf(const networking::NetworkPolicyPort& port) {
  return port.protocol().empty() ? "TCP" : port.protocol();
}

SetSpec SpecOf(const networking::NetworkPolicyPeer& peer, const std::string& ns) {
  SetSpec spec;
  if (peer.has_namespace_selector()) {
    spec.namespaces = SelectorOf(peer.namespace_selector());
  } else {
    spec.ns = ns;
  }
  spec.pods = SelectorOf(peer.pod_selector());  // an unset one selects all pods
  return spec;
}

class Writer {
 public:
  explicit Writer(std::string ns) : ns_(std::move(ns)) {}

  template <class Ports, class Peers>
  void AddRule(const Ports& ports, const Peers& peers, bool ingress, node::v1::PolicyRule* rule) {
    std::vector<SetSpec> selected;
    for (const networking::NetworkPolicyPeer& peer : peers) {
      if (peer.has_ip_block()) {
        AddBlock(peer.ip_block(), rule);
      } else {
        selected.push_back(SpecOf(peer, ns_));
      }
    }
    for (const SetSpec& spec : selected) rule->add_sets(Name(spec));
    rule->set_any_peer(peers.empty());
    rule->set_any_port(ports.empty());
    // To a port of any pod: the pods of all namespaces.
    if (peers.empty()) selected.push_back({.namespaces = codec::LabelSelector()});
    for (const networking::NetworkPolicyPort& port : ports) {
      if (!port.has_port() || codec::IsInt(port.port()) || ingress) {
        AddPort(port, rule);
        continue;
      }
      for (SetSpec spec : selected) {
        spec.port = SetPort{port.port().str_val(), ProtocolOf(port)};
        rule->add_port_sets(Name(spec));
      }
    }
  }
  std::vector<SetSpec> TakeSets() { return std::move(sets_); }

 private:
  static void AddBlock(const networking::IPBlock& block, node::v1::PolicyRule* rule) {
    auto cidr = ParseCidr(block.cidr());
    if (!cidr) return;
    node::v1::PolicyIpBlock& added = *rule->add_blocks();
    added.set_cidr(cidr->ToString());
    for (const std::string& text : block.except()) {
      if (auto except = ParseCidr(text)) added.add_except(except->ToString());
    }
  }
  static void AddPort(const networking::NetworkPolicyPort& port, node::v1::PolicyRule* rule) {
    node::v1::PolicyPort& added = *rule->add_ports();
    added.set_protocol(ProtocolOf(port));
    if (!port.has_port()) return;
    if (codec::IsInt(port.port())) {
      added.set_port(static_cast<uint32_t>(port.port().int_val()));
      added.set_end_port(static_cast<uint32_t>(port.end_port()));
    } else {
      added.set_name(port.port().str_val());
    }
  }
  std::string Name(const SetSpec& spec) {
    sets_.push_back(spec);
    return spec.Id();
  }

  const std::string ns_;
  std::vector<SetSpec> sets_;
};

}  // namespace

std::vector<SetSpec> ToMessage(const networking::NetworkPolicy& policy,
                               node::v1::NetworkPolicy* message) {
  Writer writer(policy.metadata().namespace_());
  const networking::NetworkPolicySpec& spec = policy.spec();
  message->set_pod_selector(SelectorOf(spec.pod_selector()).ToString());
  auto isolates = [&](std::string_view type) {
    return std::find(spec.policy_types().begin(), spec.policy_types().end(), type) !=
           spec.policy_types().end();
  };
  message->set_isolates_ingress(isolates("Ingress"));
  message->set_isolates_egress(isolates("Egress"));
  // Rules of a direction that is not isolated mean nothing.
  if (message->isolates_ingress()) {
    for (const auto& rule : spec.ingress()) {
      writer.AddRule(rule.ports(), rule.from(), /*ingress=*/true, message->add_ingress());
    }
  }
  if (message->isolates_egress()) {
    for (const auto& rule : spec.egress()) {
      writer.AddRule(rule.ports(), rule.to(), /*ingress=*/false, message->add_egress());
    }
  }
  return writer.TakeSets();
}

}  // namespace skiff::cp
