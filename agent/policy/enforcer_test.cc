#include "agent/policy/enforcer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/policy/packet_walk.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent::policy {
namespace {

using net::IpAddress;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

const IpAddress kPodAddress = IpAddress::V4(10, 0, 0, 1);
const IpAddress kPeerAddress = IpAddress::V4(10, 0, 1, 1);

TrafficRules::PodPtr MakePod(const std::string& name) {
  auto pod = std::make_shared<k8s::core::v1::Pod>();
  pod->mutable_metadata()->set_uid("uid-" + name);
  pod->mutable_metadata()->set_name(name);
  pod->mutable_metadata()->set_namespace_("ns");
  (*pod->mutable_metadata()->mutable_labels())["app"] = name;
  return pod;
}

Policy DenyAll(const std::string& app) {
  Policy policy;
  policy.name_space = "ns";
  policy.pods = codec::LabelSelector::Parse("app=" + app).value();
  policy.isolates_ingress = true;
  return policy;
}

class EnforcerTest : public ::testing::Test {
 protected:
  void Start() {
    enforcer = std::make_unique<PolicyEnforcer>(executor, nft);
    executor.RunUntilIdle();
  }
  void Tell(bool full, std::map<std::string, std::optional<Policy>> policies) {
    Update update;
    update.full = full;
    update.policies = std::move(policies);
    enforcer->Apply(std::move(update));
    executor.RunUntilIdle();
  }
  // Whether a stranger reaches the address.
  bool Reaches(const IpAddress& to) {
    return PacketWalk(nft, {.source = kPeerAddress, .destination = to, .port = 80})
        .Passes(net::nft::Hook::kForward);
  }
  std::function<void(Result<>)> Note(const std::string& what) {
    return [this, what](Result<> result) {
      noted.push_back(what + (result.ok() ? "" : ": " + result.error().message()));
    };
  }

  ManualExecutor executor;
  net::FakeNft nft;
  std::unique_ptr<PolicyEnforcer> enforcer;
  std::vector<std::string> noted;
};

TEST_F(EnforcerTest, APodIsAdmittedOnceItsRulesAreInForce) {
  Start();
  auto web = MakePod("web");
  enforcer->SetPods({web});
  enforcer->Observe(web, {});
  Tell(true, {{"ns/deny", DenyAll("web")}});
  EXPECT_TRUE(Reaches(kPodAddress)) << "no pod has the address";
  enforcer->Admit(web, {"10.0.0.1"}, [&](Result<> result) {
    EXPECT_TRUE(result.ok());
    EXPECT_FALSE(Reaches(kPodAddress));
    noted.push_back("admitted");
  });
  EXPECT_THAT(noted, IsEmpty());
  executor.RunUntilIdle();
  EXPECT_THAT(noted, ElementsAre("admitted"));
  // A look that finds the same changes nothing.
  nft.TakeCommits();
  enforcer->Observe(web, {"10.0.0.1"});
  executor.RunUntilIdle();
  EXPECT_THAT(nft.TakeCommits(), IsEmpty());
  EXPECT_EQ(enforcer->GetStatus().isolated_pods, 1u);
  enforcer->Forget("uid-web");
  executor.RunUntilIdle();
  EXPECT_TRUE(Reaches(kPodAddress));
}

TEST_F(EnforcerTest, LabelsChange) {
  Start();
  auto web = MakePod("web");
  enforcer->SetPods({web});
  enforcer->Observe(web, {"10.0.0.1"});
  Tell(true, {{"ns/deny", DenyAll("other")}});
  EXPECT_TRUE(Reaches(kPodAddress));
  auto other = std::make_shared<k8s::core::v1::Pod>(*web);
  (*other->mutable_metadata()->mutable_labels())["app"] = "other";
  enforcer->SetPods({other});
  executor.RunUntilIdle();
  EXPECT_FALSE(Reaches(kPodAddress));
  Tell(false, {{"ns/deny", std::nullopt}});
  EXPECT_TRUE(Reaches(kPodAddress));
}

TEST_F(EnforcerTest, AFullUpdateReplacesEverything) {
  Start();
  auto web = MakePod("web");
  enforcer->SetPods({web});
  enforcer->Observe(web, {"10.0.0.1"});
  Tell(true, {{"ns/deny", DenyAll("web")}});
  EXPECT_FALSE(Reaches(kPodAddress));
  Tell(true, {});
  EXPECT_TRUE(Reaches(kPodAddress));
}

TEST_F(EnforcerTest, ARestartLeavesEverythingAsItIsUntilAllPodsAreKnown) {
  Start();
  auto web = MakePod("web");
  auto db = MakePod("db");
  enforcer->SetPods({web, db});
  enforcer->Observe(web, {"10.0.0.1"});
  enforcer->Observe(db, {"10.0.0.2"});
  Tell(true, {{"ns/deny", DenyAll("web")}});
  enforcer.reset();
  EXPECT_FALSE(Reaches(kPodAddress)) << "rules outlive the agent";

  nft.TakeCommits();
  Start();
  enforcer->SetPods({web, db});
  Tell(true, {{"ns/deny", DenyAll("web")}});
  enforcer->Observe(db, {"10.0.0.2"});
  executor.RunUntilIdle();
  EXPECT_THAT(nft.TakeCommits(), IsEmpty());
  enforcer->Observe(web, {"10.0.0.1"});
  executor.RunUntilIdle();
  EXPECT_FALSE(nft.TakeCommits().empty());
  EXPECT_FALSE(Reaches(kPodAddress));
}

TEST_F(EnforcerTest, APodThatCannotBeLookedAtStaysIsolated) {
  Start();
  auto web = MakePod("web");
  auto db = MakePod("db");
  enforcer->SetPods({web});
  enforcer->Observe(web, {"10.0.0.1"});
  Tell(true, {{"ns/deny", DenyAll("web")}});
  enforcer.reset();

  Start();
  enforcer->SetPods({web, db});
  Tell(true, {{"ns/deny", DenyAll("web")}});
  enforcer->Admit(db, {"10.0.0.2"}, Note("db"));
  executor.RunUntilIdle();
  EXPECT_THAT(noted, IsEmpty());
  executor.Advance(seconds(3));
  EXPECT_THAT(noted, ElementsAre("db")) << "others do not wait for ever";
  EXPECT_FALSE(Reaches(kPodAddress));
  // It is gone after all.
  enforcer->SetPods({db});
  executor.RunUntilIdle();
  EXPECT_TRUE(Reaches(kPodAddress));
}

TEST_F(EnforcerTest, TroubleIsToldAndTriedAgain) {
  Start();
  auto web = MakePod("web");
  enforcer->SetPods({web});
  Tell(true, {{"ns/deny", DenyAll("web")}});
  nft.FailNext(Error(Code::kUnavailable, "no nftables"));
  enforcer->Admit(web, {"10.0.0.1"}, Note("web"));
  executor.RunUntilIdle();
  ASSERT_EQ(noted.size(), 1u);
  EXPECT_THAT(noted[0], ::testing::HasSubstr("no nftables"));
  EXPECT_TRUE(enforcer->GetStatus().last_error.has_value());
  executor.Advance(seconds(1));
  EXPECT_FALSE(Reaches(kPodAddress));
  EXPECT_FALSE(enforcer->GetStatus().last_error.has_value());
}

TEST_F(EnforcerTest, WhatOthersRemoveIsWrittenAgain) {
  Start();
  auto web = MakePod("web");
  enforcer->SetPods({web});
  enforcer->Observe(web, {"10.0.0.1"});
  Tell(true, {{"ns/deny", DenyAll("web")}});
  nft.FlushRuleset();
  EXPECT_TRUE(Reaches(kPodAddress));
  executor.Advance(seconds(5));
  EXPECT_FALSE(Reaches(kPodAddress));
  EXPECT_EQ(enforcer->GetStatus().repairs, 1u);
}

}  // namespace
}  // namespace skiff::agent::policy
