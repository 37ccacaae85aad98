#include "agent/daemon/overlay_link.h"

#include <chrono>

#include "base/log.h"
#include "cni/bridge.h"
#include "cni/bridge_network.h"

namespace skiff::agent {
namespace {

constexpr std::chrono::seconds kRetry{10};
// Changes of a large cluster come in bursts.
constexpr std::chrono::milliseconds kGather{20};

}  // namespace

// All state on the strand.
class OverlayLink::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(cni::OverlayConfig config, Executor& blocking)
      : config_(std::move(config)), strand_(blocking) {}

  template <class Change>
  void Post(Change change) {
    strand_.Post([self = shared_from_this(), change = std::move(change)]() mutable {
      change(*self);
      self->ApplySoon(kGather);
    });
  }

  cni::OverlayNode self;
  std::vector<cni::OverlayNode> peers;
  bool peers_known = false;

 private:
  void ApplySoon(std::chrono::nanoseconds delay) {
    if (std::exchange(waiting_, true)) return;
    strand_.PostAfter(delay, [weak = weak_from_this()] {
      if (auto impl = weak.lock()) impl->Apply();
    });
  }

  void Apply() {
    waiting_ = false;
    // Until all is known nothing is taken away: pods reach their peers as before a restart.
    if (!peers_known || self.addresses.empty() || self.pod_cidrs.empty()) return;
    auto plan = Ensure();
    if (!plan.ok()) {
      log::Error("cannot set up the way to other nodes' pods, trying again",
                 {{"error", plan.error()}});
      ApplySoon(kRetry);
      return;
    }
    if (plan->unreachable == unreachable_) return;
    unreachable_ = plan->unreachable;
    for (const std::string& peer : unreachable_) {
      log::Warning("pods of another node cannot be reached", {{"pods", peer}});
    }
  }

  Result<cni::OverlayPlan> Ensure() {
    net::Rtnl rtnl = TRY(net::Rtnl::Open());
    cni::OverlayConfig config = config_;
    config.mtu = TRY(
        cni::UnderlayMtu(rtnl, cni::BridgeConfig().bridge,
                         cni::EncapsulationBytes(config.mode, self.addresses.front().family())));
    return cni::EnsureOverlay(rtnl, config, self, peers);
  }

  const cni::OverlayConfig config_;
  Strand strand_;
  bool waiting_ = false;
  std::vector<std::string> unreachable_;
};

OverlayLink::OverlayLink(cni::OverlayConfig config, Executor& blocking)
    : impl_(std::make_shared<Impl>(std::move(config), blocking)) {}
OverlayLink::~OverlayLink() = default;

void OverlayLink::SetAddresses(std::vector<net::IpAddress> addresses) {
  impl_->Post([addresses = std::move(addresses)](Impl& impl) mutable {
    impl.self.addresses = std::move(addresses);
  });
}

void OverlayLink::SetPodCidrs(std::vector<net::IpPrefix> pod_cidrs) {
  impl_->Post([pod_cidrs = std::move(pod_cidrs)](Impl& impl) mutable {
    impl.self.pod_cidrs = std::move(pod_cidrs);
  });
}

void OverlayLink::SetPeers(std::vector<cni::OverlayNode> peers) {
  impl_->Post([peers = std::move(peers)](Impl& impl) mutable {
    impl.peers = std::move(peers);
    impl.peers_known = true;
  });
}

}  // namespace skiff::agent
