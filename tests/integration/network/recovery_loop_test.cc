// Every change of the node's network outside of pods, failed and killed at every failpoint it
// reaches (base/failpoint.h). Made again it succeeds, what is there then is what an undisturbed run
// makes, and nothing is left once it is taken away.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/os/files.h"
#include "tests/support/failpoints.h"
#include "tests/support/needs.h"
#include "tests/support/netns.h"

namespace skiff::test {
namespace {

constexpr const char* kProgram = SKIFF_TEST_BINARY_DIR "/skiff-network-under-test";

struct Operation {
  const char* name;
  const char* what;
  int before;  // how many there are
  int after;
};

const Operation kOperations[] = {
    {"OverlayMade", "overlay", 0, 3},    {"PeersCome", "overlay", 1, 3},
    {"PeersGo", "overlay", 3, 1},        {"OverlayRemoved", "overlay", 2, 0},
    {"RulesMade", "iptables", 0, 3},     {"RulesCome", "iptables", 1, 3},
    {"RulesGo", "iptables", 3, 1},       {"RulesRemoved", "iptables", 2, 0},
    {"ElementsMade", "nftables", 0, 3},  {"ElementsCome", "nftables", 1, 3},
    {"ElementsGo", "nftables", 3, 1},    {"ElementsRemoved", "nftables", 2, 0},
    {"AddressesMade", "balancer", 0, 2}, {"AddressesRemoved", "balancer", 1, 0},
};

class NetworkRecoveryLoop : public ::testing::TestWithParam<Operation> {
 protected:
  void SetUp() override {
    SKIFF_NEEDS(Need::kRoot, Need::kIptables, Need::kConntrack);
    plan_ = MapFailpointPlan(plan_path_);
  }

  // A machine with one neighbour and what is there before the operation.
  void NewNode() {
    node_ = TestNode::Make("node");
    other_ = TestNode::Make("other");
    Connect(*node_, {"10.200.0.1/24", "fd00:200::1/64"}, *other_,
            {"10.200.0.2/24", "fd00:200::2/64"});
    // Any use of iptables leaves the tables and their built-in chains behind.
    node_->Shell(
        "for program in iptables ip6tables; do for table in nat filter; do"
        " $program -t $table -A OUTPUT -j ACCEPT; $program -t $table -D OUTPUT 1; done; done");
    nothing_ = Held();
    if (GetParam().before > 0) Make(GetParam().before);
  }

  TestNode::Output Run(int count) {
    return node_->Program({"/usr/bin/env", FailpointVariable(plan_path_), kProgram, GetParam().what,
                           std::to_string(count)});
  }
  void Make(int count) {
    TestNode::Output output = Run(count);
    EXPECT_EQ(output.code, 0) << output.text;
  }

  // All that the node's network consists of, without counters and numbers that the kernel gives.
  std::string Held() {
    return node_->Shell(
        "ip -o link | sed 's/^[0-9]*: //; s/ .*//' | sort;"
        "for link in $(ip -o link show type vxlan | sed 's/^[0-9]*: //; s/:.*//'); do"
        " ip -d -o link show $link | sed 's/^[0-9]*: //'; bridge fdb show dev $link | sort; done;"
        "ip -o addr | sed 's/^[0-9]*: //' | grep -v fe80 | sort;"
        "ip route; ip -6 route | grep -v fe80; ip rule; ip neigh show nud permanent | sort;"
        "ip neigh show proxy; ip -6 neigh show proxy;"
        "for family in '' 6; do"
        " ip${family}tables-save | sed '/^#/d; s/\\[[0-9:]*\\]//' | sort; done;" +
        std::string(kProgram) + " show 0 | sort");
  }

  // What an undisturbed run reaches: of each point the first two visits and the last.
  std::vector<FailpointVisit> Survey() {
    NewNode();
    plan_->Record();
    Make(GetParam().after);
    const std::vector<FailpointVisit> all = plan_->Visits();
    plan_->Off();
    wanted_ = Held();
    std::map<std::string, uint32_t> last;
    for (const FailpointVisit& visit : all) last[visit.point] = visit.index;
    std::vector<FailpointVisit> some;
    std::copy_if(all.begin(), all.end(), std::back_inserter(some), [&](const auto& visit) {
      return visit.index < 2 || visit.index == last[visit.point];
    });
    return some;
  }

  void Try(const FailpointVisit& visit, FailpointAction action) {
    SCOPED_TRACE(visit.Name() + " (" + visit.subject + ") " +
                 (action == FailpointAction::kKill ? "killed" : "failed"));
    NewNode();
    plan_->Arm(visit, action);
    const TestNode::Output disturbed = Run(GetParam().after);
    const bool fired = plan_->fired();
    plan_->Off();
    EXPECT_TRUE(fired);
    if (action == FailpointAction::kKill) {
      EXPECT_NE(disturbed.code, 0);
    }
    Make(GetParam().after);
    EXPECT_EQ(Held(), wanted_);
    Make(0);
    EXPECT_EQ(Held(), nothing_);
  }

  TempDir work_ = TempDir::Make("skiff-network-loop").value();
  const std::string plan_path_ = work_.path() + "/failpoints";
  FailpointPlan* plan_ = nullptr;
  std::unique_ptr<TestNode> node_, other_;
  std::string nothing_, wanted_;
};

TEST_P(NetworkRecoveryLoop, FailedAndKilled) {
  const std::vector<FailpointVisit> visits = Survey();
  ASSERT_FALSE(visits.empty());
  for (const FailpointVisit& visit : visits) {
    for (FailpointAction action : {FailpointAction::kFail, FailpointAction::kKill}) {
      Try(visit, action);
      if (HasFailure()) return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Node, NetworkRecoveryLoop, ::testing::ValuesIn(kOperations),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace skiff::test
