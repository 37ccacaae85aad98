#include "agent/proxy/proxy.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <span>

#include "agent/proxy/flows.h"
#include "agent/proxy/health_ports.h"
#include "agent/proxy/iptables_writer.h"
#include "agent/proxy/model.h"
#include "agent/proxy/nft_writer.h"
#include "agent/proxy/plan.h"
#include "agent/proxy/rule_set.h"
#include "agent/proxy/rule_writer.h"
#include "base/async/write_loop.h"
#include "base/log.h"
#include "base/net/conntrack.h"
#include "base/net/families.h"
#include "base/net/iptables.h"
#include "base/net/netns.h"
#include "base/net/nft.h"
#include "base/net/rtnl.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"

namespace skiff::agent::proxy {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr nanoseconds kFullSync = std::chrono::hours(1);

WriteLoop::Timing LoopTiming(const Config& config) {
  return {.shortest_batch = milliseconds(3),
          .longest_batch = seconds(1),
          .first_retry = milliseconds(500),
          .longest_retry = seconds(30),
          .look = config.flush_check};
}

PlanContext MakeContext(const Config& config, net::IpFamily family) {
  char mark[16];
  snprintf(mark, sizeof mark, "0x%x", 1u << config.masquerade_bit);
  PlanContext context{.family = family,
                      .masquerade_all = config.masquerade_all,
                      .mark = mark,
                      .nodeport_addresses = config.nodeport_addresses,
                      .localhost_nodeports = config.localhost_nodeports};
  for (const net::IpPrefix& cidr : config.cluster_cidrs) {
    if (cidr.family() == family) context.cluster_cidr = cidr;
  }
  return context;
}

std::vector<PlanContext> MakeContexts(const Config& config) {
  std::vector<PlanContext> contexts;
  for (net::IpFamily family : net::kIpFamilies) contexts.push_back(MakeContext(config, family));
  return contexts;
}

Result<std::unique_ptr<RuleWriter>> MakeWriter(const Config& config, const Deps& deps) {
  if (config.mode == Mode::kNftables) return TRY(NftWriter::Make(MakeContexts(config), *deps.nft));
  return std::make_unique<IptablesWriter>(MakeContexts(config), deps.iptables);
}

}  // namespace

// All but the constructor, Start, GetStatus, the place and destruction happens in the loop.
class ServiceProxy::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(Config config, Deps deps, std::unique_ptr<RuleWriter> writer)
      : config_(std::move(config)),
        deps_(deps),
        writer_(std::move(writer)),
        loop_(deps.blocking, LoopTiming(config_)),
        place_{.node = config_.node_name, .zone = {}} {
    if (config_.health_ports) {
      health_ports_.emplace(
          HealthPorts::Deps{deps_.blocking, [healthy = healthy_] { return healthy->load(); },
                            config_.health_address, config_.on_health_port_failure});
    }
  }

  void Start();
  // Runs the work in the loop, if the proxy is still wanted then.
  template <class Work>
  void Post(Work work) {
    loop_.Post([this, work = std::move(work)] { work(*this); });
  }
  // Waits for what runs; nothing runs afterwards.
  void Stop() {
    watch_.reset();
    loop_.Stop();
  }

  void BeginReplace() {
    replacing_ = true;
    seen_services_.clear();
    seen_slices_.clear();
  }
  void SyncDone();
  void SetService(const ObjectKey& key, std::optional<Service> service);
  void SetSlice(const ObjectKey& key, std::optional<Slice> slice);
  void WhenSynced(Closure done) {
    if (started_ && dirty_.empty() && !full_sync_due_) return done();
    waiting_.push_back(std::move(done));
  }
  Status GetStatus() const;
  void SetZone(std::string zone) {
    std::lock_guard lock(place_mutex_);
    place_.zone = std::move(zone);
  }
  Place GetPlace() const {
    std::lock_guard lock(place_mutex_);
    return place_;
  }

 private:
  void MarkDirty(const ObjectKey& service) {
    dirty_.insert(service);
    Schedule();
  }
  void Schedule();
  void NotePending();
  Result<> Write();
  void Written(const Result<>& result);
  Result<> Sync();
  void RemoveOtherMode();
  void FlushStaleFlows(const UdpTargets& targets);
  void ShowHealth(const std::vector<Change>& changes, bool full);
  void DropUnseen();
  std::shared_ptr<const ServiceState> MakeState(const ObjectKey& key) const;
  std::vector<Change> CollectChanges();
  void Count(const std::vector<Change>& changes, bool full);
  bool IsDamaged();

  const Config config_;
  const Deps deps_;
  const std::unique_ptr<RuleWriter> writer_;
  WriteLoop loop_;
  std::unique_ptr<net::NftWatch> watch_;  // null: no events, only looks

  // What was told.
  std::map<ObjectKey, Service> services_;
  std::map<ObjectKey, Slice> slices_;
  std::map<ObjectKey, std::set<ObjectKey>> slices_of_;
  bool replacing_ = false;
  std::set<ObjectKey> seen_services_, seen_slices_;

  // What is in force, and what is to be.
  bool started_ = false;
  States applied_;
  std::set<ObjectKey> dirty_;
  bool full_sync_due_ = true;
  bool other_mode_removed_ = false;
  SteadyTime last_full_{};
  std::vector<Closure> waiting_;
  // Shared with the answers under way.
  const std::shared_ptr<std::atomic<bool>> healthy_ = std::make_shared<std::atomic<bool>>(true);
  std::optional<HealthPorts> health_ports_;

  mutable std::mutex status_mutex_;
  Status status_;
  std::optional<SteadyTime> pending_since_;
  mutable std::mutex place_mutex_;
  Place place_;
};

void ServiceProxy::Impl::SetService(const ObjectKey& key, std::optional<Service> service) {
  if (replacing_) seen_services_.insert(key);
  auto found = services_.find(key);
  if (!service) {
    if (found == services_.end()) return;
    services_.erase(found);
  } else if (found == services_.end()) {
    services_.emplace(key, *std::move(service));
  } else if (found->second == *service) {
    return;
  } else {
    found->second = *std::move(service);
  }
  MarkDirty(key);
}

void ServiceProxy::Impl::SetSlice(const ObjectKey& key, std::optional<Slice> slice) {
  if (replacing_) seen_slices_.insert(key);
  auto found = slices_.find(key);
  if (found != slices_.end()) {
    if (slice && found->second == *slice) return;
    ObjectKey former = found->second.service;
    auto index = slices_of_.find(former);
    index->second.erase(key);
    if (index->second.empty()) slices_of_.erase(index);
    slices_.erase(found);
    MarkDirty(former);
  }
  if (!slice) return;
  slices_of_[slice->service].insert(key);
  MarkDirty(slice->service);
  slices_.emplace(key, *std::move(slice));
}

void ServiceProxy::Impl::DropUnseen() {
  std::vector<ObjectKey> gone;
  for (const auto& [key, service] : services_) {
    if (!seen_services_.contains(key)) gone.push_back(key);
  }
  for (const ObjectKey& key : std::exchange(gone, {})) SetService(key, std::nullopt);
  for (const auto& [key, slice] : slices_) {
    if (!seen_slices_.contains(key)) gone.push_back(key);
  }
  for (const ObjectKey& key : gone) SetSlice(key, std::nullopt);
}

void ServiceProxy::Impl::SyncDone() {
  if (std::exchange(replacing_, false)) DropUnseen();
  seen_services_.clear();
  seen_slices_.clear();
  if (started_) return;
  started_ = true;
  Schedule();
}

void ServiceProxy::Impl::Start() {
  loop_.Start(weak_from_this(), {.write = [this] { return Write(); },
                                 .written = [this](const Result<>& result) { Written(result); },
                                 .damaged = [this] { return IsDamaged(); }});
  if (config_.mode != Mode::kNftables) return;
  auto watch = deps_.nft->Watch([this] { loop_.LookSoon(); });
  if (watch.ok()) {
    watch_ = *std::move(watch);
  } else {
    log::Warning("no events of nftables, looking for damage from time to time",
                 {{"error", watch.error()}});
  }
}

void ServiceProxy::Impl::Schedule() {
  if (!started_) return;
  NotePending();
  loop_.WriteSoon();
}

Status ServiceProxy::Impl::GetStatus() const {
  const WriteLoop::Status writes = loop_.GetStatus();
  std::lock_guard lock(status_mutex_);
  Status status = status_;
  status.last_error = writes.last_error;
  status.syncs = writes.writes;
  status.failures = writes.failures;
  status.repairs = writes.repairs;
  status.last_duration = writes.last_duration;
  if (pending_since_) status.pending = loop_.clock().Now() - *pending_since_;
  return status;
}

std::shared_ptr<const ServiceState> ServiceProxy::Impl::MakeState(const ObjectKey& key) const {
  auto service = services_.find(key);
  if (service == services_.end()) return nullptr;
  auto state = std::make_shared<ServiceState>();
  state->service = service->second;
  auto slices = slices_of_.find(key);
  if (slices == slices_of_.end()) return state;
  for (const ObjectKey& slice : slices->second) {
    for (const auto& [port, endpoints] : slices_.at(slice).endpoints) {
      auto& all = state->endpoints[port];
      all.insert(all.end(), endpoints.begin(), endpoints.end());
    }
  }
  for (auto& [port, endpoints] : state->endpoints) std::sort(endpoints.begin(), endpoints.end());
  return state;
}

std::vector<Change> ServiceProxy::Impl::CollectChanges() {
  std::vector<Change> changes;
  for (const ObjectKey& key : dirty_) {
    auto applied = applied_.find(key);
    Change change{.key = key,
                  .before = applied == applied_.end() ? nullptr : applied->second,
                  .after = MakeState(key)};
    bool same = change.before == nullptr || change.after == nullptr
                    ? change.before == change.after
                    : *change.before == *change.after;
    if (!same) changes.push_back(std::move(change));
  }
  return changes;
}

Result<> ServiceProxy::Impl::Write() {
  Result<> result = Sync();
  // Where it failed, what is in force is not known any more; everything is written again.
  if (!result.ok()) full_sync_due_ = true;
  *healthy_ = result.ok();
  std::lock_guard lock(status_mutex_);
  status_.synced = result.ok();
  if (result.ok()) {
    pending_since_.reset();
    status_.last_updated = loop_.clock().WallNow();
  }
  return result;
}

void ServiceProxy::Impl::NotePending() {
  std::lock_guard lock(status_mutex_);
  status_.synced = false;
  if (!pending_since_) pending_since_ = loop_.clock().Now();
}

void ServiceProxy::Impl::Written(const Result<>& result) {
  if (!result.ok()) {
    log::Warning("service rules not written, trying again", {{"error", result.error()}});
    return;
  }
  for (Closure& done : std::exchange(waiting_, {})) done();
}

Result<> ServiceProxy::Impl::Sync() {
  const bool full = full_sync_due_;
  const std::vector<Change> changes = CollectChanges();
  UdpTargets targets;
  for (const Change& change : changes) {
    if (!CanLeaveStaleFlows(change.before.get(), change.after.get())) continue;
    if (change.before) targets.AddFormer(*change.before);
    if (change.after) targets.AddCurrent(*change.after);
  }
  if (full) {
    for (const Change& change : changes) {
      if (change.after) {
        applied_[change.key] = change.after;
      } else {
        applied_.erase(change.key);
      }
    }
    targets.AddFormer(TRY(writer_->WriteAll(applied_)));
    RemoveOtherMode();
    for (const auto& [key, state] : applied_) targets.AddCurrent(*state);
    full_sync_due_ = false;
    last_full_ = loop_.clock().Now();
  } else {
    TRY(writer_->WriteChanges(changes, applied_));
  }
  // Where a write failed they stay: what was adopted already is no change when they are looked at
  // again.
  dirty_.clear();
  Count(changes, full);
  FlushStaleFlows(targets);
  ShowHealth(changes, full);
  return {};
}

// Once the rules of this mode are in force: traffic is served all the while. A failure takes
// nothing away from them; it is tried again.
void ServiceProxy::Impl::RemoveOtherMode() {
  if (other_mode_removed_) return;
  Result<> removed;
  if (config_.mode == Mode::kNftables) {
    removed = RemoveAllRules(deps_.iptables);
  } else if (deps_.nft != nullptr) {
    removed = RemoveAllRules(*deps_.nft);
  }
  other_mode_removed_ = removed.ok();
  if (!removed.ok()) {
    log::Warning("service rules of the other mode were not removed, trying again",
                 {{"error", removed.error()}});
  }
}

// By difference, except after a full write: planning everything would cost more than the change
// did.
void ServiceProxy::Impl::Count(const std::vector<Change>& changes, bool full) {
  uint64_t rules_count = 0, services = 0, endpoints = 0;
  auto add = [&](const ObjectKey& key, const ServiceState* state, bool gone) {
    if (state == nullptr) return;
    auto signed_count = [gone](size_t count) { return gone ? -uint64_t{count} : uint64_t{count}; };
    rules_count += signed_count(writer_->CountRules(key, state));
    services += signed_count(state->service.ports.size());
    for (const auto& [port, some] : state->endpoints) endpoints += signed_count(some.size());
  };
  if (full) {
    for (const auto& [key, state] : applied_) add(key, state.get(), /*gone=*/false);
  } else {
    for (const Change& change : changes) {
      add(change.key, change.before.get(), /*gone=*/true);
      add(change.key, change.after.get(), /*gone=*/false);
    }
  }
  std::lock_guard lock(status_mutex_);
  if (full) {
    ++status_.full_syncs;
    status_.rules = status_.services = status_.endpoints = 0;
  }
  status_.rules += rules_count;
  status_.services += services;
  status_.endpoints += endpoints;
}

void ServiceProxy::Impl::ShowHealth(const std::vector<Change>& changes, bool full) {
  if (!health_ports_) return;
  if (full) return health_ports_->Replace(applied_);
  for (const Change& change : changes) health_ports_->Set(change.key, change.after.get());
}

// A failure here leaves old connections where they were and does not undo the rules.
void ServiceProxy::Impl::FlushStaleFlows(const UdpTargets& targets) {
  for (net::IpFamily family : net::kIpFamilies) {
    if (targets.Empty(family)) continue;
    std::set<net::IpAddress> local;
    if (targets.HasNodePorts()) {
      auto rtnl = net::Rtnl::Open();
      auto addresses = rtnl.ok() ? rtnl->ListAddresses(family)
                                 : Result<std::vector<net::LinkAddress>>(rtnl.error());
      if (addresses.ok()) {
        for (const net::LinkAddress& address : *addresses) local.insert(address.address);
      }
    }
    auto flows = deps_.conntrack.List(family, net::kProtocolUdp, [&](const net::Flow& flow) {
      return targets.IsStale(flow, local);
    });
    Result<> result = flows.ok() ? Result<>() : Result<>(flows.error());
    uint64_t deleted = 0;
    for (size_t i = 0; result.ok() && i < flows->size(); ++i, ++deleted) {
      result = deps_.conntrack.Delete((*flows)[i]);
    }
    if (!result.ok()) {
      log::Warning("stale UDP connections kept, going on", {{"error", result.error()}});
    }
    std::lock_guard lock(status_mutex_);
    status_.stale_flows_deleted += deleted;
  }
}

// Another program may have emptied the tables ("iptables -F", a firewall's reload).
bool ServiceProxy::Impl::IsDamaged() {
  if (!started_ || full_sync_due_) return false;
  RemoveOtherMode();
  if (health_ports_) health_ports_->Retry();
  const bool old = loop_.clock().Now() - last_full_ >= kFullSync;
  full_sync_due_ = writer_->IsDamaged() || old;
  if (full_sync_due_) NotePending();
  return full_sync_due_;
}

Result<std::unique_ptr<ServiceProxy>> ServiceProxy::Start(Config config, Deps deps) {
  if (config.masquerade_bit < 0 || config.masquerade_bit > 31) {
    return Error(Code::kInvalidArgument, "the masquerade bit is 0 to 31");
  }
  if (config.mode == Mode::kNftables && deps.nft == nullptr) {
    return Error(Code::kInvalidArgument, "the nftables mode needs an Nft");
  }
  auto writer = TRY(MakeWriter(config, deps));
  if (config.localhost_nodeports &&
      (config.mode == Mode::kNftables || deps.iptables.Supports(net::IpFamily::kV4))) {
    TRY(net::WriteNetSysctl("ipv4/conf/all/route_localnet", "1", config.sysctl_root)
            .With("let node ports answer on 127.0.0.1"));
  }
  auto impl = std::make_shared<Impl>(std::move(config), deps, std::move(writer));
  impl->Start();
  return std::unique_ptr<ServiceProxy>(new ServiceProxy(std::move(impl)));
}

ServiceProxy::ServiceProxy(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
ServiceProxy::~ServiceProxy() { impl_->Stop(); }

void ServiceProxy::SetZone(std::string zone) { impl_->SetZone(std::move(zone)); }

void ServiceProxy::BeginReplace() {
  impl_->Post([](Impl& impl) { impl.BeginReplace(); });
}

void ServiceProxy::SyncDone() {
  impl_->Post([](Impl& impl) { impl.SyncDone(); });
}

void ServiceProxy::SetService(const k8s::core::v1::Service& service) {
  ObjectKey key{service.metadata().namespace_(), service.metadata().name()};
  impl_->Post([key = std::move(key), translated = TranslateService(service)](Impl& impl) {
    impl.SetService(key, translated);
  });
}

void ServiceProxy::DeleteService(std::string_view name_space, std::string_view name) {
  impl_->Post([key = ObjectKey{std::string(name_space), std::string(name)}](Impl& impl) {
    impl.SetService(key, std::nullopt);
  });
}

void ServiceProxy::SetEndpointSlice(const k8s::discovery::v1::EndpointSlice& slice) {
  ObjectKey key{slice.metadata().namespace_(), slice.metadata().name()};
  impl_->Post([key = std::move(key), translated = TranslateSlice(slice, impl_->GetPlace())](
                  Impl& impl) { impl.SetSlice(key, translated); });
}

void ServiceProxy::DeleteEndpointSlice(std::string_view name_space, std::string_view name) {
  impl_->Post([key = ObjectKey{std::string(name_space), std::string(name)}](Impl& impl) {
    impl.SetSlice(key, std::nullopt);
  });
}

Status ServiceProxy::GetStatus() const { return impl_->GetStatus(); }

void ServiceProxy::WhenSynced(Closure done) {
  impl_->Post([done = std::move(done)](Impl& impl) { impl.WhenSynced(done); });
}

Result<> CheckNftables(net::Nft& nft) {
  TRY(NftWriter::Make(MakeContexts({}), nft));
  return {};
}

}  // namespace skiff::agent::proxy
