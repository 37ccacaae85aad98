#include "agent/proxy/plan.h"

#include <algorithm>
#include <cstdio>

#include "base/net/iptables.h"
#include "base/net/short_hash.h"

namespace skiff::agent::proxy {
namespace {

constexpr size_t kHashCharacters = 16;

std::string Comment(std::string_view text) {
  return "-m comment --comment \"" + net::CommentText(text) + "\"";
}

std::string Host(const net::IpAddress& address) { return net::IpPrefix::Host(address).ToString(); }

// The rules of one port of a service.
class PortPlanner {
 public:
  PortPlanner(const PlanContext& context, const ObjectKey& key, const ServiceState& state,
              const ServicePort& port, ServicePlan& plan)
      : context_(context),
        service_(state.service),
        port_(port),
        plan_(plan),
        name_(ServicePortName(key, port)),
        protocol_(TransportName(port.transport)),
        cluster_chain_(ServiceChain("KUBE-SVC-", name_, port.transport)),
        local_chain_(ServiceChain("KUBE-SVL-", name_, port.transport)),
        external_chain_(ServiceChain("KUBE-EXT-", name_, port.transport)),
        firewall_chain_(ServiceChain("KUBE-FW-", name_, port.transport)) {
    selection_ = SelectEndpoints(state, port, context.family);
  }

  void Plan() {
    bool internal = service_.internal_local ? !selection_.local.empty() : HasEndpoints();
    bool external = service_.external_local ? !selection_.local.empty() : HasEndpoints();
    PlanClusterIps(internal);
    PlanExternalAddresses(external);
    PlanNodePort(external);
    PlanChains(external);
  }

 private:
  bool HasEndpoints() const { return !selection_.reachable.empty(); }
  // "-p tcp -m comment --comment "..." -m tcp --dport 80"
  std::string Match(std::string_view comment, uint16_t port) const {
    return "-p " + protocol_ + " " + Comment(comment) + " -m " + protocol_ + " --dport " +
           std::to_string(port);
  }
  std::string To(const net::IpAddress& address, std::string_view comment, uint16_t port) const {
    return "-d " + Host(address) + " " + Match(comment, port);
  }
  // What happens to traffic that has no endpoint to go to.
  std::string Refusal() const {
    return selection_.any ? " -j DROP"
           : context_.family == net::IpFamily::kV4
               ? " -j REJECT --reject-with icmp-port-unreachable"
               : " -j REJECT --reject-with icmp6-port-unreachable";
  }
  std::string RefusalComment() const {
    return name_ + (selection_.any ? " has no local endpoints" : " has no endpoints");
  }
  void Add(SharedChain chain, std::string rule) { plan_.in(chain).push_back(std::move(rule)); }
  std::vector<std::string>& Chain(const std::string& name) { return plan_.chains[name]; }

  void PlanClusterIps(bool has_endpoints) {
    const std::string& target = service_.internal_local ? local_chain_ : cluster_chain_;
    for (const net::IpAddress& address : service_.cluster_ips) {
      if (address.family() != context_.family) continue;
      if (!has_endpoints) {
        Add(SharedChain::kFilterServices, To(address, RefusalComment(), port_.port) + Refusal());
        continue;
      }
      Add(SharedChain::kNatServices,
          To(address, name_ + " cluster IP", port_.port) + " -j " + target);
      // Traffic from outside must come back through this node: its client knows only the service.
      if (context_.masquerade_all) {
        Chain(target).push_back(To(address, name_ + " cluster IP", port_.port) +
                                " -j KUBE-MARK-MASQ");
      } else if (context_.cluster_cidr) {
        Chain(target).push_back("! -s " + context_.cluster_cidr->ToString() + " " +
                                To(address, name_ + " cluster IP", port_.port) +
                                " -j KUBE-MARK-MASQ");
      }
    }
  }

  void PlanExternalAddresses(bool has_endpoints) {
    auto refuse = [&](const net::IpAddress& address) {
      Add(SharedChain::kFilterExternal, To(address, RefusalComment(), port_.port) + Refusal());
    };
    for (const net::IpAddress& address : service_.external_ips) {
      if (address.family() != context_.family) continue;
      if (HasEndpoints()) {
        Add(SharedChain::kNatServices,
            To(address, name_ + " external IP", port_.port) + " -j " + external_chain_);
      }
      if (!has_endpoints) refuse(address);
    }
    bool firewall = UsesFirewall();
    for (const net::IpAddress& address : service_.load_balancer_ips) {
      if (address.family() != context_.family) continue;
      if (HasEndpoints()) {
        Add(SharedChain::kNatServices, To(address, name_ + " loadbalancer IP", port_.port) +
                                           " -j " + (firewall ? firewall_chain_ : external_chain_));
      }
      if (firewall) {
        Add(SharedChain::kFilterFirewall,
            To(address, name_ + " traffic not accepted by " + firewall_chain_, port_.port) +
                " -j DROP");
      }
      if (!has_endpoints) refuse(address);
    }
  }

  // Source ranges of the other family only still close this family.
  bool UsesFirewall() const {
    return !service_.source_ranges.empty() &&
           std::any_of(service_.load_balancer_ips.begin(), service_.load_balancer_ips.end(),
                       [&](const net::IpAddress& a) { return a.family() == context_.family; });
  }

  void PlanNodePort(bool has_endpoints) {
    bool family_used =
        std::any_of(service_.cluster_ips.begin(), service_.cluster_ips.end(),
                    [&](const net::IpAddress& a) { return a.family() == context_.family; });
    if (!family_used) return;
    if (port_.node_port != 0 && HasEndpoints()) {
      Add(SharedChain::kNatNodePorts, Match(name_, port_.node_port) + " -j " + external_chain_);
    }
    if (port_.node_port != 0 && !has_endpoints) {
      Add(SharedChain::kFilterExternal, "-p " + protocol_ + " " + Comment(RefusalComment()) +
                                            " -m addrtype --dst-type LOCAL -m " + protocol_ +
                                            " --dport " + std::to_string(port_.node_port) +
                                            Refusal());
    }
    if (service_.health_check_node_port != 0) {
      Add(SharedChain::kFilterNodePorts,
          "-p tcp " + Comment(name_ + " health check node port") + " -m tcp --dport " +
              std::to_string(service_.health_check_node_port) + " -j ACCEPT");
    }
  }

  void PlanChains(bool external) {
    if (!HasEndpoints()) return;
    if (!selection_.cluster.empty()) Balance(cluster_chain_, selection_.cluster);
    if (!selection_.local.empty()) Balance(local_chain_, selection_.local);
    for (const Endpoint& endpoint : selection_.reachable) {
      if (HasChain(endpoint)) PlanEndpoint(endpoint);
    }
    if (!IsExternallyAccessible(service_, port_)) return;
    PlanExternalChain(external);
    if (!UsesFirewall()) return;
    for (const net::IpPrefix& range : service_.source_ranges) {
      if (range.family() != context_.family) continue;
      std::string source = range.length() == 0 ? "" : "-s " + range.ToString() + " ";
      Chain(firewall_chain_)
          .push_back(source + Comment(name_ + " loadbalancer IP") + " -j " + external_chain_);
    }
    Chain(firewall_chain_);  // exists even where no range is of this family
  }

  void PlanExternalChain(bool has_endpoints) {
    std::vector<std::string>& chain = Chain(external_chain_);
    if (!service_.external_local) {
      chain.push_back(Comment("masquerade traffic for " + name_ + " external destinations") +
                      " -j KUBE-MARK-MASQ");
    } else {
      // Pods and the node itself are no outside clients: they get any endpoint.
      if (context_.cluster_cidr) {
        chain.push_back("-s " + context_.cluster_cidr->ToString() + " " +
                        Comment("pod traffic for " + name_ + " external destinations") + " -j " +
                        cluster_chain_);
      }
      chain.push_back(Comment("masquerade LOCAL traffic for " + name_ + " external destinations") +
                      " -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ");
      chain.push_back(Comment("route LOCAL traffic for " + name_ + " external destinations") +
                      " -m addrtype --src-type LOCAL -j " + cluster_chain_);
    }
    if (has_endpoints) {
      chain.push_back("-j " + (service_.external_local ? local_chain_ : cluster_chain_));
    }
  }

  // First those that remember the client, then each with an even chance among those left.
  void Balance(const std::string& name, const std::vector<Endpoint>& endpoints) {
    std::vector<std::string>& chain = Chain(name);
    auto comment = [&](const Endpoint& endpoint) {
      return Comment(name_ + " -> " + endpoint.address.WithPort(endpoint.port));
    };
    if (service_.affinity_seconds != 0) {
      for (const Endpoint& endpoint : endpoints) {
        std::string target = EndpointChain(name_, port_.transport, endpoint);
        chain.push_back(comment(endpoint) + " -m recent --rcheck --seconds " +
                        std::to_string(service_.affinity_seconds) + " --reap --name " + target +
                        RecentMask() + " -j " + target);
      }
    }
    for (size_t i = 0; i < endpoints.size(); ++i) {
      const bool has_chain = HasChain(endpoints[i]);
      std::string rule = (has_chain ? "" : "-p " + protocol_ + " ") + comment(endpoints[i]);
      if (size_t left = endpoints.size() - i; left > 1) {
        char probability[32];
        snprintf(probability, sizeof probability, "%.11f", 1.0 / static_cast<double>(left));
        rule += " -m statistic --mode random --probability " + std::string(probability);
      }
      chain.push_back(rule + (has_chain
                                  ? " -j " + EndpointChain(name_, port_.transport, endpoints[i])
                                  : Translation(endpoints[i])));
    }
  }

  std::string RecentMask() const {
    return context_.family == net::IpFamily::kV4
               ? " --mask 255.255.255.255 --rsource"
               : " --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource";
  }

  // Where traffic takes more than a translation. The others do without: at each change the kernel
  // follows every chain of the table.
  bool HasChain(const Endpoint& endpoint) const {
    return service_.affinity_seconds != 0 || MayReachItself(service_, endpoint);
  }

  static std::string Translation(const Endpoint& endpoint) {
    return " -j DNAT --to-destination " + endpoint.address.WithPort(endpoint.port);
  }

  void PlanEndpoint(const Endpoint& endpoint) {
    std::string name = EndpointChain(name_, port_.transport, endpoint);
    std::vector<std::string>& chain = Chain(name);
    if (MayReachItself(service_, endpoint)) {
      chain.push_back("-s " + Host(endpoint.address) + " " + Comment(name_) + " -j KUBE-MARK-MASQ");
    }
    std::string rule = "-p " + protocol_ + " " + Comment(name_);
    if (service_.affinity_seconds != 0) {
      rule += " -m recent --set --name " + name + RecentMask();
    }
    chain.push_back(rule + " -m " + protocol_ + Translation(endpoint));
  }

  const PlanContext& context_;
  const Service& service_;
  const ServicePort& port_;
  ServicePlan& plan_;
  const std::string name_, protocol_;
  const std::string cluster_chain_, local_chain_, external_chain_, firewall_chain_;
  Selection selection_;
};

std::string MarkMask(const PlanContext& context) { return context.mark + "/" + context.mark; }

std::vector<std::string> NodePortJumps(const PlanContext& context) {
  const std::string rest =
      Comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain") +
      " -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS";
  std::vector<std::string> jumps;
  bool all = true;
  for (const net::IpPrefix& prefix : context.nodeport_addresses) {
    all = false;
    if (prefix.family() == context.family) jumps.push_back("-d " + prefix.ToString() + " " + rest);
  }
  if (!all) return jumps;
  // On ::1 they never work, for want of a route_localnet.
  if (context.family == net::IpFamily::kV6) return {"! -d ::1/128 " + rest};
  return {context.localhost_nodeports ? rest : "! -d 127.0.0.0/8 " + rest};
}

}  // namespace

std::string ServicePortName(const ObjectKey& key, const ServicePort& port) {
  return key.ToString() + (port.name.empty() ? "" : ":" + port.name);
}

Selection SelectEndpoints(const ServiceState& state, const ServicePort& port,
                          net::IpFamily family) {
  std::vector<Endpoint> endpoints;
  if (auto found = state.endpoints.find({port.name, port.transport});
      found != state.endpoints.end()) {
    std::copy_if(found->second.begin(), found->second.end(), std::back_inserter(endpoints),
                 [&](const Endpoint& e) { return e.address.family() == family; });
  }
  return SelectEndpoints(state.service, port, std::move(endpoints));
}

std::string_view SharedChainName(SharedChain chain) {
  switch (chain) {
    case SharedChain::kNatServices: return "KUBE-SERVICES";
    case SharedChain::kNatNodePorts: return "KUBE-NODEPORTS";
    case SharedChain::kFilterServices: return "KUBE-SERVICES";
    case SharedChain::kFilterExternal: return "KUBE-EXTERNAL-SERVICES";
    case SharedChain::kFilterNodePorts: return "KUBE-NODEPORTS";
    case SharedChain::kFilterFirewall: return "KUBE-PROXY-FIREWALL";
  }
  return "";
}

bool IsNat(SharedChain chain) {
  return chain == SharedChain::kNatServices || chain == SharedChain::kNatNodePorts;
}

size_t ServicePlan::rules() const {
  size_t count = 0;
  for (const auto& [name, chain] : chains) count += chain.size();
  for (const auto& chain : shared) count += chain.size();
  return count;
}

ServicePlan PlanService(const PlanContext& context, const ObjectKey& key,
                        const ServiceState* state) {
  ServicePlan plan;
  if (state == nullptr) return plan;
  for (const ServicePort& port : state->service.ports) {
    PortPlanner(context, key, *state, port, plan).Plan();
  }
  return plan;
}

Chains BaseNatChains(const PlanContext& context) {
  Chains chains;
  chains["KUBE-SERVICES"] = NodePortJumps(context);
  chains["KUBE-NODEPORTS"] = {};
  chains["KUBE-MARK-MASQ"] = {"-j MARK --set-xmark " + MarkMask(context)};
  // The mark goes before the packet may pass here again, encapsulated.
  chains["KUBE-POSTROUTING"] = {
      "-m mark ! --mark " + MarkMask(context) + " -j RETURN",
      "-j MARK --set-xmark " + context.mark + "/0x0",
      Comment("kubernetes service traffic requiring SNAT") + " -j MASQUERADE --random-fully"};
  chains[std::string(kCanaryChain)] = {};
  return chains;
}

Chains BaseFilterChains(const PlanContext& context) {
  Chains chains;
  chains["KUBE-SERVICES"] = {};
  chains["KUBE-EXTERNAL-SERVICES"] = {};
  chains["KUBE-NODEPORTS"] = {};
  chains["KUBE-PROXY-FIREWALL"] = {};
  // Packets that conntrack cannot place are not translated back: a reset would reach the client
  // from an address it does not know.
  chains["KUBE-FORWARD"] = {"-m conntrack --ctstate INVALID -j DROP",
                            Comment("kubernetes forwarding rules") + " -m mark --mark " +
                                MarkMask(context) + " -j ACCEPT",
                            Comment("kubernetes forwarding conntrack rule") +
                                " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"};
  chains["KUBE-FIREWALL"] = {};
  if (context.family == net::IpFamily::kV4 && context.localhost_nodeports) {
    // route_localnet lets neighbours address 127.0.0.0/8 of this node.
    chains["KUBE-FIREWALL"] = {"! -s 127.0.0.0/8 -d 127.0.0.0/8 " +
                               Comment("block incoming localnet connections") +
                               " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"};
  }
  chains[std::string(kCanaryChain)] = {};
  return chains;
}

std::vector<std::string> NatJumps() {
  const std::string portals = Comment("kubernetes service portals") + " -j KUBE-SERVICES";
  return {"PREROUTING " + portals, "OUTPUT " + portals,
          "POSTROUTING " + Comment("kubernetes postrouting rules") + " -j KUBE-POSTROUTING"};
}

std::vector<std::string> FilterJumps() {
  const std::string fresh = "-m conntrack --ctstate NEW ";
  const std::string firewall =
      fresh + Comment("kubernetes load balancer firewall") + " -j KUBE-PROXY-FIREWALL";
  const std::string external = fresh + Comment("kubernetes externally-visible service portals") +
                               " -j KUBE-EXTERNAL-SERVICES";
  const std::string portals = fresh + Comment("kubernetes service portals") + " -j KUBE-SERVICES";
  // Each goes to the front: the last of a chain's is its first in force.
  return {"INPUT -j KUBE-FIREWALL",
          "INPUT " + external,
          "INPUT " + Comment("kubernetes health check service ports") + " -j KUBE-NODEPORTS",
          "INPUT " + firewall,
          "FORWARD " + external,
          "FORWARD " + portals,
          "FORWARD " + Comment("kubernetes forwarding rules") + " -j KUBE-FORWARD",
          "FORWARD " + firewall,
          "OUTPUT -j KUBE-FIREWALL",
          "OUTPUT " + portals,
          "OUTPUT " + firewall};
}

bool IsServiceChain(std::string_view chain) {
  for (std::string_view prefix :
       {"KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-", "KUBE-XLB-"}) {
    if (chain.starts_with(prefix)) return true;
  }
  return false;
}

bool IsProxyChain(std::string_view chain) {
  for (std::string_view own : {"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-MARK-MASQ",
                               "KUBE-POSTROUTING", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL",
                               "KUBE-FORWARD", "KUBE-FIREWALL", "KUBE-PROXY-CANARY"}) {
    if (chain == own) return true;
  }
  return IsServiceChain(chain);
}

std::string ServiceChain(std::string_view prefix, std::string_view port, Transport transport) {
  std::string text = std::string(port) + std::string(TransportName(transport));
  return std::string(prefix) + net::ShortHashBase32(text, kHashCharacters);
}

std::string EndpointChain(std::string_view port, Transport transport, const Endpoint& endpoint) {
  std::string text = std::string(port) + std::string(TransportName(transport)) +
                     endpoint.address.WithPort(endpoint.port);
  return "KUBE-SEP-" + net::ShortHashBase32(text, kHashCharacters);
}

}  // namespace skiff::agent::proxy
