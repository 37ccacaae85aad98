#include "cni/runner/node_pod_network.h"

#include <mutex>

#include "base/log.h"

namespace skiff::cni {

class NodePodNetwork::Impl {
 public:
  ~Impl() {
    if (plugins != nullptr) plugins->OnChange(nullptr);  // waits for a call under way
  }

  bool BuiltIn() const { return plugins == nullptr || !plugins->Configured(); }
  PodNetwork& InCharge() const {
    return BuiltIn() ? static_cast<PodNetwork&>(*bridge) : static_cast<PodNetwork&>(*plugins);
  }
  Result<> FitBridge();
  void Switched();
  Result<> SetPodCidrs(const std::vector<net::IpPrefix>& pods,
                       const std::vector<net::IpPrefix>& cluster);
  void OnChange(std::function<void(bool)> changed);

  std::unique_ptr<BridgeNetwork> bridge;
  std::unique_ptr<PluginNetwork> plugins;  // or null

 private:
  std::mutex mutex_;  // held over the bridge's changes, which are rare
  std::vector<net::IpPrefix> pod_cidrs_, cluster_cidrs_;
  bool bridge_set_up_ = false;  // for the CIDRs above
  bool bridge_left_ = true;     // it may be there, also from an earlier run
  std::mutex change_mutex_;
  std::function<void(bool)> changed_;
};

// The bridge is there while it is asked for or has pods.
Result<> NodePodNetwork::Impl::FitBridge() {
  std::lock_guard lock(mutex_);
  if (BuiltIn() || bridge->InUse()) {
    if (bridge_set_up_ || pod_cidrs_.empty()) return {};
    bridge_left_ = true;
    TRY(bridge->SetPodCidrs(pod_cidrs_, cluster_cidrs_));
    bridge_set_up_ = true;
  } else if (bridge_left_) {
    TRY(bridge->RemoveAll());
    bridge_set_up_ = bridge_left_ = false;
  }
  return {};
}

// The plugins' configuration has come or gone.
void NodePodNetwork::Impl::Switched() {
  if (auto fitted = FitBridge(); !fitted.ok()) {
    log::Warning("cannot switch between the built-in pod network and CNI plugins; trying on",
                 {{"error", fitted.error()}});
  }
  std::lock_guard lock(change_mutex_);
  if (changed_) changed_(BuiltIn());
}

void NodePodNetwork::Impl::OnChange(std::function<void(bool)> changed) {
  std::lock_guard lock(change_mutex_);
  changed_ = std::move(changed);
  if (changed_) changed_(BuiltIn());
}

Result<> NodePodNetwork::Impl::SetPodCidrs(const std::vector<net::IpPrefix>& pods,
                                           const std::vector<net::IpPrefix>& cluster) {
  if (plugins != nullptr) TRY(plugins->SetPodCidrs(pods, cluster));
  {
    std::lock_guard lock(mutex_);
    pod_cidrs_ = pods;
    cluster_cidrs_ = cluster;
    bridge_set_up_ = false;
  }
  return FitBridge();
}

NodePodNetwork::NodePodNetwork(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
NodePodNetwork::~NodePodNetwork() = default;

Result<std::unique_ptr<NodePodNetwork>> NodePodNetwork::Open(
    BridgeConfig bridge, std::optional<PluginNetworkConfig> plugins, net::Iptables& iptables,
    net::Conntrack& conntrack) {
  auto impl = std::make_unique<Impl>();
  impl->bridge = TRY(BridgeNetwork::Open(std::move(bridge), iptables, conntrack));
  if (plugins) {
    impl->plugins = TRY(PluginNetwork::Open(*std::move(plugins)));
    impl->plugins->OnChange([raw = impl.get()] { raw->Switched(); });
  }
  return std::unique_ptr<NodePodNetwork>(new NodePodNetwork(std::move(impl)));
}

bool NodePodNetwork::BuiltIn() const { return impl_->BuiltIn(); }
void NodePodNetwork::OnChange(std::function<void(bool built_in)> changed) {
  impl_->OnChange(std::move(changed));
}

Result<Attachment> NodePodNetwork::Attach(const AttachRequest& request) {
  return impl_->InCharge().Attach(request);
}

Result<> NodePodNetwork::Detach(const std::string& sandbox_id) {
  if (impl_->plugins != nullptr) TRY(impl_->plugins->Detach(sandbox_id));
  return impl_->bridge->Detach(sandbox_id);
}

Result<> NodePodNetwork::Check(const std::string& sandbox_id) {
  if (impl_->plugins != nullptr && impl_->plugins->Get(sandbox_id).ok()) {
    return impl_->plugins->Check(sandbox_id);
  }
  return impl_->bridge->Check(sandbox_id);
}

Result<Attachment> NodePodNetwork::Get(const std::string& sandbox_id) const {
  auto attachment = impl_->bridge->Get(sandbox_id);
  if (attachment.ok() || impl_->plugins == nullptr) return attachment;
  return impl_->plugins->Get(sandbox_id);
}

Result<> NodePodNetwork::Recover(const std::vector<std::string>& live_sandbox_ids) {
  if (impl_->plugins != nullptr) TRY(impl_->plugins->Recover(live_sandbox_ids));
  TRY(impl_->bridge->Recover(live_sandbox_ids));
  return impl_->FitBridge();
}

Result<> NodePodNetwork::SetPodCidrs(const std::vector<net::IpPrefix>& pod_cidrs,
                                     const std::vector<net::IpPrefix>& cluster_cidrs) {
  return impl_->SetPodCidrs(pod_cidrs, cluster_cidrs);
}

Result<> NodePodNetwork::Reconcile() {
  if (impl_->plugins != nullptr) TRY(impl_->plugins->Reconcile());
  TRY(impl_->FitBridge());
  return impl_->bridge->Reconcile();
}

std::string NodePodNetwork::Unready() const { return impl_->InCharge().Unready(); }

Result<> NodePodNetwork::RemoveAll() {
  // Attachments of sandboxes that are gone, if any: nobody is to find them later.
  if (impl_->plugins != nullptr) {
    TRY(impl_->plugins->Recover({}));
    if (!impl_->plugins->Attached().empty()) {
      return Error(Code::kFailedPrecondition,
                   "CNI plugins cannot undo what they made; the log says why");
    }
  }
  return impl_->bridge->RemoveAll();
}

}  // namespace skiff::cni
