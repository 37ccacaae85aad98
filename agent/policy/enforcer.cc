#include "agent/policy/enforcer.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <set>

#include "agent/policy/members.h"
#include "agent/policy/plan.h"
#include "agent/policy/rule_writer.h"
#include "base/async/write_loop.h"
#include "base/log.h"
#include "base/net/families.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent::policy {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr WriteLoop::Timing kLoopTiming{.first_retry = milliseconds(200),
                                        .longest_retry = seconds(10)};
// How long the rules of the run before are left alone for pods that nobody has looked at yet.
constexpr nanoseconds kPatience = seconds(3);

std::vector<net::IpAddress> ParseAddresses(const std::vector<std::string>& texts) {
  std::vector<net::IpAddress> addresses;
  for (const std::string& text : texts) {
    if (auto address = net::IpAddress::Parse(text); address.ok()) addresses.push_back(*address);
  }
  std::sort(addresses.begin(), addresses.end());
  return addresses;
}

}  // namespace

// All but construction, Start, GetStatus and Stop happens in the loop.
class PolicyEnforcer::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(Executor& blocking, net::Nft& nft) : nft_(nft), loop_(blocking, kLoopTiming), writer_(nft) {}

  template <class Work>
  void Post(Work work) {
    loop_.Post([this, work = std::make_shared<Work>(std::move(work))] { (*work)(*this); });
  }
  // Waits for what runs; nothing runs afterwards.
  void Stop() {
    watch_.reset();
    loop_.Stop();
  }

  void Start() {
    loop_.Start(weak_from_this(), {.write = [this] { return Write(); },
                                   .written = [this](const Result<>& result) { Written(result); },
                                   .damaged = [this] { return IsDamaged(); }});
    loop_.Post([this] {
      unknown_ = writer_.ReadIsolated();
      patient_until_ = loop_.clock().Now() + kPatience;
      loop_.PostAfter(kPatience, [this] { WriteSoon(); });
    });
    auto watch = nft_.Watch([this] { loop_.LookSoon(); });
    if (watch.ok()) {
      watch_ = *std::move(watch);
    } else {
      log::Warning("no events of nftables, looking for damage from time to time",
                   {{"error", watch.error()}});
    }
  }
  void Apply(Update update);
  void SetPods(const std::vector<PodPtr>& pods);
  void SetPod(PodPtr pod, std::vector<net::IpAddress> addresses);
  void Forget(const std::string& uid);
  void Wait(std::function<void(Result<>)> done) {
    waiting_.push_back(std::move(done));
    WriteSoon();
  }
  Status GetStatus() const {
    const WriteLoop::Status writes = loop_.GetStatus();
    std::lock_guard lock(status_mutex_);
    return {.last_error = writes.last_error,
            .writes = writes.writes,
            .failures = writes.failures,
            .repairs = writes.repairs,
            .isolated_pods = isolated_pods_,
            .last_operations = last_operations_};
  }

 private:
  struct Entry {
    LocalPod pod;
    uint64_t since = 0;  // orders pods by when they got their addresses
  };

  void Looked(const std::string& uid);
  bool AllSeen() const { return unseen_ && unseen_->empty(); }
  // After what else is posted already: changes that come together are written together. Pods wait
  // for it, so that a change does not wait for the time of a retry.
  void WriteSoon() {
    if (AllSeen() || loop_.clock().Now() >= patient_until_) loop_.WriteNow();
  }
  Result<> Write();
  void Written(const Result<>& result);
  bool IsDamaged();
  std::array<TablePlan, 2> Plan() const;

  net::Nft& nft_;
  WriteLoop loop_;
  std::unique_ptr<net::NftWatch> watch_;  // null: no events, only looks

  Policies policies_;
  MemberSets members_;
  std::map<std::string, Entry> pods_;  // by uid
  uint64_t last_since_ = 0;
  // Pods wanted at first that nobody has looked at yet; none: not told yet.
  std::optional<std::set<std::string>> unseen_;
  RuleWriter::Isolated unknown_;  // isolated by the run before
  SteadyTime patient_until_;

  RuleWriter writer_;
  std::map<std::string, std::set<Member>> touched_;  // of writes that failed
  std::vector<std::function<void(Result<>)>> waiting_;

  mutable std::mutex status_mutex_;
  size_t isolated_pods_ = 0, last_operations_ = 0;
};

void PolicyEnforcer::Impl::Apply(Update update) {
  if (update.full) {
    std::set<std::string> parts;
    for (const auto& [name, members] : update.parts) parts.insert(name);
    members_.KeepOnly(parts);
    std::erase_if(policies_,
                  [&](const auto& entry) { return !update.policies.contains(entry.first); });
  }
  for (auto& [key, policy] : update.policies) {
    if (policy) {
      policies_.insert_or_assign(key, *std::move(policy));
    } else {
      policies_.erase(key);
    }
  }
  for (auto& [name, members] : update.parts) members_.SetPart(name, std::move(members));
  WriteSoon();
}

void PolicyEnforcer::Impl::SetPods(const std::vector<PodPtr>& pods) {
  std::set<std::string> uids;
  for (const PodPtr& pod : pods) {
    uids.insert(pod->metadata().uid());
    auto present = pods_.find(pod->metadata().uid());
    if (present != pods_.end()) present->second.pod.pod = pod;
  }
  if (!unseen_) {
    unseen_ = uids;
    for (const auto& [uid, entry] : pods_) unseen_->erase(uid);
  }
  // Those that are wanted no more are looked at as well, but need not be waited for.
  std::erase_if(*unseen_, [&](const std::string& uid) { return !uids.contains(uid); });
  WriteSoon();
}

void PolicyEnforcer::Impl::Looked(const std::string& uid) {
  if (unseen_) unseen_->erase(uid);
}

void PolicyEnforcer::Impl::SetPod(PodPtr pod, std::vector<net::IpAddress> addresses) {
  const std::string uid = pod->metadata().uid();
  bool was_unseen = unseen_ && unseen_->contains(uid);
  Looked(uid);
  auto present = pods_.find(uid);
  if (present == pods_.end()) {
    if (addresses.empty() && !was_unseen) return;
    if (!addresses.empty()) {
      pods_[uid] = {{std::move(pod), std::move(addresses)}, ++last_since_};
    }
  } else {
    LocalPod& local = present->second.pod;
    if (local.pod == pod && local.addresses == addresses) return;
    if (local.addresses != addresses) present->second.since = ++last_since_;
    local = {std::move(pod), std::move(addresses)};
    if (local.addresses.empty()) pods_.erase(present);
  }
  WriteSoon();
}

void PolicyEnforcer::Impl::Forget(const std::string& uid) {
  Looked(uid);
  if (pods_.erase(uid) > 0) WriteSoon();
}

std::array<TablePlan, 2> PolicyEnforcer::Impl::Plan() const {
  PlanInput input;
  input.policies = &policies_;
  std::vector<const Entry*> entries;
  for (const auto& [uid, entry] : pods_) entries.push_back(&entry);
  std::sort(entries.begin(), entries.end(),
            [](const Entry* a, const Entry* b) { return a->since < b->since; });
  for (const Entry* entry : entries) input.pods.push_back(&entry->pod);
  input.unknown_ingress = unknown_.ingress;
  input.unknown_egress = unknown_.egress;
  return {PlanTable(net::IpFamily::kV4, input), PlanTable(net::IpFamily::kV6, input)};
}

Result<> PolicyEnforcer::Impl::Write() {
  if (AllSeen()) unknown_ = {};
  for (auto& [set, members] : members_.TakeTouched()) touched_[set].merge(members);
  std::array<TablePlan, 2> plans = Plan();
  size_t isolated = 0;
  for (const TablePlan& plan : plans) {
    std::set<net::nft::Bytes> keys;
    for (const char* map : {kIngressPods, kEgressPods}) {
      auto planned = plan.sets.find(map);
      if (planned == plan.sets.end()) continue;
      for (const auto& [key, element] : planned->second.elements) keys.insert(key);
    }
    isolated += keys.size();
  }
  Result<> written = writer_.Write(std::move(plans), members_, touched_);
  if (written.ok()) touched_.clear();
  std::lock_guard lock(status_mutex_);
  isolated_pods_ = isolated;
  last_operations_ = writer_.last_operations();
  return written;
}

// Who waits is told of a failure too: a pod does not start without its rules.
void PolicyEnforcer::Impl::Written(const Result<>& result) {
  if (!result.ok()) {
    log::Warning("rules of network policies not written, trying again",
                 {{"error", result.error()}});
  }
  for (auto& done : std::exchange(waiting_, {})) done(result);
}

bool PolicyEnforcer::Impl::IsDamaged() {
  const bool damaged = writer_.CheckForFlush();
  if (damaged) log::Warning("rules of network policies were removed, writing them again");
  return damaged;
}

PolicyEnforcer::PolicyEnforcer(Executor& blocking, net::Nft& nft)
    : impl_(std::make_shared<Impl>(blocking, nft)) {
  impl_->Start();
}
PolicyEnforcer::~PolicyEnforcer() { impl_->Stop(); }

void PolicyEnforcer::Apply(Update update) {
  impl_->Post([update = std::move(update)](Impl& impl) mutable { impl.Apply(std::move(update)); });
}

void PolicyEnforcer::SetPods(std::vector<PodPtr> pods) {
  impl_->Post([pods = std::move(pods)](Impl& impl) { impl.SetPods(pods); });
}

void PolicyEnforcer::Admit(PodPtr pod, std::vector<std::string> addresses,
                           std::function<void(Result<>)> done) {
  impl_->Post([pod = std::move(pod), addresses = ParseAddresses(addresses),
               done = std::move(done)](Impl& impl) mutable {
    impl.SetPod(std::move(pod), std::move(addresses));
    impl.Wait(std::move(done));
  });
}

void PolicyEnforcer::Observe(PodPtr pod, std::vector<std::string> addresses) {
  impl_->Post([pod = std::move(pod), addresses = ParseAddresses(addresses)](Impl& impl) mutable {
    impl.SetPod(std::move(pod), std::move(addresses));
  });
}

void PolicyEnforcer::Forget(const std::string& uid) {
  impl_->Post([uid](Impl& impl) { impl.Forget(uid); });
}

void PolicyEnforcer::WhenApplied(Closure done) {
  impl_->Post([done = std::move(done)](Impl& impl) mutable {
    impl.Wait([done = std::move(done)](Result<>) { done(); });
  });
}

Status PolicyEnforcer::GetStatus() const { return impl_->GetStatus(); }

}  // namespace skiff::agent::policy
