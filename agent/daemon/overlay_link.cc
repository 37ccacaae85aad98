#include "agent/daemon/overlay_link.h"

#include <chrono>
#include <optional>

#include "base/log.h"
#include "base/net/offload.h"
#include "base/net/wireguard.h"
#include "base/os/files.h"
#include "cni/bridge.h"
#include "cni/bridge_network.h"
#include "cni/path_probe.h"

namespace skiff::agent {
namespace {

constexpr std::chrono::seconds kRetry{10};
// Changes of a large cluster come in bursts.
constexpr std::chrono::milliseconds kGather{20};
// Until a peer that has just joined listens; and for those that stay silent.
constexpr std::chrono::seconds kProbeAgain{5}, kProbeSeldom{60};
constexpr int kQuickProbes = 6;

}  // namespace

// All state on the strand.
class OverlayLink::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(cni::OverlayConfig config, std::string key_file, Executor& blocking, OnState on_state,
       std::function<void()> on_links)
      : config_(std::move(config)),
        key_file_(std::move(key_file)),
        blocking_(blocking),
        strand_(blocking),
        on_state_(std::move(on_state)),
        on_links_(std::move(on_links)) {}

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
  bool wanted = true;

 private:
  void ApplySoon(std::chrono::nanoseconds delay) {
    if (std::exchange(waiting_, true)) return;
    strand_.PostAfter(delay, [weak = weak_from_this()] {
      if (auto impl = weak.lock()) impl->Apply();
    });
  }

  void Apply() {
    waiting_ = false;
    if (!wanted) return TakeAway();
    taken_away_ = false;
    // Until all is known nothing is taken away: pods reach their peers as before a restart.
    if (!peers_known || self.addresses.empty() || self.pod_cidrs.empty()) return;
    auto plan = Ensure();
    if (!plan.ok()) {
      log::Error("cannot set up the way to other nodes' pods, trying again",
                 {{"error", plan.error()}});
      trouble_ = {.degraded = true, .reason = "NotSetUp", .message = plan.error().message()};
      Tell();
      ApplySoon(kRetry);
      return;
    }
    on_links_();
    trouble_.reset();
    if (plan->unreachable != unreachable_) {
      unreachable_ = plan->unreachable;
      for (const std::string& peer : unreachable_) {
        log::Warning("pods of another node cannot be reached", {{"pods", peer}});
      }
    }
    Listen(*plan);
    check_.SetPeers(*plan);
    quick_probes_ = kQuickProbes;
    Tell();
    Probe();
  }

  // Peers probe this node as it does them.
  void Listen(const cni::OverlayPlan& plan) {
    link_ = plan.vxlan ? plan.link.name : plan.wireguard ? config_.wireguard_link : "";
    std::vector<net::IpAddress> addresses;
    if (!link_.empty()) addresses = plan.link_addresses;
    if (addresses != listening_) {
      responder_.reset();
      listening_ = addresses;
    }
    if (addresses.empty() || responder_ != nullptr) return;
    auto started = cni::ProbeResponder::Start(addresses);
    if (started.ok()) {
      responder_ = *std::move(started);
    } else {
      log::Warning("other nodes cannot probe the way to this one", {{"error", started.error()}});
    }
  }

  // Whole lots at once, beside the strand: it takes seconds where nobody answers.
  void Probe() {
    strand_.Cancel(probe_timer_);
    if (probing_ || link_.empty() || check_.AllWhole()) return;
    probing_ = true;
    blocking_.Post([weak = weak_from_this(), peers = check_.Due()] {
      auto results = cni::ProbePeers(peers);
      auto impl = weak.lock();
      if (impl == nullptr) return;
      impl->strand_.Post([impl, peers, results = std::move(results)] {
        impl->probing_ = false;
        for (size_t i = 0; results.ok() && i < peers.size(); ++i) {
          impl->check_.Take(peers[i], cni::Judge((*results)[i]));
        }
        impl->Judge();
      });
    });
  }

  void Judge() {
    bool at_once = check_.WantsChecksumsInSoftware() && ComputeChecksums();
    Tell();
    if (at_once) return Probe();
    if (check_.AllWhole()) return;
    auto delay = quick_probes_ > 0 ? kProbeAgain : kProbeSeldom;
    if (quick_probes_ > 0) --quick_probes_;
    probe_timer_ = strand_.PostAfter(delay, [weak = weak_from_this()] {
      if (auto impl = weak.lock()) impl->Probe();
    });
  }

  bool ComputeChecksums() {
    auto set = net::SetTxChecksumOffload(link_, false);
    if (!set.ok()) {
      log::Error(
          "packets to other nodes arrive damaged, and checksum offload cannot be switched off",
          {{"link", link_}, {"error", set.error()}});
      return false;
    }
    log::Warning("packets to other nodes arrived damaged; checksum offload is off from now on",
                 {{"link", link_}});
    return true;
  }

  void Tell() {
    if (!link_.empty()) {
      auto offload = net::TxChecksumOffload(link_);
      check_.SetChecksumsInSoftware(offload.ok() && !*offload);
    }
    OverlayState now{mtu_, public_key_, trouble_.value_or(check_.Health())};
    if (now == told_) return;
    if (now.health.degraded && now.health != told_.health) {
      log::Warning("the overlay is degraded", {{"reason", now.health.message}});
    }
    told_ = now;
    on_state_(told_);
  }

  void TakeAway() {
    if (taken_away_) return;
    auto remove = [this]() -> Result<> {
      net::Rtnl rtnl = TRY(net::Rtnl::Open());
      return cni::RemoveOverlay(rtnl, config_);
    };
    if (auto removed = remove(); !removed.ok()) {
      log::Error("cannot take away the way to other nodes' pods, trying again",
                 {{"error", removed.error()}});
      ApplySoon(kRetry);
      return;
    }
    taken_away_ = true;
    trouble_.reset();
    unreachable_.clear();
    strand_.Cancel(probe_timer_);
    responder_.reset();
    listening_.clear();
    link_.clear();
    check_.SetPeers({});
    mtu_ = 0;
    Tell();
  }

  Result<> LoadKey() {
    auto key = ReadFile(key_file_);
    if (!key.ok() && key.error().code() == Code::kNotFound) {
      key = net::MakeWireguardKey();
      TRY(MakeDirectories(key_file_.substr(0, key_file_.rfind('/'))));
      TRY(WriteFileAtomic(key_file_, *key, Durability::kPower, 0600));
    }
    const std::string text = TRY(std::move(key));
    public_key_ = TRY(net::WireguardPublicKey(text).With(key_file_));
    private_key_ = text;
    return {};
  }

  Result<cni::OverlayPlan> Ensure() {
    if (config_.mode == cni::OverlayMode::kWireguard && public_key_.empty()) TRY(LoadKey());
    net::Rtnl rtnl = TRY(net::Rtnl::Open());
    cni::OverlayConfig config = config_;
    config.mtu = TRY(
        cni::UnderlayMtu(rtnl, cni::BridgeConfig().bridge,
                         cni::EncapsulationBytes(config.mode, cni::UnderlayFamily(self, peers))));
    mtu_ = config.mtu;
    config.wireguard_private_key = private_key_;
    return cni::EnsureOverlay(rtnl, config, self, peers);
  }

  const cni::OverlayConfig config_;
  const std::string key_file_;
  Executor& blocking_;
  Strand strand_;
  const OnState on_state_;
  const std::function<void()> on_links_;
  uint32_t mtu_ = 0;
  bool waiting_ = false;
  std::string private_key_, public_key_;  // empty: not loaded, or not needed
  std::string link_;                      // of VXLAN or WireGuard; empty: there is none
  std::optional<cni::OverlayHealth> trouble_;
  cni::OverlayCheck check_;
  std::unique_ptr<cni::ProbeResponder> responder_;
  std::vector<net::IpAddress> listening_;
  bool probing_ = false;
  int quick_probes_ = 0;
  Executor::TimerId probe_timer_ = 0;
  OverlayState told_;
  bool taken_away_ = false;
  std::vector<std::string> unreachable_;
};

OverlayLink::OverlayLink(cni::OverlayConfig config, std::string key_file, Executor& blocking,
                         OnState on_state, std::function<void()> on_links)
    : impl_(std::make_shared<Impl>(std::move(config), std::move(key_file), blocking,
                                   std::move(on_state), std::move(on_links))) {}
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

void OverlayLink::SetWanted(bool wanted) {
  impl_->Post([wanted](Impl& impl) { impl.wanted = wanted; });
}

void OverlayLink::SetPeers(std::vector<cni::OverlayNode> peers) {
  impl_->Post([peers = std::move(peers)](Impl& impl) mutable {
    impl.peers = std::move(peers);
    impl.peers_known = true;
  });
}

}  // namespace skiff::agent
