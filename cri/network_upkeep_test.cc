#include "cri/network_upkeep.h"

#include <gtest/gtest.h>

#include "cni/fake_network.h"

namespace skiff::cri {
namespace {

using std::chrono::seconds;

TEST(NetworkUpkeepTest, ReconcilesEveryHalfMinuteAlsoAfterFailures) {
  ManualExecutor executor;
  cni::FakePodNetwork network;
  const NetworkUpkeep upkeep(network, executor);
  executor.Advance(seconds(29));
  EXPECT_EQ(network.reconciliations(), 0);
  network.FailNextReconcile(Error(Code::kInternal, "iptables is busy"));
  executor.Advance(seconds(1));
  EXPECT_EQ(network.reconciliations(), 1);
  executor.Advance(seconds(60));
  EXPECT_EQ(network.reconciliations(), 3);
  EXPECT_EQ(executor.pending_timers(), 1u);
}

}  // namespace
}  // namespace skiff::cri
