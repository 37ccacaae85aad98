#include "agent/daemon/flow_link.h"

#include <optional>

#include "base/async/write_loop.h"
#include "base/log.h"
#include "base/net/nft.h"
#include "base/net/rtnl.h"
#include "cni/bridge_network.h"
#include "cni/flow_table.h"

namespace skiff::agent {

// All but construction, Start, LinksChanged and Stop happens in the loop.
class FlowLink::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(Executor& blocking, net::Nft& nft, bool allowed)
      : nft_(nft), loop_(blocking, {}), allowed_(allowed) {}

  template <class Change>
  void Post(Change change) {
    loop_.Post([this, change = std::move(change)]() mutable {
      change(*this);
      loop_.WriteSoon();
    });
  }
  void Start() {
    loop_.Start(weak_from_this(), {.write = [this] { return Write(); },
                                   .written = [](const Result<>& result) { Written(result); },
                                   .damaged = [this] { return IsOutdated(); }});
    if (!allowed_) return loop_.Post([this] { loop_.WriteSoon(); });
    auto watch = nft_.Watch([this] { loop_.LookSoon(); });
    if (watch.ok()) watch_ = *std::move(watch);  // else it is looked at from time to time
  }
  void Stop() {
    watch_.reset();
    loop_.Stop();
  }
  void LinksChanged() { loop_.LookSoon(); }

  std::vector<net::IpPrefix> ranges;
  bool wanted = true;  // by the pod network

 private:
  bool IsWanted() const { return allowed_ && wanted; }
  Result<cni::FlowTableSpec> Observe() const {
    cni::FlowTableSpec spec;
    spec.ranges = ranges;
    net::Rtnl rtnl = TRY(net::Rtnl::Open());
    spec.links = TRY(cni::ObserveFlowLinks(rtnl, cni::BridgeConfig().bridge));
    return spec;
  }

  // Asked once: a kernel learns nothing.
  bool Able() {
    if (able_) return *able_;
    Result<> able = cni::CheckFlowTables(nft_);
    able_ = able.ok();
    if (!able.ok()) {
      log::Info("every packet between pods takes the long way through the node",
                {{"reason", able.error()}});
    }
    return *able_;
  }

  Result<> Write() {
    if (!IsWanted()) {
      in_force_ = {};
      return cni::RemoveFlowTable(nft_);
    }
    if (ranges.empty()) return {};  // not known yet: what is there stays
    if (!Able()) return {};
    cni::FlowTableSpec spec = TRY(Observe());
    if (spec.empty() || IsInForce(spec)) return {};  // no pods yet; nothing new
    // A link that goes meanwhile fails it, and the next try finds that out.
    TRY(nft_.Commit(cni::PlanFlowTable(spec)).With("write the flow table of pods"));
    in_force_ = std::move(spec);
    return {};
  }
  static void Written(const Result<>& result) {
    if (result.ok()) return;
    log::Warning("the short way of pods' connections is not set up, trying again",
                 {{"error", result.error()}});
  }

  // Whether the links are others, or somebody else has changed the table.
  bool IsOutdated() {
    if (!IsWanted() || ranges.empty() || !able_.value_or(true)) return false;
    auto spec = Observe();
    return spec.ok() && !spec->empty() && !IsInForce(*spec);
  }
  bool IsInForce(const cni::FlowTableSpec& spec) const {
    if (spec != in_force_) return false;
    auto tables = nft_.ListFlowtables(cni::FlowsTable());
    auto rules = nft_.CountRules(cni::FlowsTable(), cni::kFlowsChain);
    return tables.ok() && tables->size() == 1 && tables->front().devices == spec.links &&
           rules.ok() && *rules == cni::FlowRules(spec);
  }

  net::Nft& nft_;
  WriteLoop loop_;
  const bool allowed_;
  std::unique_ptr<net::NftWatch> watch_;
  std::optional<bool> able_;
  cni::FlowTableSpec in_force_;
};

FlowLink::FlowLink(Executor& blocking, net::Nft& nft, bool allowed)
    : impl_(std::make_shared<Impl>(blocking, nft, allowed)) {
  impl_->Start();
}
FlowLink::~FlowLink() { impl_->Stop(); }

void FlowLink::SetRanges(std::vector<net::IpPrefix> ranges) {
  impl_->Post(
      [ranges = std::move(ranges)](Impl& impl) mutable { impl.ranges = std::move(ranges); });
}

void FlowLink::SetWanted(bool wanted) {
  impl_->Post([wanted](Impl& impl) { impl.wanted = wanted; });
}

void FlowLink::LinksChanged() { impl_->LinksChanged(); }

}  // namespace skiff::agent
