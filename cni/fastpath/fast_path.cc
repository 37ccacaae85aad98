#include "cni/fastpath/fast_path.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>

#include "base/async/write_loop.h"
#include "base/log.h"
#include "cni/fastpath/maps.h"
#include "cni/fastpath/tracking.h"

namespace skiff::cni {
namespace {

net::nft::Rule MarkingRule(const std::string& link) {
  using net::nft::Source;
  return {kFastPathChain,
          net::nft::Body()
              .Is(Source::OutName(), net::nft::Key().Interface(link))
              .HasAny({Source::CtState()}, net::nft::kStateEstablished)
              .HasNone({Source::CtStatus()}, net::nft::kStatusSnat | net::nft::kStatusDnat)
              .SetMarkBits(SKIFF_FAST_MARK),
          "may take the fast path"};
}

}  // namespace

net::nft::Transaction PlanFastPathRules(const std::vector<std::string>& links) {
  net::nft::Transaction change(FastPathTable());
  // Added first, so that there is one to delete.
  change.AddTable().DeleteTable().AddTable();
  change.AddChain({.name = kFastPathChain,
                   .base = net::nft::BaseChain{.hook = net::nft::Hook::kForward,
                                               .priority = kFastPathPriority}});
  for (const std::string& link : links) change.AddRule(MarkingRule(link));
  return change;
}

Result<> RemoveFastPath(net::Nft& nft, const FastPathConfig& config) {
  TRY(net::RemoveTable(nft, FastPathTable()).With("remove the rules of the fast path"));
  return RestoreTracking(config.record, config.sysctl_root)
      .With("restore connection tracking as it was");
}

// What is not said to be of any thread happens in the loop.
class FastPath::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(Executor& blocking, net::Nft& nft, std::unique_ptr<FastPathKernel> kernel,
       FastPathConfig config)
      : config_(std::move(config)),
        nft_(nft),
        kernel_(std::move(kernel)),
        loop_(blocking,
              {.shortest_batch = config_.delay,
               .longest_batch = std::max(config_.delay, WriteLoop::Timing().longest_batch)}) {}

  void Start() {
    loop_.Start(weak_from_this(), {.write = [this] { return Write(); },
                                   .written = [](const Result<>& result) { Written(result); },
                                   .damaged = [this] { return IsOutdated(); }});
    if (!config_.allowed) return;
    auto watch = nft_.Watch([this] { loop_.LookSoon(); });
    if (watch.ok()) watch_ = *std::move(watch);  // else it is looked at from time to time
  }
  void Stop() {
    watch_.reset();
    loop_.Stop();
  }

  // Any thread.
  void WriteSoon() {
    loop_.Post([this] { loop_.WriteSoon(); });
  }
  void SetWanted(bool wanted) {
    loop_.Post([this, wanted] {
      wanted_ = wanted;
      loop_.WriteSoon();
    });
  }
  void Recovered() {
    loop_.Post([this] {
      recovered_ = true;
      loop_.WriteSoon();  // also where there are no pods, but what an earlier process made
    });
  }
  void LinksChanged() { loop_.LookSoon(); }
  void Joined(const PodLink& pod) {
    {
      std::lock_guard lock(mutex_);
      pods_[pod.host_interface] = pod;
    }
    if (config_.allowed) WriteSoon();
  }
  void Leaves(const PodLink& pod) {
    std::lock_guard lock(mutex_);
    pods_.erase(pod.host_interface);
    loop_.Post([this, name = pod.host_interface, last = pods_.empty()] {
      attached_.erase(name);
      if (last) loop_.WriteSoon();
    });
    if (!loaded_) return;
    for (const net::IpAddress& address : pod.addresses) {
      if (auto done = kernel_->ForgetPod(address); !done.ok()) {
        log::Error("packets to a pod that went may be lost for a second",
                   {{"error", done.error()}});
      }
    }
  }
  uint64_t Taken() const {
    std::lock_guard lock(mutex_);
    return loaded_ ? kernel_->Taken().value_or(0) : 0;
  }

 private:
  bool IsWanted() const { return config_.allowed && wanted_ && !Pods().empty(); }
  Result<> Write();
  static void Written(const Result<>& result) {
    if (result.ok()) return;
    log::Warning("the fast path of pods' connections is not set up, trying again",
                 {{"error", result.error()}});
  }
  bool IsOutdated();
  Result<> TakeAway();
  Result<> RemoveAll();
  Result<> Load();
  Result<> AttachPods();
  Result<> AttachPod(const PodLink& pod);
  Result<> AttachOverlay();
  Result<> WriteRules();
  bool RulesAreInForce() const;
  std::vector<std::string> MarkedLinks() const;
  std::map<std::string, PodLink> Pods() const {
    std::lock_guard lock(mutex_);
    return pods_;
  }
  // Whether the error says that the kernel can do none of it, which is said once.
  bool IsUnable(const Result<>& result);

  const FastPathConfig config_;
  net::Nft& nft_;
  const std::unique_ptr<FastPathKernel> kernel_;
  WriteLoop loop_;
  std::unique_ptr<net::NftWatch> watch_;
  bool recovered_ = false;
  bool wanted_ = true;  // by the pod network
  bool able_ = true;
  bool clean_ = false;                   // no programs and rules of it are in the kernel
  std::map<std::string, int> attached_;  // links that run the programs, of pods and the overlay
  std::vector<std::string> marked_;      // links of the rules in force

  // Over what the kernel knows of pods, too: one that leaves is not told to it afterwards.
  mutable std::mutex mutex_;
  std::map<std::string, PodLink> pods_;  // by interface; all that are to be known
  bool loaded_ = false;
};

Result<> FastPath::Impl::TakeAway() {
  if (!clean_) TRY(RemoveAll());
  // Connections that took it are invalid to connection tracking otherwise.
  if (!Pods().empty()) return {};
  return RestoreTracking(config_.record, config_.sysctl_root);
}

Result<> FastPath::Impl::RemoveAll() {
  TRY(net::RemoveTable(nft_, FastPathTable()).With("remove the rules of the fast path"));
  TRY(kernel_->DetachAll(config_.bridge, config_.overlay_links));
  attached_.clear();
  marked_.clear();
  std::lock_guard lock(mutex_);
  if (std::exchange(loaded_, false)) kernel_->Unload();
  clean_ = true;
  return {};
}

bool FastPath::Impl::IsUnable(const Result<>& result) {
  if (result.ok() || result.error().code() != Code::kUnimplemented) return false;
  able_ = false;
  log::Info("every packet between pods takes the slow path through the node",
            {{"reason", result.error()}});
  return true;
}

Result<> FastPath::Impl::Load() {
  TRY(kernel_->Load());
  std::lock_guard lock(mutex_);
  loaded_ = true;
  return {};
}

Result<> FastPath::Impl::AttachPod(const PodLink& pod) {
  auto link = kernel_->Find(pod.host_interface);
  // On its way out.
  if (!link.ok())
    return link.error().code() == Code::kNotFound ? Result<>() : std::move(link).error();
  {
    std::lock_guard lock(mutex_);
    if (!pods_.contains(pod.host_interface)) return {};
    for (const net::IpAddress& address : pod.addresses) TRY(kernel_->SetPod(address, *link));
  }
  if (!pod.limited) {
    Result<> attached = kernel_->Attach(*link, FastPathKernel::Role::kPod);
    if (!attached.ok() && attached.error().code() == Code::kNotFound) return {};
    TRY(std::move(attached));
  }
  attached_[pod.host_interface] = *link;
  return {};
}

Result<> FastPath::Impl::AttachPods() {
  Result<> first;
  for (const auto& [host_interface, pod] : Pods()) {
    if (attached_.contains(host_interface)) continue;
    Result<> attached = AttachPod(pod).With("pod's link " + host_interface);
    if (first.ok() && !attached.ok()) first = std::move(attached);
  }
  return first;
}

Result<> FastPath::Impl::AttachOverlay() {
  for (const std::string& name : config_.overlay_links) {
    auto link = kernel_->Find(name);
    auto known = attached_.find(name);
    if (known != attached_.end() && link.ok() && *link == known->second) continue;
    if (known != attached_.end()) attached_.erase(known);
    if (!link.ok() && link.error().code() == Code::kNotFound) continue;
    const int index = TRY(std::move(link));
    TRY(kernel_->Attach(index, FastPathKernel::Role::kOverlay));
    attached_[name] = index;
  }
  return {};
}

// Those whose programs take the mark off again.
std::vector<std::string> FastPath::Impl::MarkedLinks() const {
  std::vector<std::string> links = {config_.bridge};
  for (const std::string& name : config_.overlay_links) {
    if (attached_.contains(name)) links.push_back(name);
  }
  return links;
}

bool FastPath::Impl::RulesAreInForce() const {
  auto rules = nft_.CountRules(FastPathTable(), kFastPathChain);
  return marked_ == MarkedLinks() && rules.ok() && *rules == marked_.size();
}

Result<> FastPath::Impl::WriteRules() {
  if (RulesAreInForce()) return {};
  std::vector<std::string> links = MarkedLinks();
  Result<> written = nft_.Commit(PlanFastPathRules(links)).With("write the rules of the fast path");
  if (!written.ok() && net::IsNoTable(written.error())) {
    return Error(Code::kUnimplemented, "no nftables: " + written.error().message());
  }
  TRY(std::move(written));
  marked_ = std::move(links);
  return {};
}

Result<> FastPath::Impl::Write() {
  if (!recovered_) return {};
  if (!IsWanted()) return TakeAway();
  if (!able_) return {};
  clean_ = false;
  auto write = [this]() -> Result<> {
    TRY(Load());
    TRY(AttachOverlay());
    TRY(AttachPods());
    TRY(LoosenTracking(config_.record, config_.sysctl_root));
    return WriteRules();  // last: from here on packets take it
  };
  Result<> written = write();
  // Not half of it: what an earlier process made, on a kernel that could, goes.
  return IsUnable(written) ? TakeAway() : written;
}

// Whether overlay links are others, or somebody else has taken away what was made.
bool FastPath::Impl::IsOutdated() {
  if (!IsWanted() || !able_ || attached_.empty()) return false;
  const auto pods = Pods();
  auto running = kernel_->Attached();
  if (!running.ok()) return false;
  bool outdated = std::erase_if(attached_, [&](const auto& link) {
                    auto pod = pods.find(link.first);
                    const bool limited = pod != pods.end() && pod->second.limited;
                    return !limited && !running->contains(link.second);
                  }) > 0;
  for (const std::string& name : config_.overlay_links) {
    auto link = kernel_->Find(name);
    outdated = outdated || (link.ok() && !attached_.contains(name));
  }
  return outdated || !RulesAreInForce();
}

FastPath::FastPath(Executor& blocking, net::Nft& nft, std::unique_ptr<FastPathKernel> kernel,
                   FastPathConfig config)
    : impl_(std::make_shared<Impl>(blocking, nft, std::move(kernel), std::move(config))) {
  impl_->Start();
}
FastPath::~FastPath() { impl_->Stop(); }

void FastPath::Joined(const PodLink& pod) { impl_->Joined(pod); }
void FastPath::Leaves(const PodLink& pod) { impl_->Leaves(pod); }
void FastPath::Recovered() { impl_->Recovered(); }
void FastPath::SetWanted(bool wanted) { impl_->SetWanted(wanted); }
void FastPath::LinksChanged() { impl_->LinksChanged(); }
uint64_t FastPath::Taken() const { return impl_->Taken(); }

}  // namespace skiff::cni
