#include "agent/daemon/agent.h"

#include <algorithm>
#include <atomic>
#include <mutex>

#include "agent/cri_client/cri_client.h"
#include "agent/daemon/builtin_runtime.h"
#include "agent/daemon/health_server.h"
#include "agent/daemon/node_network.h"
#include "agent/daemon/overlay_link.h"
#include "agent/daemon/pod_cgroups.h"
#include "agent/desired/desired_state.h"
#include "agent/events/recorder.h"
#include "agent/link/node_link.h"
#include "agent/node/node_ips.h"
#include "agent/node/node_object.h"
#include "agent/pods/workers.h"
#include "agent/spec/resources.h"
#include "agent/tunnel/tunnels.h"
#include "agent/volumes/volumes.h"
#include "base/async/elastic_pool.h"
#include "base/http/server.h"
#include "base/log.h"
#include "base/net/conntrack.h"
#include "base/net/iptables.h"
#include "base/net/nft.h"
#include "base/os/files.h"
#include "base/os/heap.h"
#include "base/streaming/fd_stream.h"
#include "proto/codec/quantity.h"
#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/skiff/node/v1/node.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
namespace node_link = skiff::node::v1;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr char kVersion[] = "v1.36.0+skiff-0.1.0";
constexpr int kMaxBlockingThreads = 128;
constexpr int kMaxPulls = 4;
constexpr int kMaxTunnelThreads = 512;
constexpr seconds kHealthPeriod{20};
constexpr minutes kNodeReportPeriod{5};

std::vector<std::string> ToVector(const google::protobuf::RepeatedPtrField<std::string>& list) {
  return {list.begin(), list.end()};
}

// Ids that this machine has given to users for namespaces of their own (rootless containers).
std::vector<IdSpan> OthersIds() {
  std::vector<IdSpan> ids;
  for (const char* file : {"/etc/subuid", "/etc/subgid"}) {
    const std::vector<IdSpan> some = ParseSubordinateIds(ReadFile(file, 1 << 20).value_or(""));
    ids.insert(ids.end(), some.begin(), some.end());
  }
  return ids;
}

}  // namespace

// In the order of construction; the destructor of Agent takes them down in the right one.
struct Agent::Parts {
  explicit Parts(const AgentConfig& agent_config) : config(agent_config) {}

  const AgentConfig config;
  ThreadPool loop{"agent", 2};
  ElasticPool blocking{"agent-block", kMaxBlockingThreads, loop};
  ElasticPool pulls{"agent-pull", kMaxPulls, loop};
  ElasticPool tunnel_pool{"agent-tunnel", kMaxTunnelThreads, loop};
  std::unique_ptr<net::SystemIptables> iptables;
  std::unique_ptr<net::SystemConntrack> conntrack;
  net::SystemNft nft;
  std::unique_ptr<BuiltinRuntime> runtime;  // null: another runtime
  std::unique_ptr<CriClient> cri;
  std::unique_ptr<ProbeRunner> probes;
  std::unique_ptr<DesiredState> desired;
  std::unique_ptr<EventRecorder> events;
  std::unique_ptr<PodCgroups> cgroups;
  PodVolumes volumes{Mounter::Kernel()};
  IdRanges id_ranges{OthersIds()};
  streaming::IoThread io;
  std::unique_ptr<PodDeps> pod_deps;
  std::unique_ptr<PodWorkers> workers;
  std::unique_ptr<NodeLink> link;  // null: no cluster
  std::unique_ptr<Tunnels> tunnels;
  std::shared_ptr<http::Server> health_server;

  MachineFacts facts;
  std::string runtime_name = "skiff";

  std::mutex mutex;
  NodeContext context;                      // guarded by mutex
  NodeOptions node_options;                 // guarded by mutex
  std::unique_ptr<NodeNetwork> network;     // of the link's thread, after the start
  std::optional<net::IpFamily> primary;     // the cluster's, once known; guarded by mutex
  std::optional<core::Node> reported_node;  // guarded by mutex
  SteadyTime reported_at;                   // guarded by mutex
  std::atomic<bool> runtime_ready = false;
  std::atomic<bool> sync_posted = false;
  int64_t burstable_shares = 0;  // of the link's thread

  Result<> StartRuntime();
  Result<> StartPods();
  void StartLink();
  void ObserveNode(bool repeat);
  void ObserveAddresses();
  void TellOverlay(const OverlayState& state);
  void OrderAddresses(const std::string& primary_range);
  NodeContext Context() {
    std::lock_guard lock(mutex);
    return context;
  }

  void SyncDesired();
  void ApplyWelcome();
  void ApplyChange(const DesiredChange& change);
  void ShareCpu(const std::vector<PodPtr>& pods);
  LinkCallbacks MakeCallbacks();
};

Result<> Agent::Parts::StartRuntime() {
  if (config.runtime_endpoint.empty() || config.proxy_mode != "none") {
    iptables = TRY(net::SystemIptables::Open());
    conntrack = std::make_unique<net::SystemConntrack>();
  }
  network = std::make_unique<NodeNetwork>(
      config, NodeNetworkDeps{blocking, iptables.get(), conntrack.get(), &nft,
                              [this](const OverlayState& state) { TellOverlay(state); },
                              [this](const std::string& name_space, const std::string& name,
                                     const std::string& reason, const std::string& message) {
                                events->Warning({.kind = "Service",
                                                 .name_space = name_space,
                                                 .name = name,
                                                 .uid = "",
                                                 .component = "kube-proxy"},
                                                reason, message);
                              }});
  std::shared_ptr<CriStubs> stubs;
  if (config.runtime_endpoint.empty()) {
    runtime = TRY(BuiltinRuntime::Start(config, *iptables, *conntrack, network->pod_links()));
    stubs = runtime->MakeStubs();
    runtime->OnNetworkChange([this](bool built_in) { network->SetBuiltInPodNetwork(built_in); });
    if (config.server.empty()) {
      TRY(runtime->SetPodCidrs(config.pod_cidrs, config.pod_cidrs));
    }
  } else {
    stubs = DialCri(config.runtime_endpoint);
  }
  cri = std::make_unique<CriClient>(std::move(stubs));
  if (auto version = cri->Version(); version.ok()) runtime_name = version->name;
  probes = MakeProbeRunner(*cri, blocking);
  return {};
}

Result<> Agent::Parts::StartPods() {
  TRY(MakeDirectories(config.state_dir + "/agent", 0700));
  desired = TRY(DesiredState::Open(config.state_dir + "/agent/desired"));
  facts = ReadMachineFacts();
  node_options.node_name = config.node_name;
  node_options.node_ips = config.node_ips.empty() ? FindNodeIps() : config.node_ips;
  node_options.labels = config.labels;
  node_options.state_dir = config.state_dir;
  node_options.agent_version = kVersion;
  node_options.max_pods = config.max_pods;
  context.node_name = config.node_name;
  context.host_ips = node_options.node_ips;
  network->SetNodeAddresses(context.host_ips);
  context.cgroup_root = config.cgroup_root;
  context.cgroup_v2 = PathExists("/sys/fs/cgroup/cgroup.controllers");
  context.state_dir = config.state_dir;
  context.log_dir = config.pod_logs_dir;
  context.memory_capacity_bytes = facts.memory_bytes;
  context.allocatable_milli_cpu = facts.milli_cpu;
  context.allocatable_memory_bytes = facts.memory_bytes;
  cgroups = TRY(OpenPodCgroups());
  TRY(cgroups->Create(QosCgroup(QosClass::kBestEffort, context), {}));
  events = std::make_unique<EventRecorder>(config.node_name, Clock::Real(),
                                           [this](const core::Event& event) {
                                             if (link != nullptr) link->ReportEvent(event);
                                           });
  pod_deps = std::make_unique<PodDeps>(
      PodDeps{loop, blocking, pulls, *cri, volumes, *probes, *events, *desired, *cgroups, id_ranges,
              [this] { return Context(); }, runtime_name, config.container_logs_dir,
              [this](const core::Pod& pod, const core::PodStatus& status) {
                if (link != nullptr) link->ReportPod(pod, status);
              },
              [this](const core::Pod& pod) {
                if (link != nullptr) link->ReportGone(pod);
              },
              network->traffic()});
  workers = std::make_unique<PodWorkers>(*pod_deps);
  if (!config.server.empty()) {
    link = NodeLink::Make({config.server, config.node_name, config.token, config.ca_hash,
                           config.ca_file, config.state_dir + "/pki", kVersion},
                          MakeCallbacks());
    tunnels = std::make_unique<Tunnels>(
        TunnelDeps{*workers, *cri, *link, tunnel_pool, io, config.pod_logs_dir,
                   config.runtime_endpoint.empty() ? streaming::ClientTransport::kWebSocket
                                                   : streaming::ClientTransport::kSpdy});
  }
  workers->StartWatching();
  if (desired->complete() && link != nullptr) {
    // Cut off or not: what was wanted last is wanted until we are told otherwise.
    log::Info("going on with the desired state on disk", {{"pods", desired->Pods().size()}});
    ApplyWelcome();
    DesiredChange all;
    all.full = true;
    all.changed = desired->Keys();
    ApplyChange(all);
  }
  return {};
}

void Agent::Parts::StartLink() {
  ObserveNode(false);
  if (link != nullptr) link->Start();
}

LinkCallbacks Agent::Parts::MakeCallbacks() {
  LinkCallbacks callbacks;
  callbacks.hello = [this](node_link::Hello* hello) {
    hello->set_boot_id(facts.boot_id);
    hello->set_resume_revision(desired->resume_revision());
    NodeHealth health = ObserveHealth(*cri, config.state_dir);
    std::lock_guard lock(mutex);
    core::Node node = MakeNode(node_options, facts, health, nullptr, Clock::Real().WallNow());
    hello->set_node(node.SerializeAsString());
  };
  callbacks.on_message = [this](const node_link::ControlMessage& message) {
    auto change = desired->Apply(message);
    if (message.has_welcome()) ApplyWelcome();
    if (change) ApplyChange(*change);
    SyncDesired();
  };
  callbacks.on_tunnel = [this](const node_link::TunnelRequest& request) {
    tunnels->Handle(request);
  };
  callbacks.on_connected = [this](bool up) {
    if (!up) return;
    workers->RepeatReports();
    blocking.Post([this] { ObserveNode(true); });
  };
  return callbacks;
}

// Beside the link, whose next messages are not to wait for the disk; one sync serves many of them.
void Agent::Parts::SyncDesired() {
  if (!desired->sync_due() || sync_posted.exchange(true)) return;
  blocking.Post([this] {
    sync_posted = false;
    desired->Sync();
  });
}

void Agent::Parts::ApplyWelcome() {
  auto welcome = desired->welcome();
  const auto& settings = welcome->settings();
  if (!settings.cluster_cidrs().empty()) OrderAddresses(settings.cluster_cidrs(0));
  {
    std::lock_guard lock(mutex);
    if (!settings.cluster_domain().empty()) context.cluster_domain = settings.cluster_domain();
    context.cluster_dns = ToVector(settings.cluster_dns());
  }
  if (runtime != nullptr && !welcome->pod_cidrs().empty()) {
    auto set =
        runtime->SetPodCidrs(ToVector(welcome->pod_cidrs()), ToVector(settings.cluster_cidrs()));
    if (!set.ok()) {
      log::Error("cannot set the pods' addresses; new pods get no network",
                 {{"error", set.error()}});
    }
  }
  network->ApplyWelcome(*welcome);
}

void Agent::Parts::ApplyChange(const DesiredChange& change) {
  network->ApplyChange(*desired, change);
  bool pods = change.full;
  for (const auto* keys : {&change.changed, &change.deleted}) {
    for (const ObjectKey& key : *keys) pods = pods || key.kind == "Pod";
  }
  if (pods) {
    std::vector<PodPtr> wanted = desired->Pods();
    ShareCpu(wanted);
    workers->SetDesired(wanted);
  }
  for (const auto* keys : {&change.changed, &change.deleted}) {
    for (const ObjectKey& key : *keys) {
      if (key.kind == "ConfigMap" || key.kind == "Secret") {
        workers->ObjectChanged(key.kind, key.name_space, key.name);
      }
    }
  }
}

// Burstable pods together have the weight that they ask for together; guaranteed pods stand beside
// them, each with its own.
void Agent::Parts::ShareCpu(const std::vector<PodPtr>& pods) {
  int64_t milli = 0;
  for (const PodPtr& pod : pods) {
    if (QosOf(*pod) == QosClass::kBurstable) milli += PodCpuRequestMilli(*pod);
  }
  PodLimits limits;
  limits.cpu_shares = MilliCpuToShares(milli);
  if (std::exchange(burstable_shares, limits.cpu_shares) == limits.cpu_shares) return;
  blocking.Post([this, limits] {
    auto set = cgroups->Create(QosCgroup(QosClass::kBurstable, Context()), limits);
    if (!set.ok()) {
      log::Warning("cannot set the CPU weight of burstable pods", {{"error", set.error()}});
    }
  });
}

// Addresses come and go: at boot, the agent may start before the network does.
void Agent::Parts::ObserveAddresses() {
  if (!config.node_ips.empty()) return;
  std::vector<std::string> found = FindNodeIps();
  {
    std::lock_guard lock(mutex);
    if (primary) found = OrderByFamily(std::move(found), *primary);
    // A node cut off from its network keeps the address it is known by.
    if (found == context.host_ips || found.front() == "127.0.0.1") return;
    node_options.node_ips = context.host_ips = found;
  }
  network->SetNodeAddresses(found);
  if (workers != nullptr) workers->WakeAll();
}

void Agent::Parts::TellOverlay(const OverlayState& state) {
  {
    std::lock_guard lock(mutex);
    node_options.pod_mtu = state.mtu;
    node_options.wireguard_key = state.wireguard_key;
    node_options.overlay = {state.health.degraded, state.health.reason, state.health.message};
  }
  ObserveNode(true);
}

// The node's first address is of the family that pods have first. Where addresses are configured,
// so is their order.
void Agent::Parts::OrderAddresses(const std::string& primary_range) {
  auto range = net::IpPrefix::Parse(primary_range);
  if (!range.ok() || !config.node_ips.empty()) return;
  std::vector<std::string> ordered;
  {
    std::lock_guard lock(mutex);
    primary = range->family();
    ordered = OrderByFamily(context.host_ips, *primary);
    if (ordered == context.host_ips) return;
    node_options.node_ips = context.host_ips = ordered;
  }
  network->SetNodeAddresses(ordered);
  if (link != nullptr) blocking.Post([this] { ObserveNode(true); });
}

void Agent::Parts::ObserveNode(bool repeat) {
  ObserveAddresses();
  NodeHealth health = ObserveHealth(*cri, config.state_dir);
  runtime_ready = health.runtime_ready;
  SteadyTime now = Clock::Real().Now();
  std::optional<core::Node> report;
  {
    std::lock_guard lock(mutex);
    core::Node node = MakeNode(node_options, facts, health,
                               reported_node ? &*reported_node : nullptr, Clock::Real().WallNow());
    bool news = repeat || !reported_node || NodeDiffers(node, *reported_node) ||
                now - reported_at > kNodeReportPeriod;
    if (news) {
      reported_node = node;
      reported_at = now;
      report = std::move(node);
    }
  }
  if (report && link != nullptr) link->ReportNode(*report);
  if (!repeat) {
    loop.PostAfter(kHealthPeriod, [this] {
      blocking.Post([this] {
        ObserveNode(false);
        TrimHeap();
      });
    });
  }
}

Agent::Agent(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Agent::~Agent() {
  Parts& parts = *parts_;
  // Who calls goes before who is called: first what comes from outside, then the pools.
  parts.health_server.reset();
  if (parts.link != nullptr) parts.link->Stop();
  parts.tunnel_pool.Stop();
  parts.workers.reset();
  parts.pulls.Stop();
  parts.blocking.Stop();
  parts.loop.Stop();
  if (parts.runtime != nullptr) parts.runtime->OnNetworkChange(nullptr);
  parts.network.reset();
  parts.tunnels.reset();
  parts.link.reset();
  parts.probes.reset();
  parts.cri.reset();
  parts.runtime.reset();
}

Result<std::unique_ptr<Agent>> Agent::Start(const AgentConfig& config) {
  auto agent = std::unique_ptr<Agent>(new Agent(std::make_unique<Parts>(config)));
  Parts& parts = *agent->parts_;
  TRY(parts.StartRuntime().With("start the runtime"));
  TRY(parts.StartPods());
  if (!config.health_address.empty()) {
    auto server = StartHealthServer(
        config.health_address,
        [&parts] {
          return HealthFacts{parts.link != nullptr && parts.link->connected(), parts.runtime_ready,
                             parts.workers->size(), parts.network->ReadMetrics()};
        },
        parts.loop);
    // Another agent on this machine may have the port: no reason to run no pods.
    if (server.ok()) {
      parts.health_server = *std::move(server);
    } else {
      log::Warning("no health endpoint; going on without", {{"error", server.error()}});
    }
  }
  parts.StartLink();
  return agent;
}

Result<> ResetNode(const AgentConfig& config, bool keep_state) {
  auto iptables = TRY(net::SystemIptables::Open());
  net::SystemConntrack conntrack;
  {
    auto runtime = TRY(BuiltinRuntime::Start(config, *iptables, conntrack));
    TRY(runtime->RemoveAll());
  }
  net::SystemNft nft;
  TRY(RemoveNodeNetwork(config, *iptables, nft));
  PodVolumes volumes(Mounter::Kernel());
  std::string pods = config.state_dir + "/pods";
  if (PathExists(pods)) {
    for (const std::string& uid : TRY(ListDirectory(pods))) TRY(volumes.Release(pods + "/" + uid));
  }
  TRY(RemoveEmptyPodCgroups(config.cgroup_root, config.default_cgroup_parent));
  // What it was told to run, it is not to run again.
  TRY(RemoveTree(config.state_dir + "/agent"));
  for (const char* part : {"/cri", "/network", "/runtime"}) {
    TRY(RemoveTree(config.run_dir + part));
  }
  if (keep_state) return {};
  Result<> removed = RemoveTree(config.state_dir);
  // A disk of its own stays mounted, with nothing on it.
  const bool emptied = ListDirectory(config.state_dir).value_or({"?"}).empty();
  return removed.ok() || emptied ? Result<>() : removed;
}

}  // namespace skiff::agent
