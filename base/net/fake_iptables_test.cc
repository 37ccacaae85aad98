// The fake is trusted by other tests, so its own rules are checked: against the real programs they
// run in tests/integration/proxy/iptables_test.cc.
#include "base/net/fake_iptables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skiff::net {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr IpFamily kV4 = IpFamily::kV4;

TEST(FakeIptables, AppliesWholeTables) {
  FakeIptables iptables;
  ASSERT_TRUE(iptables
                  .Restore(kV4,
                           "*nat\n:A - [0:0]\n:B - [0:0]\n-A A -j B\n-A A -j ACCEPT\n"
                           "-I A -j RETURN\nCOMMIT\n")
                  .ok());
  EXPECT_THAT(*iptables.Rules(kV4, "nat", "A"), ElementsAre("-j RETURN", "-j B", "-j ACCEPT"));
  // A table that fails at its end leaves nothing of its beginning.
  EXPECT_FALSE(iptables.Restore(kV4, "*nat\n:C - [0:0]\n-A C -j NOWHERE\nCOMMIT\n").ok());
  EXPECT_THAT(iptables.Chains(kV4, "nat"), ElementsAre("A", "B"));
  EXPECT_THAT(iptables.Chains(IpFamily::kV6, "nat"), ElementsAre());
}

TEST(FakeIptables, DeclaringAChainEmptiesItButNotABuiltinOne) {
  FakeIptables iptables;
  ASSERT_TRUE(
      iptables.Restore(kV4, "*filter\n:A - [0:0]\n-A A -j DROP\n-A INPUT -j A\nCOMMIT\n").ok());
  ASSERT_TRUE(iptables.Restore(kV4, "*filter\n:A - [0:0]\n:INPUT ACCEPT [0:0]\nCOMMIT\n").ok());
  EXPECT_THAT(*iptables.Rules(kV4, "filter", "A"), ElementsAre());
  EXPECT_THAT(*iptables.Rules(kV4, "filter", "INPUT"), ElementsAre("-j A"));
}

TEST(FakeIptables, RefusesWhatTheKernelRefuses) {
  FakeIptables iptables;
  ASSERT_TRUE(iptables.Restore(kV4, "*nat\n:A - [0:0]\n:B - [0:0]\n-A A -j B\nCOMMIT\n").ok());
  for (std::string_view line :
       {"-X B", "-X A", "-D A -j ACCEPT", "-A NONE -j ACCEPT", "-X PREROUTING", "-Z A"}) {
    auto result = iptables.Restore(kV4, "*nat\n" + std::string(line) + "\nCOMMIT\n");
    ASSERT_FALSE(result.ok()) << line;
    EXPECT_THAT(result.error().message(), HasSubstr(line));
  }
  EXPECT_FALSE(iptables.Restore(kV4, "*nat\n-F A\n").ok()) << "no COMMIT";
  EXPECT_FALSE(iptables.Restore(kV4, "*none\nCOMMIT\n").ok());
  EXPECT_TRUE(iptables.Restore(kV4, "*nat\n-D A -j B\n-X B\n-X A\nCOMMIT\n").ok());
  EXPECT_THAT(iptables.Chains(kV4, "nat"), ElementsAre());
}

TEST(Iptables, CommentsCannotBreakOut) {
  EXPECT_EQ(CommentText("ns/web:http -> 10.0.0.1:80"), "ns/web:http -> 10.0.0.1:80");
  EXPECT_EQ(CommentText("a\" -j ACCEPT\n-A x\\'\xff"), "a_ -j ACCEPT_-A x___");
  EXPECT_EQ(CommentText(std::string(500, 'a')).size(), 200u);
}

TEST(FakeIptables, SavesWhatRestoreReads) {
  FakeIptables iptables, other;
  ASSERT_TRUE(iptables
                  .Restore(kV4,
                           "*nat\n:A - [0:0]\n-A A -s 10.0.0.0/8 -j MARK --or-mark 0x1\n"
                           "-A PREROUTING -j A\nCOMMIT\n")
                  .ok());
  std::string saved = iptables.Save(kV4, "nat").value();
  ASSERT_TRUE(other.Restore(kV4, saved).ok());
  EXPECT_EQ(other.Save(kV4, "nat").value(), saved);
}

}  // namespace
}  // namespace skiff::net
