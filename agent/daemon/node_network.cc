#include "agent/daemon/node_network.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <mutex>

#include "agent/daemon/overlay_link.h"
#include "agent/daemon/policy_link.h"
#include "agent/dns/node_address.h"
#include "agent/dns/server.h"
#include "agent/node/node_object.h"
#include "agent/policy/rule_writer.h"
#include "agent/proxy/balancer_addresses.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/proxy_health.h"
#include "base/log.h"
#include "base/net/iptables.h"
#include "base/net/iptables_tables.h"
#include "base/net/nft.h"
#include "cni/fastpath/fast_path.h"
#include "cni/pod_forwarding.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"
#include "proto/skiff/node/v1/node.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
namespace discovery = k8s::discovery::v1;

constexpr uint16_t kDnsPort = 53;
constexpr char kZoneLabel[] = "topology.kubernetes.io/zone";
// On nodes that the cluster autoscaler is about to remove (KEP-3836).
constexpr char kGoingTaint[] = "ToBeDeletedByClusterAutoscaler";

template <class T, class Texts>
std::vector<T> ParseAll(const Texts& texts) {
  std::vector<T> values;
  for (const std::string& text : texts) {
    auto value = T::Parse(text);
    // Settings and addresses were checked where they come from.
    if (value.ok()) values.push_back(*value);
  }
  return values;
}

// Both consumers are told in the same words. One that started late is told everything.
template <class Consumer>
void Feed(Consumer& consumer, const DesiredState& desired, const DesiredChange& change, bool* fed) {
  if (!std::exchange(*fed, true) && !change.full) {
    return Feed(consumer, desired, {true, desired.Keys(), {}}, fed);
  }
  if (change.full) consumer.BeginReplace();
  for (const ObjectKey& key : change.deleted) {
    if (change.full) break;
    if (key.kind == "Service") consumer.DeleteService(key.name_space, key.name);
    if (key.kind == "EndpointSlice") consumer.DeleteEndpointSlice(key.name_space, key.name);
  }
  for (const ObjectKey& key : change.changed) {
    bool service = key.kind == "Service";
    if (!service && key.kind != "EndpointSlice") continue;
    auto object = desired.Find(key);
    if (object == nullptr) continue;
    if (service) {
      consumer.SetService(static_cast<const core::Service&>(*object));
    } else {
      consumer.SetEndpointSlice(static_cast<const discovery::EndpointSlice&>(*object));
    }
  }
  if (change.full) consumer.SyncDone();
}

dns::ForwarderConfig ForwardSettings(const AgentConfig& config) {
  dns::ForwarderConfig forward;
  // CompleteConfig has parsed them all once.
  for (const std::string& text : config.dns.upstreams) {
    if (auto upstream = net::ParseEndpoint(text, kDnsPort); upstream.ok()) {
      forward.upstreams.push_back(*upstream);
    }
  }
  for (const auto& [domain, servers] : config.dns.stub_domains) {
    auto name = dns::ParseName(domain);
    if (!name) continue;
    for (const std::string& text : servers) {
      if (auto upstream = net::ParseEndpoint(text, kDnsPort); upstream.ok()) {
        forward.stub_domains[*name].push_back(*upstream);
      }
    }
  }
  return forward;
}

bool TouchesNodes(const DesiredChange& change) {
  auto is_node = [](const ObjectKey& key) { return key.kind == "Node"; };
  return change.full || std::any_of(change.changed.begin(), change.changed.end(), is_node) ||
         std::any_of(change.deleted.begin(), change.deleted.end(), is_node);
}

cni::OverlayNode ToPeer(const core::Node& node) {
  cni::OverlayNode peer;
  for (const core::NodeAddress& address : node.status().addresses()) {
    if (address.type() != "InternalIP") continue;
    if (auto ip = net::IpAddress::Parse(address.address()); ip.ok()) peer.addresses.push_back(*ip);
  }
  peer.pod_cidrs = ParseAll<net::IpPrefix>(node.spec().pod_cidrs());
  auto mtu = node.metadata().annotations().find(kPodMtuAnnotation);
  if (mtu != node.metadata().annotations().end()) {
    const std::string& text = mtu->second;
    (void)std::from_chars(text.data(), text.data() + text.size(), peer.mtu);  // none: as if unsaid
  }
  auto key = node.metadata().annotations().find(kWireguardKeyAnnotation);
  if (key != node.metadata().annotations().end()) peer.wireguard_key = key->second;
  return peer;
}

cni::FastPathConfig FastPathSettings(const AgentConfig& config) {
  cni::FastPathConfig settings;
  settings.allowed = config.fast_path_mode != "none";
  settings.record = config.run_dir + "/network/conntrack-before";
  return settings;
}

std::shared_ptr<cni::FastPath> MakeFastPath(const AgentConfig& config,
                                            const NodeNetworkDeps& deps) {
  // As of the overlay.
  if (deps.nft == nullptr || !config.runtime_endpoint.empty() || config.server.empty()) {
    return nullptr;
  }
  return std::make_shared<cni::FastPath>(deps.blocking, *deps.nft, cni::MakeSystemFastPathKernel(),
                                         FastPathSettings(config));
}

std::unique_ptr<OverlayLink> MakeOverlay(const AgentConfig& config, const NodeNetworkDeps& deps,
                                         std::weak_ptr<cni::FastPath> fast_path) {
  // Another runtime has a network of its own; without a cluster there are no peers.
  if (config.overlay_mode == "none" || !config.runtime_endpoint.empty() || config.server.empty()) {
    return nullptr;
  }
  cni::OverlayConfig overlay;
  // CompleteConfig has checked it.
  overlay.mode = cni::ParseOverlayMode(config.overlay_mode).value_or(overlay.mode);
  return std::make_unique<OverlayLink>(overlay, config.state_dir + "/network/wireguard.key",
                                       deps.blocking, deps.on_overlay,
                                       [weak = std::move(fast_path)] {
                                         if (auto alive = weak.lock()) alive->LinksChanged();
                                       });
}

std::unique_ptr<proxy::BalancerAddresses> MakeBalancers(const AgentConfig& config,
                                                        const NodeNetworkDeps& deps) {
  if (config.proxy_mode == "none" || config.server.empty()) return nullptr;
  return std::make_unique<proxy::BalancerAddresses>(config.node_name, deps.blocking, deps.iptables);
}

std::unique_ptr<cni::PodForwarding> MakeForwarding(const AgentConfig& config,
                                                   const NodeNetworkDeps& deps) {
  // Another proxy brings its own rules.
  if (config.proxy_mode == "none" || config.server.empty()) return nullptr;
  auto forwarding = std::make_unique<cni::PodForwarding>(*deps.iptables, deps.blocking);
  // Another runtime's network is never the built-in one; of ours, SetBuiltInPodNetwork tells.
  if (!config.runtime_endpoint.empty()) forwarding->SetWanted(true);
  return forwarding;
}

std::unique_ptr<PolicyLink> MakePolicies(const AgentConfig& config, Executor& blocking) {
  // Another runtime's network need not pass where the rules are; without a cluster there are no
  // policies.
  bool none = config.network_policy_mode == "none" || !config.runtime_endpoint.empty() ||
              config.server.empty();
  return none ? nullptr : std::make_unique<PolicyLink>(blocking);
}

proxy::Mode ChooseMode(const std::string& setting, net::Nft& nft) {
  if (setting == "nftables") return proxy::Mode::kNftables;
  if (setting != "auto") return proxy::Mode::kIptables;
  Result<> can = proxy::CheckNftables(nft);
  if (can.ok()) return proxy::Mode::kNftables;
  log::Info("service rules are made with iptables", {{"reason", can.error()}});
  return proxy::Mode::kIptables;
}

}  // namespace

struct NodeNetwork::Parts {
  const AgentConfig& config;
  const NodeNetworkDeps deps;
  // Another thread takes it through GetProxy.
  std::shared_ptr<proxy::ServiceProxy> proxy;
  std::unique_ptr<dns::DnsServer> dns;
  std::unique_ptr<proxy::BalancerAddresses> balancers;  // null: another program proxies
  // Each has been told everything once; changes are enough from there on.
  bool proxy_fed = false, dns_fed = false, balancers_fed = false;
  // What they were started with: they begin anew where it changes.
  std::string settings_bytes;
  // Null: none is wanted. The overlay tells it of links.
  std::shared_ptr<cni::FastPath> fast_path;
  std::unique_ptr<OverlayLink> overlay;            // null: none is wanted
  std::unique_ptr<PolicyLink> policies;            // null: none are enforced
  std::unique_ptr<cni::PodForwarding> forwarding;  // null: another program proxies
  std::string zone = {};                           // this node's
  std::atomic<bool> node_eligible = true;
  mutable std::mutex proxy_mutex = {};
  std::unique_ptr<http::Server> proxy_health = nullptr;  // null: not served

  std::shared_ptr<proxy::ServiceProxy> GetProxy() const {
    std::lock_guard lock(proxy_mutex);
    return proxy;
  }
  void SetProxy(std::shared_ptr<proxy::ServiceProxy> now) {
    std::lock_guard lock(proxy_mutex);
    proxy.swap(now);
  }
  proxy::ProxyHealth ReadProxyHealth() const;
  void ServeProxyHealth();

  // What this node's Node object says of it; all is to be told again where that means something
  // else now.
  void ObserveOwnNode(const DesiredState& desired);
  void ForgetOldSettings(const skiff::node::v1::ClusterSettings& now);
  void StartProxy(const skiff::node::v1::ClusterSettings& settings);
  void StartDns(const skiff::node::v1::ClusterSettings& settings);
  void FeedOverlay(const DesiredState& desired);
};

NodeNetwork::NodeNetwork(const AgentConfig& config, NodeNetworkDeps deps)
    : parts_(new Parts{.config = config,
                       .deps = deps,
                       .proxy = nullptr,
                       .dns = nullptr,
                       .balancers = MakeBalancers(config, deps),
                       .fast_path = MakeFastPath(config, deps),
                       .overlay = nullptr,
                       .policies = MakePolicies(config, deps.blocking),
                       .forwarding = MakeForwarding(config, deps)}) {
  parts_->overlay = MakeOverlay(config, deps, parts_->fast_path);
  parts_->ServeProxyHealth();
}
NodeNetwork::~NodeNetwork() = default;

void NodeNetwork::Parts::StartProxy(const skiff::node::v1::ClusterSettings& settings) {
  if (proxy != nullptr || config.proxy_mode == "none" || deps.iptables == nullptr) return;
  proxy::Config options;
  options.mode = ChooseMode(config.proxy_mode, *deps.nft);
  options.node_name = config.node_name;
  options.cluster_cidrs = ParseAll<net::IpPrefix>(settings.cluster_cidrs());
  options.on_health_port_failure = [this](const proxy::ObjectKey& service, uint16_t port,
                                          const Error& error) {
    if (!deps.on_service_trouble) return;
    deps.on_service_trouble(service.name_space, service.name, "FailedToStartServiceHealthcheck",
                            "node " + config.node_name + " failed to start healthcheck \"" +
                                service.ToString() + "\" on port " + std::to_string(port) + ": " +
                                error.message());
  };
  auto started = proxy::ServiceProxy::Start(
      std::move(options), {deps.blocking, *deps.iptables, *deps.conntrack, deps.nft});
  if (!started.ok()) {
    log::Error("the service proxy does not start; services are not reachable from this node",
               {{"error", started.error()}});
    return;
  }
  SetProxy(*std::move(started));
}

// While there is no proxy yet it is starting, which is healthy.
proxy::ProxyHealth NodeNetwork::Parts::ReadProxyHealth() const {
  proxy::ProxyHealth health{.node_eligible = node_eligible};
  if (auto running = GetProxy()) {
    proxy::Status status = running->GetStatus();
    health.healthy = status.pending < proxy::kLatestSync;
    health.last_updated = status.last_updated;
  }
  return health;
}

void NodeNetwork::Parts::ServeProxyHealth() {
  if (config.proxy_mode == "none" || config.server.empty()) return;
  if (config.proxy_health_address.empty()) return;
  auto server = proxy::ServeProxyHealth(
      config.proxy_health_address, [this] { return ReadProxyHealth(); }, deps.blocking);
  if (server.ok()) {
    proxy_health = *std::move(server);
  } else {
    log::Warning("no health endpoint of the service proxy; load balancers may leave this node out",
                 {{"address", config.proxy_health_address}, {"error", server.error()}});
  }
}

void NodeNetwork::Parts::StartDns(const skiff::node::v1::ClusterSettings& settings) {
  if (dns != nullptr || !config.dns.enabled || deps.iptables == nullptr) return;
  dns::ServerConfig options;
  options.zone = settings.cluster_domain();
  options.addresses = ParseAll<net::IpAddress>(settings.cluster_dns());
  if (options.addresses.empty()) return;
  options.ranges = ParseAll<net::IpPrefix>(settings.cluster_cidrs());
  for (const auto& range : ParseAll<net::IpPrefix>(settings.service_cidrs())) {
    options.ranges.push_back(range);
  }
  options.forward = ForwardSettings(config);
  auto start = [&]() -> Result<std::unique_ptr<dns::DnsServer>> {
    net::Rtnl rtnl = TRY(net::Rtnl::Open());
    TRY(dns::EnsureNodeAddresses(rtnl, *deps.iptables, options.addresses));
    return dns::DnsServer::Start(options);
  };
  auto started = start();
  if (!started.ok()) {
    log::Error("the cluster DNS does not start; names of services are not known on this node",
               {{"error", started.error()}});
    return;
  }
  dns = *std::move(started);
}

// Seldom: the cluster has got another address family, or other DNS addresses. The proxy's rules and
// the node's addresses stay; what begins anew makes them what they are to be.
void NodeNetwork::Parts::ForgetOldSettings(const skiff::node::v1::ClusterSettings& now) {
  std::string bytes = now.SerializeAsString();
  if (bytes == settings_bytes) return;
  settings_bytes = std::move(bytes);
  SetProxy(nullptr);
  dns.reset();
  proxy_fed = dns_fed = false;
  zone.clear();
}

void NodeNetwork::ApplyWelcome(const skiff::node::v1::Welcome& welcome) {
  parts_->ForgetOldSettings(welcome.settings());
  parts_->StartProxy(welcome.settings());
  parts_->StartDns(welcome.settings());
  if (parts_->overlay != nullptr) {
    parts_->overlay->SetPodCidrs(ParseAll<net::IpPrefix>(welcome.pod_cidrs()));
  }
  if (parts_->forwarding != nullptr) {
    parts_->forwarding->SetClusterCidrs(
        ParseAll<net::IpPrefix>(welcome.settings().cluster_cidrs()));
  }
}

void NodeNetwork::Parts::FeedOverlay(const DesiredState& desired) {
  std::vector<cni::OverlayNode> peers;
  for (const ObjectKey& key : desired.Keys()) {
    if (key.kind != "Node" || key.name == config.node_name) continue;
    if (auto node = desired.Find(key))
      peers.push_back(ToPeer(static_cast<const core::Node&>(*node)));
  }
  overlay->SetPeers(std::move(peers));
}

void NodeNetwork::SetBuiltInPodNetwork(bool built_in) {
  if (parts_->overlay != nullptr) parts_->overlay->SetWanted(built_in);
  if (parts_->forwarding != nullptr) parts_->forwarding->SetWanted(!built_in);
  if (parts_->fast_path != nullptr) parts_->fast_path->SetWanted(built_in);
}

void NodeNetwork::SetNodeAddresses(const std::vector<std::string>& addresses) {
  if (parts_->overlay != nullptr)
    parts_->overlay->SetAddresses(ParseAll<net::IpAddress>(addresses));
}

void NodeNetwork::Parts::ObserveOwnNode(const DesiredState& desired) {
  auto node = desired.Find({"Node", "", config.node_name});
  if (node == nullptr) return;
  const auto& own = static_cast<const core::Node&>(*node);
  node_eligible = !own.metadata().has_deletion_timestamp() &&
                  std::none_of(own.spec().taints().begin(), own.spec().taints().end(),
                               [](const core::Taint& taint) { return taint.key() == kGoingTaint; });
  const auto& labels = own.metadata().labels();
  auto label = labels.find(kZoneLabel);
  std::string now = label == labels.end() ? "" : label->second;
  if (proxy == nullptr || std::exchange(zone, now) == now) return;
  proxy->SetZone(now);
  proxy_fed = false;
}

std::vector<Metric> NodeNetwork::ReadMetrics() const {
  std::vector<Metric> metrics;
  if (auto proxy = parts_->GetProxy()) {
    proxy::Status status = proxy->GetStatus();
    metrics = {{"skiff_agent_service_rules",
                "Rules of Services in force; in nftables mode, elements.", false, status.rules},
               {"skiff_agent_service_rules_synced",
                "Whether they are those of the last state told.", false, status.synced ? 1u : 0u},
               {"skiff_agent_service_rules_writes_total", "Writes of rules of Services.", true,
                status.syncs},
               {"skiff_agent_service_rules_failures_total", "Such writes that failed.", true,
                status.failures},
               {"skiff_agent_service_rules_repairs_total",
                "Times that all rules of Services were written as they were damaged or old.", true,
                status.repairs}};
  }
  if (parts_->policies != nullptr) {
    policy::Status status = parts_->policies->enforcer().GetStatus();
    metrics.insert(
        metrics.end(),
        {{"skiff_agent_policy_isolated_addresses",
          "Addresses of pods that network policies are about.", false, status.isolated_pods},
         {"skiff_agent_policy_rules_writes_total", "Writes of rules of network policies.", true,
          status.writes},
         {"skiff_agent_policy_rules_failures_total", "Such writes that failed.", true,
          status.failures},
         {"skiff_agent_policy_rules_repairs_total",
          "Times that somebody else removed rules of network policies.", true, status.repairs}});
  }
  if (parts_->fast_path != nullptr) {
    metrics.push_back({"skiff_agent_fast_path_packets_total",
                       "Packets between pods that passed this node on the fast path.", true,
                       parts_->fast_path->Taken()});
  }
  return metrics;
}

TrafficRules* NodeNetwork::traffic() {
  return parts_->policies == nullptr ? nullptr : &parts_->policies->enforcer();
}

void NodeNetwork::ApplyChange(const DesiredState& desired, const DesiredChange& change) {
  if (TouchesNodes(change) || !parts_->proxy_fed) parts_->ObserveOwnNode(desired);
  if (parts_->proxy != nullptr) Feed(*parts_->proxy, desired, change, &parts_->proxy_fed);
  if (parts_->dns != nullptr) Feed(*parts_->dns, desired, change, &parts_->dns_fed);
  if (parts_->balancers != nullptr) {
    Feed(*parts_->balancers, desired, change, &parts_->balancers_fed);
  }
  if (parts_->overlay != nullptr && TouchesNodes(change)) parts_->FeedOverlay(desired);
  if (parts_->policies != nullptr) parts_->policies->ApplyChange(desired, change);
}

std::shared_ptr<cni::PodLinks> NodeNetwork::pod_links() { return parts_->fast_path; }

Result<> RemoveNodeNetwork(const AgentConfig& config, net::Iptables& iptables, net::Nft& nft) {
  TRY(proxy::RemoveAllRules(iptables));
  TRY(proxy::RemoveAllRules(nft));
  TRY(policy::RemovePolicyTables(nft));
  TRY(cni::RemoveFastPath(nft, FastPathSettings(config)));
  TRY(cni::RemovePodForwarding(iptables));
  net::Rtnl rtnl = TRY(net::Rtnl::Open());
  TRY(proxy::EnsureBalancerAddresses(rtnl, &iptables, {}));
  TRY(cni::RemoveOverlay(rtnl, cni::OverlayConfig()));
  TRY(dns::RemoveNodeAddresses(rtnl, iptables));
  return net::RemoveBareIptablesTables(nft);
}

}  // namespace skiff::agent
