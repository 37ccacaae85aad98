#include "cni/pod_forwarding.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/async/write_loop.h"
#include "base/log.h"
#include "base/net/families.h"
#include "base/net/iptables.h"
#include "cni/rules.h"

namespace skiff::cni {
namespace {

Result<> RemoveForwardingOf(net::Iptables& iptables, net::IpFamily family) {
  if (!TRY(iptables.ChainExists(family, "filter", kPodsChain))) return {};
  return net::RemoveChains(iptables, family, "filter",
                           [](std::string_view chain) { return chain == kPodsChain; });
}

}  // namespace

// All but construction and destruction happens in the loop.
class PodForwarding::Impl {
 public:
  Impl(net::Iptables& iptables, Executor& blocking) : loop(blocking, {}), iptables_(iptables) {}

  void Start(const std::shared_ptr<Impl>& self) {
    loop.Start(self, {.write = [this] { return Write(); },
                      .written =
                          [](const Result<>& result) {
                            if (result.ok()) return;
                            log::Warning("cannot let pods through FORWARD, trying again",
                                         {{"error", result.error()}});
                          },
                      .damaged = [this] { return IsDamaged(); }});
  }

  void SetCidrs(std::vector<net::IpPrefix> cidrs) {
    if (cidrs_ == cidrs) return;
    cidrs_ = std::move(cidrs);
    loop.WriteSoon();
  }
  void SetWanted(bool wanted) {
    if (wanted_ == wanted) return;
    wanted_ = wanted;
    loop.WriteSoon();
  }

  WriteLoop loop;

 private:
  bool IsWanted(net::IpFamily family) const {
    return *wanted_ && std::any_of(cidrs_->begin(), cidrs_->end(), [&](const net::IpPrefix& cidr) {
      return cidr.family() == family;
    });
  }

  Result<> Write() {
    if (!wanted_ || !cidrs_) return {};
    for (net::IpFamily family : net::kIpFamilies) {
      if (!iptables_.Supports(family)) continue;
      if (!IsWanted(family)) {
        TRY(RemoveForwardingOf(iptables_, family));
        continue;
      }
      auto missing = TRY(net::MissingJumps(iptables_, family, "filter", PodsJumps()));
      TRY(iptables_.Restore(family, PlanPodForwarding(family, *cidrs_, missing)));
    }
    return {};
  }

  // Whether somebody emptied the tables. What cannot be looked at is left as it is.
  bool IsDamaged() {
    if (!wanted_ || !cidrs_) return false;
    for (net::IpFamily family : net::kIpFamilies) {
      if (!iptables_.Supports(family) || !IsWanted(family)) continue;
      auto rules = iptables_.ListChain(family, "filter", kPodsChain);
      if (rules.ok() ? rules->empty() : rules.error().code() == Code::kNotFound) return true;
      auto missing = net::MissingJumps(iptables_, family, "filter", PodsJumps());
      if (missing.ok() && !missing->empty()) return true;
    }
    return false;
  }

  net::Iptables& iptables_;
  std::optional<std::vector<net::IpPrefix>> cidrs_;
  std::optional<bool> wanted_;
};

PodForwarding::PodForwarding(net::Iptables& iptables, Executor& blocking)
    : impl_(std::make_shared<Impl>(iptables, blocking)) {
  impl_->Start(impl_);
}
PodForwarding::~PodForwarding() { impl_->loop.Stop(); }

void PodForwarding::SetClusterCidrs(std::vector<net::IpPrefix> cidrs) {
  impl_->loop.Post([impl = impl_.get(), cidrs = std::move(cidrs)] { impl->SetCidrs(cidrs); });
}

void PodForwarding::SetWanted(bool wanted) {
  impl_->loop.Post([impl = impl_.get(), wanted] { impl->SetWanted(wanted); });
}

Result<> RemovePodForwarding(net::Iptables& iptables) {
  for (net::IpFamily family : net::kIpFamilies) {
    if (iptables.Supports(family)) TRY(RemoveForwardingOf(iptables, family));
  }
  return {};
}

}  // namespace skiff::cni
