#include "cni/bridge_network.h"

#include <algorithm>
#include <mutex>
#include <set>
#include <tuple>
#include <utility>

#include "base/log.h"
#include "base/net/conntrack.h"
#include "base/net/families.h"
#include "base/net/iptables.h"
#include "cni/bridge.h"
#include "cni/leases.h"
#include "cni/link_removal.h"
#include "cni/rules.h"
#include "cni/sandbox_turns.h"
#include "cni/shaper.h"

namespace skiff::cni {
namespace {

std::vector<net::IpPrefix> OfFamily(const std::vector<net::IpPrefix>& prefixes,
                                    net::IpFamily family) {
  std::vector<net::IpPrefix> some;
  std::copy_if(prefixes.begin(), prefixes.end(), std::back_inserter(some),
               [family](const net::IpPrefix& prefix) { return prefix.family() == family; });
  return some;
}

Result<> ValidateCidrs(const std::vector<net::IpPrefix>& cidrs) {
  if (cidrs.empty()) return Error(Code::kInvalidArgument, "no pod CIDR");
  for (net::IpFamily family : net::kIpFamilies) {
    if (OfFamily(cidrs, family).size() > 1) {
      return Error(Code::kInvalidArgument,
                   "more than one " + std::string(net::FamilyName(family)) + " pod CIDR");
    }
  }
  for (const net::IpPrefix& cidr : cidrs) {
    if (cidr.size() < 4) {
      return Error(Code::kInvalidArgument, "pod CIDR " + cidr.ToString() + " is too small");
    }
  }
  return {};
}

PodLink LinkOf(const Lease& lease) {
  PodLink pod{.host_interface = lease.attachment.host_interface,
              .limited = !lease.bandwidth.empty()};
  for (const PodAddress& address : lease.attachment.addresses) {
    pod.addresses.push_back(address.address);
  }
  return pod;
}

}  // namespace

class BridgeNetwork::Impl {
 public:
  // What SetPodCidrs said; mtu is 0 before that.
  struct NodeSettings {
    std::vector<net::IpPrefix> pod_cidrs, cluster_cidrs;
    uint32_t mtu = 0;
  };

  Impl(BridgeConfig config, net::Iptables& iptables, net::Conntrack& conntrack,
       std::unique_ptr<LeaseTable> leases)
      : config_(std::move(config)),
        iptables_(iptables),
        conntrack_(conntrack),
        leases_(std::move(leases)),
        link_removal_(config_.deadline) {
    for (const std::string& sandbox_id : leases_->RetiredBefore()) RemoveLink(sandbox_id);
  }

  Result<Attachment> Attach(const AttachRequest& request);
  Result<> Detach(const std::string& sandbox_id);
  Result<> Check(const std::string& sandbox_id);
  Result<> Recover(const std::vector<std::string>& live);
  Result<> SetPodCidrs(const std::vector<net::IpPrefix>& pod_cidrs,
                       const std::vector<net::IpPrefix>& cluster_cidrs);
  Result<> Reconcile();
  Result<> RemoveAll();
  Result<> FinishRemovals() {
    TRY(link_removal_.Flush());
    std::lock_guard lock(forgetting_mutex_);
    return std::exchange(forgetting_, Result<>());
  }
  void Adopt(NodeSettings settings) {
    std::lock_guard lock(settings_mutex_);
    settings_ = std::move(settings);
  }
  const LeaseTable& leases() const { return *leases_; }
  uint32_t mtu() const { return Settings().mtu; }
  bool Ready() const { return mtu() != 0; }

 private:
  NodeSettings Settings() const {
    std::lock_guard lock(settings_mutex_);
    return settings_;
  }
  BridgeSpec BridgeOf(const NodeSettings& settings) const {
    return {.name = config_.bridge, .mtu = settings.mtu, .pod_cidrs = settings.pod_cidrs};
  }
  NodeRulesSpec RulesOf(const NodeSettings& settings, net::IpFamily family) const {
    return {.family = family,
            .chains = config_.chains,
            .bridge = config_.bridge,
            .pod_cidrs = OfFamily(settings.pod_cidrs, family),
            .cluster_cidrs = OfFamily(settings.cluster_cidrs, family),
            .masquerade = config_.masquerade};
  }
  Result<Lease> MakeLease(const AttachRequest& request, const NodeSettings& settings);
  Result<> Connect(const Lease& lease, const net::Netns& netns, const NodeSettings& settings);
  Result<> Disconnect(const Lease& lease);
  Result<> CutOff(const std::string& host_interface);
  void RemoveLink(const std::string& sandbox_id);
  Result<int> BridgeIndex(net::Rtnl& rtnl, const NodeSettings& settings);
  Result<> EnsureNode(const NodeSettings& settings);
  Result<> EnsureRules(const NodeSettings& settings);
  Result<bool> RulesAreInPlace(const NodeSettings& settings);
  // Makes the host ports those of all leases; gone: as PlanHostPorts.
  Result<> WriteHostPorts(const NodeSettings& settings, const Lease& changed, const Lease* gone);
  Result<> FlushStaleFlows(const Lease& lease, bool attached);
  Result<> RemoveStrayLinks();

  const BridgeConfig config_;
  net::Iptables& iptables_;
  net::Conntrack& conntrack_;
  const std::unique_ptr<LeaseTable> leases_;
  SandboxTurns turns_;
  std::mutex forgetting_mutex_;
  Result<> forgetting_;  // how the last failure to do so was; guarded by forgetting_mutex_
  LinkRemoval link_removal_;
  mutable std::mutex settings_mutex_;
  NodeSettings settings_;
  // Held over whole plans and writes of shared state (bridge, rules), so that a later plan cannot
  // be overtaken by an earlier one; nothing else is locked under it but the lease table.
  std::mutex node_mutex_;
};

Result<Lease> BridgeNetwork::Impl::MakeLease(const AttachRequest& request,
                                             const NodeSettings& settings) {
  Lease draft{.sandbox_id = request.sandbox_id,
              .netns_path = request.netns_path,
              .pod_namespace = request.pod_namespace,
              .pod_name = request.pod_name,
              .pod_uid = request.pod_uid,
              .bandwidth = request.bandwidth};
  for (PortMapping port : request.ports) {
    if (port.host_port == 0) continue;
    if (port.container_port == 0) {
      return Error(Code::kInvalidArgument,
                   "host port " + std::to_string(port.host_port) + " names no container port");
    }
    if (port.host_ip && port.host_ip->is_unspecified()) port.host_ip.reset();
    if (port.host_ip && OfFamily(settings.pod_cidrs, port.host_ip->family()).empty()) {
      return Error(Code::kInvalidArgument, "host IP " + port.host_ip->ToString() +
                                               ": pods of this node have no address of its family");
    }
    // The same mapping twice is one.
    if (std::find(draft.ports.begin(), draft.ports.end(), port) == draft.ports.end()) {
      draft.ports.push_back(port);
    }
  }
  draft.attachment.interface = config_.pod_interface;
  draft.attachment.mtu = settings.mtu;
  draft.attachment.mac = request.mac;
  return leases_->Acquire(std::move(draft), request.requested_addresses, settings.pod_cidrs);
}

Result<int> BridgeNetwork::Impl::BridgeIndex(net::Rtnl& rtnl, const NodeSettings& settings) {
  auto index = rtnl.LinkIndex(config_.bridge);
  if (index.ok() || index.error().code() != Code::kNotFound) return index;
  // Somebody deleted it: put the node's side back.
  TRY(EnsureNode(settings));
  return rtnl.LinkIndex(config_.bridge);
}

Result<> BridgeNetwork::Impl::Connect(const Lease& lease, const net::Netns& netns,
                                      const NodeSettings& settings) {
  net::Rtnl node = TRY(net::Rtnl::Open(config_.deadline));
  int bridge = TRY(BridgeIndex(node, settings));
  Result<> connected = ConnectPod(node, netns, bridge, lease, config_.deadline);
  if (!connected.ok() && connected.error().sys_errno() == EEXIST) {
    // What a run before left under our name; an interface of the pod's that is not ours stays.
    TRY(node.DeleteLinkIfPresent(lease.attachment.host_interface));
    connected = ConnectPod(node, netns, bridge, lease, config_.deadline);
  }
  TRY(std::move(connected));
  Result<> shaped = ShapePod(node, lease.attachment, lease.bandwidth, config_.bridge);
  if (!shaped.ok()) {
    if (shaped.error().code() != Code::kUnimplemented) return shaped;
    log::Warning(
        "a pod's bandwidth is not limited",
        {{"namespace", lease.pod_namespace}, {"pod", lease.pod_name}, {"error", shaped.error()}});
  }
  if (!lease.ports.empty()) {
    TRY(WriteHostPorts(settings, lease, nullptr));
    TRY(FlushStaleFlows(lease, /*attached=*/true));
  }
  return {};
}

Result<Attachment> BridgeNetwork::Impl::Attach(const AttachRequest& request) {
  if (!IsValidSandboxId(request.sandbox_id)) {
    return Error(Code::kInvalidArgument, "\"" + request.sandbox_id + "\" is not a sandbox id");
  }
  const NodeSettings settings = Settings();
  if (settings.mtu == 0) {
    return Error(Code::kFailedPrecondition, "the node has no pod CIDR yet");
  }
  SandboxTurns::Turn turn(turns_, request.sandbox_id);
  net::Netns netns = TRY(net::Netns::Open(request.netns_path));
  if (auto lease = leases_->Find(request.sandbox_id)) {
    net::Rtnl node = TRY(net::Rtnl::Open(config_.deadline));
    int bridge = TRY(BridgeIndex(node, settings));
    if (lease->netns_path == request.netns_path && CheckPod(node, bridge, *lease).ok()) {
      return lease->attachment;
    }
    TRY(Disconnect(*lease));
  }
  // Of an earlier attachment: its name is needed again.
  if (link_removal_.Has(HostInterfaceOf(request.sandbox_id))) TRY(link_removal_.Flush());
  Lease lease = TRY(MakeLease(request, settings));
  Result<> connected = Connect(lease, netns, settings);
  if (!connected.ok()) {
    Result<> undone = Disconnect(lease);
    if (undone.ok()) undone = link_removal_.Flush();
    // The lease stays where undoing fails too: Detach or Recover finishes it.
    std::string context = "attach sandbox " + request.sandbox_id;
    if (!undone.ok()) context += " (and undoing it failed: " + undone.error().message() + ")";
    return std::move(connected).error().With(context);
  }
  if (config_.links != nullptr) config_.links->Joined(LinkOf(lease));
  return lease.attachment;
}

// From here on nothing reaches the pod, and nothing comes from it.
Result<> BridgeNetwork::Impl::CutOff(const std::string& host_interface) {
  net::Rtnl node = TRY(net::Rtnl::Open(config_.deadline));
  auto index = node.LinkIndex(host_interface);
  if (!index.ok() && index.error().code() == Code::kNotFound) return {};
  TRY(std::move(index));
  if (node.Apply(net::rtnl::DisablePort(*index)).ok()) return {};
  // Gone meanwhile, or off the bridge.
  return node.DeleteLinkIfPresent(host_interface);
}

void BridgeNetwork::Impl::RemoveLink(const std::string& sandbox_id) {
  link_removal_.Remove(HostInterfaceOf(sandbox_id), [this, sandbox_id] {
    // Read again at the next start where it cannot be removed: the link is looked for in vain then.
    auto forgotten = leases_->Forget(sandbox_id);
    if (forgotten.ok()) return;
    std::lock_guard lock(forgetting_mutex_);
    forgetting_ = std::move(forgotten);
  });
}

// Idempotent. The address is free when it returns; the interface goes soon.
Result<> BridgeNetwork::Impl::Disconnect(const Lease& lease) {
  if (config_.links != nullptr) config_.links->Leaves(LinkOf(lease));
  TRY(CutOff(lease.attachment.host_interface));
  if (!lease.bandwidth.empty()) {
    net::Rtnl node = TRY(net::Rtnl::Open(config_.deadline));
    TRY(RemoveShaping(node, lease.attachment.host_interface, lease.bandwidth));
  }
  if (!lease.ports.empty()) {
    TRY(WriteHostPorts(Settings(), lease, &lease));
    TRY(FlushStaleFlows(lease, /*attached=*/false));
  }
  TRY(leases_->Retire(lease.sandbox_id));
  RemoveLink(lease.sandbox_id);
  return {};
}

Result<> BridgeNetwork::Impl::Detach(const std::string& sandbox_id) {
  SandboxTurns::Turn turn(turns_, sandbox_id);
  auto lease = leases_->Find(sandbox_id);
  if (!lease) return {};
  return Disconnect(*lease).With("detach sandbox " + sandbox_id);
}

Result<> BridgeNetwork::Impl::Check(const std::string& sandbox_id) {
  auto lease = leases_->Find(sandbox_id);
  if (!lease) return Error(Code::kNotFound, "sandbox " + sandbox_id + " is not attached");
  net::Rtnl node = TRY(net::Rtnl::Open(config_.deadline));
  auto bridge = node.LinkIndex(config_.bridge);
  if (!bridge.ok()) return Error(Code::kFailedPrecondition, bridge.error().message());
  return CheckPod(node, *bridge, *lease);
}

Result<> BridgeNetwork::Impl::WriteHostPorts(const NodeSettings& settings, const Lease& changed,
                                             const Lease* gone) {
  std::lock_guard lock(node_mutex_);
  std::vector<Lease> leases = leases_->All();
  if (gone != nullptr) {
    std::erase_if(leases, [&](const Lease& lease) { return lease.sandbox_id == gone->sandbox_id; });
  }
  for (net::IpFamily family : net::kIpFamilies) {
    if (!HasHostPorts(changed, family) || !iptables_.Supports(family)) continue;
    TRY(iptables_.Restore(family, PlanHostPorts(RulesOf(settings, family), leases, gone)));
  }
  return {};
}

// UDP packets of a peer that keeps sending stay with an entry made before the rules were written:
// to this node itself before the pod came, or to the pod's address after it went.
Result<> BridgeNetwork::Impl::FlushStaleFlows(const Lease& lease, bool attached) {
  for (const PodAddress& address : lease.attachment.addresses) {
    auto stale = [&](const net::Flow& flow) {
      return std::any_of(lease.ports.begin(), lease.ports.end(), [&](const PortMapping& port) {
        if (port.protocol != Protocol::kUdp || flow.original.destination_port != port.host_port ||
            (port.host_ip && flow.original.destination != *port.host_ip)) {
          return false;
        }
        bool to_pod = flow.reply.source == address.address;
        bool untranslated = flow.reply.source == flow.original.destination;
        return attached ? untranslated : to_pod;
      });
    };
    bool udp = std::any_of(lease.ports.begin(), lease.ports.end(),
                           [](const PortMapping& port) { return port.protocol == Protocol::kUdp; });
    if (!udp) return {};
    for (const net::Flow& flow :
         TRY(conntrack_.List(address.address.family(), net::kProtocolUdp, stale))) {
      TRY(conntrack_.Delete(flow));
    }
  }
  return {};
}

Result<> BridgeNetwork::Impl::EnsureRules(const NodeSettings& settings) {
  for (net::IpFamily family : net::kIpFamilies) {
    NodeRulesSpec spec = RulesOf(settings, family);
    if (spec.pod_cidrs.empty()) continue;
    if (!iptables_.Supports(family)) {
      return Error(Code::kFailedPrecondition, "pod CIDR " + spec.pod_cidrs.front().ToString() +
                                                  " needs iptables for its family");
    }
    auto nat = TRY(net::MissingJumps(iptables_, family, "nat", NatJumps(config_.chains)));
    auto filter = TRY(net::MissingJumps(iptables_, family, "filter", FilterJumps(config_.chains)));
    TRY(iptables_.Restore(family, PlanNodeRules(spec, leases_->All(), nat, filter)));
  }
  return {};
}

Result<> BridgeNetwork::Impl::EnsureNode(const NodeSettings& settings) {
  std::lock_guard lock(node_mutex_);
  net::Rtnl rtnl = TRY(net::Rtnl::Open(config_.deadline));
  BridgeSpec spec = BridgeOf(settings);
  std::vector<Lease> leases = leases_->All();
  int index = TRY(EnsureBridge(rtnl, spec, leases));
  TRY(EnsureSysctls(rtnl, spec));
  TRY(EnsureRules(settings));
  // Ports of pods that came off with a bridge that was deleted.
  for (const Lease& lease : leases) {
    auto link = rtnl.GetLink(lease.attachment.host_interface);
    if (!link.ok() || link->master == index) continue;
    TRY(rtnl.Apply(net::rtnl::SetMaster(link->index, index)));
    TRY(rtnl.Apply(net::rtnl::SetHairpin(link->index, true)));
  }
  return {};
}

Result<> BridgeNetwork::Impl::SetPodCidrs(const std::vector<net::IpPrefix>& pod_cidrs,
                                          const std::vector<net::IpPrefix>& cluster_cidrs) {
  TRY(ValidateCidrs(pod_cidrs));
  net::Rtnl rtnl = TRY(net::Rtnl::Open(config_.deadline));
  NodeSettings settings{.pod_cidrs = pod_cidrs,
                        .cluster_cidrs = cluster_cidrs.empty() ? pod_cidrs : cluster_cidrs,
                        .mtu = config_.mtu};
  if (settings.mtu == 0) {
    const bool v6 = pod_cidrs.front().first().is_v6();
    settings.mtu = TRY(UnderlayMtu(
        rtnl, config_.bridge, v6 ? config_.encapsulation_bytes_ipv6 : config_.encapsulation_bytes));
  }
  TRY(EnsureNode(settings).With("set up the pod network"));
  Adopt(std::move(settings));
  return {};
}

// What no lease names: veth ends on the bridge and the links that slow pods down, of a state
// directory that was lost.
Result<> BridgeNetwork::Impl::RemoveStrayLinks() {
  net::Rtnl rtnl = TRY(net::Rtnl::Open(config_.deadline));
  auto bridge = rtnl.LinkIndex(config_.bridge);
  if (!bridge.ok()) return {};
  std::vector<Lease> leases = leases_->All();
  for (const net::Link& link : TRY(rtnl.ListLinks())) {
    bool end = link.master == *bridge && link.kind == "veth" && link.name.starts_with("veth");
    bool shaper = link.kind == "ifb" && link.alias == config_.bridge;
    if (!end && !shaper) continue;
    bool known = std::any_of(leases.begin(), leases.end(), [&](const Lease& lease) {
      const std::string& host_interface = lease.attachment.host_interface;
      return link.name == host_interface || (shaper && link.name == IfbOf(host_interface));
    });
    if (!known) TRY(rtnl.DeleteLinkIfPresent(link.name));
  }
  return {};
}

Result<> BridgeNetwork::Impl::Recover(const std::vector<std::string>& live) {
  std::set<std::string> keep(live.begin(), live.end());
  Result<> first;
  for (const Lease& lease : leases_->All()) {
    if (keep.contains(lease.sandbox_id)) continue;
    Result<> detached = Detach(lease.sandbox_id);
    if (first.ok() && !detached.ok()) first = std::move(detached);
  }
  TRY(std::move(first));
  TRY(link_removal_.Flush());
  TRY(RemoveStrayLinks());
  if (config_.links != nullptr) {
    for (const Lease& lease : leases_->All()) config_.links->Joined(LinkOf(lease));
    config_.links->Recovered();
  }
  const NodeSettings settings = Settings();
  return settings.mtu == 0 ? Result<>() : EnsureNode(settings);
}

// Looks at chains that always have rules: another program's flush empties or deletes them.
Result<bool> BridgeNetwork::Impl::RulesAreInPlace(const NodeSettings& settings) {
  for (const net::IpPrefix& cidr : settings.pod_cidrs) {
    for (auto [table, chain, jumps] :
         {std::tuple("nat", "-POSTROUTING", NatJumps(config_.chains)),
          std::tuple("filter", "-FORWARD", FilterJumps(config_.chains))}) {
      auto rules = iptables_.ListChain(cidr.family(), table, config_.chains + chain);
      if (!rules.ok() && rules.error().code() != Code::kNotFound) return std::move(rules).error();
      if (!rules.ok() || rules->empty()) return false;
      if (!TRY(net::MissingJumps(iptables_, cidr.family(), table, jumps)).empty()) return false;
    }
  }
  return true;
}

Result<> BridgeNetwork::Impl::Reconcile() {
  const NodeSettings settings = Settings();
  if (settings.mtu == 0) return {};
  net::Rtnl rtnl = TRY(net::Rtnl::Open(config_.deadline));
  auto bridge = rtnl.GetLink(config_.bridge);
  if (bridge.ok() && bridge->up && TRY(RulesAreInPlace(settings))) return {};
  return EnsureNode(settings);
}

Result<> BridgeNetwork::Impl::RemoveAll() {
  if (!leases_->All().empty()) {
    return Error(Code::kFailedPrecondition, "sandboxes are attached to the pod network");
  }
  TRY(link_removal_.Flush());
  std::lock_guard lock(node_mutex_);
  auto ours = [this](std::string_view chain) { return IsNodeChain(config_.chains, chain); };
  for (net::IpFamily family : net::kIpFamilies) {
    if (!iptables_.Supports(family)) continue;
    TRY(net::RemoveChains(iptables_, family, "nat", ours));
    TRY(net::RemoveChains(iptables_, family, "filter", ours));
  }
  net::Rtnl rtnl = TRY(net::Rtnl::Open(config_.deadline));
  TRY(rtnl.DeleteLinkIfPresent(config_.bridge));
  std::lock_guard settings_lock(settings_mutex_);
  settings_ = {};
  return {};
}

Result<std::unique_ptr<BridgeNetwork>> BridgeNetwork::Open(BridgeConfig config,
                                                           net::Iptables& iptables,
                                                           net::Conntrack& conntrack) {
  if (config.bridge.empty() || config.bridge.size() > 15 || config.pod_interface.empty() ||
      config.pod_interface.size() > 15) {
    return Error(Code::kInvalidArgument, "interface names have 1 to 15 characters");
  }
  if (config.boot_id.empty()) config.boot_id = TRY(RunningBootId());
  auto leases = TRY(LeaseTable::Open(config.state_dir, config.boot_id));
  return std::unique_ptr<BridgeNetwork>(new BridgeNetwork(
      std::make_unique<Impl>(std::move(config), iptables, conntrack, std::move(leases))));
}

BridgeNetwork::BridgeNetwork(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BridgeNetwork::~BridgeNetwork() = default;

Result<Attachment> BridgeNetwork::Attach(const AttachRequest& request) {
  return impl_->Attach(request);
}
Result<> BridgeNetwork::Detach(const std::string& sandbox_id) { return impl_->Detach(sandbox_id); }
Result<> BridgeNetwork::Check(const std::string& sandbox_id) { return impl_->Check(sandbox_id); }

Result<Attachment> BridgeNetwork::Get(const std::string& sandbox_id) const {
  auto lease = impl_->leases().Find(sandbox_id);
  if (!lease) return Error(Code::kNotFound, "sandbox " + sandbox_id + " is not attached");
  return lease->attachment;
}

Result<> BridgeNetwork::Recover(const std::vector<std::string>& live_sandbox_ids) {
  return impl_->Recover(live_sandbox_ids);
}

Result<> BridgeNetwork::SetPodCidrs(const std::vector<net::IpPrefix>& pod_cidrs,
                                    const std::vector<net::IpPrefix>& cluster_cidrs) {
  return impl_->SetPodCidrs(pod_cidrs, cluster_cidrs);
}

Result<> BridgeNetwork::Reconcile() { return impl_->Reconcile(); }

std::string BridgeNetwork::Unready() const {
  return impl_->Ready() ? "" : "the node has no pod CIDR yet";
}

void BridgeNetwork::AdoptPodCidrs(const std::vector<net::IpPrefix>& pod_cidrs,
                                  const std::vector<net::IpPrefix>& cluster_cidrs, uint32_t mtu) {
  impl_->Adopt({pod_cidrs, cluster_cidrs.empty() ? pod_cidrs : cluster_cidrs, mtu});
}

uint32_t BridgeNetwork::mtu() const { return impl_->mtu(); }

bool BridgeNetwork::InUse() const { return !impl_->leases().All().empty(); }

Result<> BridgeNetwork::RemoveAll() { return impl_->RemoveAll(); }

Result<> BridgeNetwork::FinishRemovals() { return impl_->FinishRemovals(); }

}  // namespace skiff::cni
