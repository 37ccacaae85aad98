#include "agent/policy/enforcer.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <set>

#include "agent/policy/members.h"
#include "agent/policy/plan.h"
#include "agent/policy/rule_writer.h"
#include "base/log.h"
#include "base/net/families.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent::policy {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr nanoseconds kFirstRetry = milliseconds(200);
constexpr nanoseconds kLongestRetry = seconds(10);
// How long the rules of the run before are left alone for pods that nobody has looked at yet.
constexpr nanoseconds kPatience = seconds(3);
// How long rules that another program removed are missing, at most.
constexpr nanoseconds kFlushCheck = seconds(5);

std::vector<net::IpAddress> ParseAddresses(const std::vector<std::string>& texts) {
  std::vector<net::IpAddress> addresses;
  for (const std::string& text : texts) {
    if (auto address = net::IpAddress::Parse(text); address.ok()) addresses.push_back(*address);
  }
  std::sort(addresses.begin(), addresses.end());
  return addresses;
}

}  // namespace

// All but construction, GetStatus and Stop happens on the strand.
class PolicyEnforcer::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(Executor& blocking, net::Nft& nft) : strand_(blocking), writer_(nft) {}

  template <class Work>
  void Post(Work work) {
    strand_.Post([self = weak_from_this(), work = std::move(work)]() mutable {
      if (auto impl = self.lock(); impl && !impl->stopped_) work(*impl);
    });
  }
  // Waits for what runs; nothing runs afterwards.
  void Stop() {
    std::lock_guard lock(running_);
    stopped_ = true;
  }

  void Start() {
    unknown_ = writer_.ReadIsolated();
    patient_until_ = strand_.clock().Now() + kPatience;
    strand_.PostAfter(kPatience, [weak = weak_from_this()] {
      if (auto impl = weak.lock()) impl->WriteSoon();
    });
    WatchOver();
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
    std::lock_guard lock(status_mutex_);
    return status_;
  }

 private:
  struct Entry {
    LocalPod pod;
    uint64_t since = 0;  // orders pods by when they got their addresses
  };

  void Looked(const std::string& uid);
  // After what else is posted already: changes that come together are written together.
  void WriteSoon() {
    if (std::exchange(write_posted_, true)) return;
    Post([](Impl& impl) { impl.Write(); });
  }
  void Write();
  std::array<TablePlan, 2> Plan() const;
  void Failed(const Error& error);
  void WatchOver();

  Strand strand_;
  std::mutex running_;  // held while a write runs, so that Stop can wait for it
  std::atomic<bool> stopped_ = false;

  Policies policies_;
  MemberSets members_;
  std::map<std::string, Entry> pods_;  // by uid
  uint64_t last_since_ = 0;
  // Pods wanted at first that nobody has looked at yet; none: not told yet.
  std::optional<std::set<std::string>> unseen_;
  RuleWriter::Isolated unknown_;  // isolated by the run before
  SteadyTime patient_until_;

  RuleWriter writer_;
  bool write_posted_ = false;
  std::map<std::string, std::set<Member>> touched_;  // of writes that failed
  nanoseconds retry_{0};
  std::vector<std::function<void(Result<>)>> waiting_;

  mutable std::mutex status_mutex_;
  Status status_;
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

void PolicyEnforcer::Impl::Write() {
  write_posted_ = false;
  std::unique_lock running(running_);
  if (stopped_) return;
  bool all_seen = unseen_ && unseen_->empty();
  if (!all_seen && strand_.clock().Now() < patient_until_) return;
  if (all_seen) unknown_ = {};
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
  {
    std::lock_guard lock(status_mutex_);
    status_.last_error.reset();
    status_.isolated_pods = isolated;
    status_.last_operations = writer_.last_operations();
    if (written.ok()) {
      ++status_.writes;
    } else {
      status_.last_error = written.error();
    }
  }
  running.unlock();  // a callback may end the enforcer
  auto waiting = std::exchange(waiting_, {});
  if (written.ok()) {
    retry_ = nanoseconds(0);
    touched_.clear();
  } else {
    Failed(written.error());
  }
  for (auto& done : waiting) done(written);
}

void PolicyEnforcer::Impl::Failed(const Error& error) {
  retry_ = std::clamp(retry_ * 2, kFirstRetry, kLongestRetry);
  log::Warning("rules of network policies not written, retrying",
               {{"error", error}, {"retry_ms", retry_ / milliseconds(1)}});
  strand_.PostAfter(retry_, [weak = weak_from_this()] {
    if (auto impl = weak.lock()) impl->WriteSoon();
  });
}

void PolicyEnforcer::Impl::WatchOver() {
  strand_.PostAfter(kFlushCheck, [weak = weak_from_this()] {
    auto impl = weak.lock();
    if (impl == nullptr) return;
    {
      std::lock_guard running(impl->running_);
      if (impl->stopped_) return;
      if (impl->writer_.CheckForFlush()) {
        log::Warning("rules of network policies were removed, writing them again");
        std::lock_guard lock(impl->status_mutex_);
        ++impl->status_.repairs;
        impl->WriteSoon();
      }
    }
    impl->WatchOver();
  });
}

PolicyEnforcer::PolicyEnforcer(Executor& blocking, net::Nft& nft)
    : impl_(std::make_shared<Impl>(blocking, nft)) {
  impl_->Post([](Impl& impl) { impl.Start(); });
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
