// SystemIptables, and FakeIptables beside it: one suite for both, so that tests that trust the fake
// are not wrong about the kernel.
#include "base/net/iptables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/net/conntrack.h"
#include "base/net/fake_iptables.h"
#include "tests/support/needs.h"
#include "tests/support/netns.h"
#include "tests/support/traffic.h"

namespace skiff::net {
namespace {

using ::testing::ElementsAre;

constexpr IpFamily kV4 = IpFamily::kV4;

enum class Kind { kFake, kDetect, kLegacy };

class IptablesTest : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (GetParam() == Kind::kFake) {
      iptables_ = std::make_unique<FakeIptables>();
      return;
    }
    SKIFF_NEEDS(test::Need::kRoot, test::Need::kIptables);
    node_ = test::TestNode::Make("node");
    auto variant = GetParam() == Kind::kLegacy ? SystemIptables::Variant::kLegacy
                                               : SystemIptables::Variant::kDetect;
    Run([&] {
      auto opened = SystemIptables::Open(variant);
      if (!opened.ok()) {
        why_not_ = opened.error().message();
        return;
      }
      iptables_ = *std::move(opened);
    });
    if (iptables_ == nullptr) GTEST_SKIP() << why_not_;
  }
  void Run(const std::function<void()>& work) { node_ ? node_->Run(work) : work(); }
  Result<> Restore(const std::string& payload) {
    Result<> result;
    Run([&] { result = iptables_->Restore(kV4, payload); });
    return result;
  }
  std::vector<std::string> Chain(const std::string& chain) {
    std::vector<std::string> rules{"no such chain"};
    Run([&] {
      auto listed = iptables_->ListChain(kV4, "nat", chain);
      if (listed.ok()) rules = *listed;
    });
    return rules;
  }

  std::unique_ptr<test::TestNode> node_;
  std::unique_ptr<Iptables> iptables_;
  std::string why_not_;
};

TEST_P(IptablesTest, RestoreChangesOnlyWhatItNames) {
  ASSERT_TRUE(Restore("*nat\n:A - [0:0]\n:B - [0:0]\n-A A -j B\n-A A -j ACCEPT\n"
                      "-A PREROUTING -j A\nCOMMIT\n")
                  .ok());
  ASSERT_TRUE(Restore("*nat\n:B - [0:0]\n-A B -j RETURN\n-I A -j RETURN\nCOMMIT\n").ok());
  EXPECT_THAT(Chain("A"), ElementsAre("-A A -j RETURN", "-A A -j B", "-A A -j ACCEPT"));
  EXPECT_THAT(Chain("B"), ElementsAre("-A B -j RETURN"));
  EXPECT_THAT(Chain("PREROUTING"), ElementsAre("-A PREROUTING -j A"));
  ASSERT_TRUE(Restore("*nat\n:B - [0:0]\n-D A -j B\n-X B\nCOMMIT\n").ok());
  EXPECT_THAT(Chain("A"), ElementsAre("-A A -j RETURN", "-A A -j ACCEPT"));
  EXPECT_THAT(Chain("B"), ElementsAre("no such chain"));
}

TEST_P(IptablesTest, ATableThatFailsChangesNothing) {
  ASSERT_TRUE(Restore("*nat\n:A - [0:0]\n-A A -j ACCEPT\nCOMMIT\n").ok());
  for (const char* line : {"-A A -j NOWHERE", "-D A -j RETURN", "-X A", "-A NONE -j ACCEPT"}) {
    EXPECT_FALSE(Restore("*nat\n:C - [0:0]\n" + std::string(line) + "\nCOMMIT\n").ok()) << line;
    EXPECT_THAT(Chain("A"), ElementsAre("-A A -j ACCEPT")) << line;
    EXPECT_THAT(Chain("C"), ElementsAre("no such chain")) << line;
  }
}

TEST_P(IptablesTest, JumpsAndRemoval) {
  std::vector<std::string> jumps{"PREROUTING -m comment --comment \"a b\" -j OURS-A",
                                 "OUTPUT -m addrtype --dst-type LOCAL -j OURS-A"};
  ASSERT_TRUE(
      Restore("*nat\n:OURS-A - [0:0]\n:OURS-B - [0:0]\n:THEIRS - [0:0]\n-A OURS-A -j OURS-B\n"
              "-A PREROUTING -j THEIRS\n-A " +
              jumps[0] + "\nCOMMIT\n")
          .ok());
  Run([&] {
    EXPECT_THAT(MissingJumps(*iptables_, kV4, "nat", jumps).value(), ElementsAre(jumps[1]));
    EXPECT_TRUE(iptables_->ChainExists(kV4, "nat", "OURS-A").value());
    EXPECT_FALSE(iptables_->ChainExists(kV4, "nat", "OURS-Z").value());
  });
  ASSERT_TRUE(Restore("*nat\n-A " + jumps[1] + "\nCOMMIT\n").ok());
  auto ours = [](std::string_view chain) { return chain.starts_with("OURS-"); };
  Run([&] {
    EXPECT_THAT(MissingJumps(*iptables_, kV4, "nat", jumps).value(), ElementsAre());
    EXPECT_TRUE(RemoveChains(*iptables_, kV4, "nat", ours).ok());
    EXPECT_TRUE(RemoveChains(*iptables_, kV4, "nat", ours).ok());
  });
  EXPECT_THAT(Chain("PREROUTING"), ElementsAre("-A PREROUTING -j THEIRS"));
  EXPECT_THAT(Chain("OUTPUT"), ElementsAre());
  EXPECT_THAT(Chain("OURS-B"), ElementsAre("no such chain"));
}

INSTANTIATE_TEST_SUITE_P(All, IptablesTest,
                         ::testing::Values(Kind::kFake, Kind::kDetect, Kind::kLegacy),
                         [](const auto& param_info) {
                           switch (param_info.param) {
                             case Kind::kFake: return "Fake";
                             case Kind::kDetect: return "Detected";
                             default: return "Legacy";
                           }
                         });

TEST(SystemConntrack, ListsAndDeletesExactly) {
  SKIFF_NEEDS(test::Need::kRoot, test::Need::kIptables, test::Need::kConntrack);
  auto node = test::TestNode::Make("node");
  // Tracking starts in a namespace with the first rule that needs it.
  node->Shell(
      "iptables -A INPUT -m conntrack --ctstate INVALID -j DROP;"
      "ip6tables -A INPUT -m conntrack --ctstate INVALID -j DROP");
  test::EchoServer server(node->netns(), test::Transport::kUdp, IpAddress::Parse("::").value(), 53,
                          "dns");
  node->Run([] {
    SystemConntrack conntrack;
    for (std::string text : {"127.0.0.1", "::1"}) {
      IpAddress address = IpAddress::Parse(text).value();
      auto ask = [&](uint16_t local_port) {
        return test::Ask(test::Transport::kUdp, address, 53, std::chrono::seconds(2), local_port);
      };
      ASSERT_EQ(ask(4001).server, "dns");
      ASSERT_EQ(ask(4002).server, "dns");
      auto all = [](const Flow&) { return true; };
      EXPECT_TRUE(conntrack.List(address.family(), kProtocolTcp, all)->empty());
      auto found = conntrack.List(address.family(), kProtocolUdp, [](const Flow& flow) {
        return flow.original.source_port == 4001;
      });
      ASSERT_TRUE(found.ok()) << found.error().ToString();
      ASSERT_EQ(found->size(), 1u);
      Flow flow = found->front();
      EXPECT_EQ(flow.original.destination, address);
      EXPECT_EQ(flow.original.destination_port, 53);
      EXPECT_EQ(flow.reply.source, address);
      EXPECT_TRUE(conntrack.Delete(flow).ok());
      EXPECT_TRUE(conntrack.Delete(flow).ok()) << "gone already";
      auto left = conntrack.List(address.family(), kProtocolUdp, all);
      ASSERT_EQ(left->size(), 1u);
      EXPECT_EQ(left->front().original.source_port, 4002);
      // An entry that took the tuple meanwhile has another id, and stays.
      Flow other = left->front();
      other.id ^= 1;
      (void)conntrack.Delete(other);
      EXPECT_EQ(conntrack.List(address.family(), kProtocolUdp, all)->size(), 1u);
    }
  });
}

}  // namespace
}  // namespace skiff::net
