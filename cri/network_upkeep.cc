#include "cri/network_upkeep.h"

#include "base/log.h"

namespace skiff::cri {
namespace {

constexpr std::chrono::seconds kPeriod{30};

}  // namespace

NetworkUpkeep::NetworkUpkeep(cni::PodNetwork& network, Executor& blocking)
    : network_(network), blocking_(blocking) {
  Schedule();
}

void NetworkUpkeep::Schedule() {
  blocking_.PostAfter(kPeriod, [this] {
    Run();
    Schedule();
  });
}

void NetworkUpkeep::Run() {
  const auto reconciled = network_.Reconcile();
  // One line a trouble, not one a try.
  if (!reconciled.ok() && !failing_) {
    log::Warning("the pod network is damaged and cannot be repaired; trying on",
                 {{"error", reconciled.error()}});
  } else if (reconciled.ok() && failing_) {
    log::Info("the pod network is whole again", {});
  }
  failing_ = !reconciled.ok();
}

}  // namespace skiff::cri
