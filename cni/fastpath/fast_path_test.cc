#include "cni/fastpath/fast_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/net/fake_nft.h"
#include "base/os/files.h"
#include "cni/fastpath/fake_kernel.h"
#include "cni/test_addresses.h"

namespace skiff::cni {
namespace {

using Role = FastPathKernel::Role;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class FastPathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(MakeDirectories(root_.path() + "/net/netfilter").ok());
    WriteTracking("0");
    SetTracking("ignore_invalid_rst", "0");
    SetTracking("timeout_established", "432");
    SetTracking("timeout_unacknowledged", "300");
    config_.sysctl_root = root_.path();
    config_.record = root_.path() + "/record";
    Start();
    fast_path_->Recovered();
    executor_.Advance(seconds(1));
  }
  // A new process on the same kernel.
  void Start() {
    auto kernel = std::make_unique<FakeFastPathKernel>();
    if (kernel_ != nullptr) {
      kernel->links = kernel_->links;
      kernel->ports = kernel_->ports;
      kernel->attached = kernel_->attached;
    }
    kernel_ = kernel.get();
    fast_path_ = std::make_unique<FastPath>(executor_, nft_, std::move(kernel), config_);
  }
  void Restart(const std::vector<PodLink>& pods) {
    auto gone = std::move(fast_path_);  // its kernel is read once more
    Start();
    executor_.Advance(seconds(5));  // nothing is taken for gone before it is known what is there
    for (const PodLink& pod : pods) fast_path_->Joined(pod);
    fast_path_->Recovered();
    executor_.Advance(seconds(1));
  }

  PodLink AddPod(const std::string& name, int link, bool limited = false) {
    kernel_->links[name] = link;
    kernel_->ports.insert(name);
    return {.host_interface = name,
            .addresses = {Address("10.244.1." + std::to_string(link)),
                          Address("fd42::" + std::to_string(link))},
            .limited = limited};
  }
  std::string TrackingFile(const std::string& name) {
    return root_.path() + "/net/netfilter/nf_conntrack_tcp_" + name;
  }
  void SetTracking(const std::string& name, const std::string& value) {
    ASSERT_TRUE(WriteFileAtomic(TrackingFile(name), value + "\n").ok());
  }
  void WriteTracking(const std::string& value) { SetTracking("be_liberal", value); }
  std::string ReadTracking(const std::string& name) {
    const std::string text = ReadFile(TrackingFile(name)).value();
    return text.substr(0, text.find('\n'));
  }
  std::string Tracking() { return ReadTracking("be_liberal"); }
  size_t Rules() { return nft_.CountRules(FastPathTable(), kFastPathChain).value_or(0); }

  TempDir root_ = TempDir::Make().value();
  ManualExecutor executor_;
  net::FakeNft nft_;
  FastPathConfig config_;
  FakeFastPathKernel* kernel_ = nullptr;
  std::unique_ptr<FastPath> fast_path_;
};

TEST_F(FastPathTest, PodsAreAttachedTogetherSomeTimeAfterTheyCame) {
  fast_path_->Joined(AddPod("a", 3));
  fast_path_->Joined(AddPod("b", 4));
  executor_.Advance(milliseconds(900));
  EXPECT_FALSE(kernel_->loaded);
  executor_.Advance(milliseconds(100));
  EXPECT_THAT(kernel_->attached, ElementsAre(Pair(3, Role::kPod), Pair(4, Role::kPod)));
  EXPECT_THAT(kernel_->pods,
              UnorderedElementsAre(Pair(Address("10.244.1.3"), 3), Pair(Address("fd42::3"), 3),
                                   Pair(Address("10.244.1.4"), 4), Pair(Address("fd42::4"), 4)));
  EXPECT_EQ(Rules(), 1u);
  EXPECT_EQ(Tracking(), "1");
  EXPECT_EQ(fast_path_->Taken(), 7u);
  fast_path_->Joined(AddPod("c", 5));
  executor_.Advance(seconds(1));
  EXPECT_EQ(kernel_->attachments, 3) << "those that are attached are left alone";
}

TEST_F(FastPathTest, APodThatIsGoneSoonCostsNothing) {
  const PodLink pod = AddPod("a", 3);
  fast_path_->Joined(pod);
  fast_path_->Leaves(pod);
  executor_.Advance(seconds(5));
  EXPECT_EQ(kernel_->attachments, 0);
  EXPECT_FALSE(kernel_->loaded);
}

TEST_F(FastPathTest, APodThatLeavesIsForgottenAtOnce) {
  const PodLink pod = AddPod("a", 3);
  fast_path_->Joined(pod);
  executor_.Advance(seconds(1));
  fast_path_->Leaves(pod);
  EXPECT_THAT(kernel_->pods, IsEmpty());
  // The same sandbox again: another link of the same name.
  fast_path_->Joined(AddPod("a", 9));
  executor_.Advance(seconds(1));
  EXPECT_TRUE(kernel_->attached.contains(9));
  EXPECT_THAT(kernel_->pods, SizeIs(2));
}

TEST_F(FastPathTest, APodWhoseLinkIsGoneAlreadyIsLeftOut) {
  fast_path_->Joined(AddPod("a", 3));
  fast_path_->Joined(AddPod("b", 4));
  kernel_->links.erase("a");
  executor_.Advance(seconds(1));
  EXPECT_THAT(kernel_->attached, ElementsAre(Pair(4, Role::kPod)));
}

TEST_F(FastPathTest, LimitedPodsAreKnownButKeepTheirLinks) {
  fast_path_->Joined(AddPod("a", 3, /*limited=*/true));
  executor_.Advance(seconds(1));
  EXPECT_THAT(kernel_->attached, IsEmpty());
  EXPECT_THAT(kernel_->pods, SizeIs(2));
  executor_.Advance(seconds(60));
  EXPECT_THAT(kernel_->attached, IsEmpty());
}

TEST_F(FastPathTest, TheOverlayIsTakenInAndFollowed) {
  kernel_->links["skiff-vxlan"] = 2;
  fast_path_->Joined(AddPod("a", 3));
  executor_.Advance(seconds(1));
  EXPECT_THAT(kernel_->attached, ElementsAre(Pair(2, Role::kOverlay), Pair(3, Role::kPod)));
  EXPECT_EQ(Rules(), 2u);
  // Made anew: another link.
  kernel_->attached.erase(2);
  kernel_->links["skiff-vxlan"] = 8;
  fast_path_->LinksChanged();
  executor_.Advance(seconds(1));
  EXPECT_TRUE(kernel_->attached.contains(8));
  kernel_->attached.erase(8);
  kernel_->links.erase("skiff-vxlan");
  fast_path_->LinksChanged();
  executor_.Advance(seconds(1));
  EXPECT_EQ(Rules(), 1u) << "nobody would take the mark off";
}

TEST_F(FastPathTest, WhatSomebodyTookAwayComesBack) {
  fast_path_->Joined(AddPod("a", 3));
  executor_.Advance(seconds(1));
  kernel_->attached.clear();
  executor_.Advance(seconds(31));
  EXPECT_TRUE(kernel_->attached.contains(3));
  ASSERT_TRUE(net::RemoveTable(nft_, FastPathTable()).ok());
  executor_.Advance(seconds(31));
  EXPECT_EQ(Rules(), 1u);
}

TEST_F(FastPathTest, ANewProcessPutsItsOwnProgramsInThePlaceOfTheOld) {
  const PodLink pod = AddPod("a", 3);
  fast_path_->Joined(pod);
  executor_.Advance(seconds(1));
  Restart({pod});
  EXPECT_EQ(kernel_->attachments, 1);
  EXPECT_THAT(kernel_->pods, SizeIs(2));
  EXPECT_EQ(ReadFile(config_.record).value(),
            "nf_conntrack_tcp_be_liberal 0\nnf_conntrack_tcp_ignore_invalid_rst 0\n"
            "nf_conntrack_tcp_timeout_unacknowledged 300\n")
      << "as it was before the first";
}

TEST_F(FastPathTest, SwitchedOffNothingIsLeft) {
  kernel_->links["skiff-vxlan"] = 2;
  const PodLink pod = AddPod("a", 3);
  fast_path_->Joined(pod);
  executor_.Advance(seconds(1));
  config_.allowed = false;
  Restart({pod});
  EXPECT_THAT(kernel_->attached, IsEmpty());
  EXPECT_FALSE(nft_.TableHandle(FastPathTable()).ok());
  EXPECT_EQ(Tracking(), "1") << "while connections may be there that took it";
  fast_path_->Leaves(pod);
  executor_.Advance(seconds(1));
  EXPECT_EQ(Tracking(), "0");
  EXPECT_FALSE(PathExists(config_.record));
  fast_path_->Joined(AddPod("b", 4));
  executor_.Advance(seconds(60));
  EXPECT_THAT(kernel_->attached, IsEmpty());
}

TEST_F(FastPathTest, ItGoesWithTheLastPodAndComesWithTheNext) {
  kernel_->links["skiff-vxlan"] = 2;
  const PodLink pod = AddPod("a", 3);
  fast_path_->Joined(pod);
  executor_.Advance(seconds(1));
  fast_path_->Leaves(pod);
  executor_.Advance(seconds(1));
  EXPECT_FALSE(kernel_->loaded);
  EXPECT_THAT(kernel_->attached, IsEmpty());
  EXPECT_FALSE(nft_.TableHandle(FastPathTable()).ok());
  EXPECT_EQ(Tracking(), "0");
  fast_path_->Joined(AddPod("b", 4));
  executor_.Advance(seconds(1));
  EXPECT_THAT(kernel_->attached, ElementsAre(Pair(2, Role::kOverlay), Pair(4, Role::kPod)));
  EXPECT_EQ(Rules(), 2u);
}

TEST_F(FastPathTest, WhatAnEarlierProcessLeftGoesWhereThereAreNoPods) {
  fast_path_->Joined(AddPod("a", 3));
  executor_.Advance(seconds(1));
  Restart({});
  EXPECT_THAT(kernel_->attached, IsEmpty());
  EXPECT_FALSE(nft_.TableHandle(FastPathTable()).ok());
}

TEST_F(FastPathTest, PluginsThatMakeTheNetworkEndIt) {
  fast_path_->Joined(AddPod("a", 3));
  executor_.Advance(seconds(1));
  fast_path_->SetWanted(false);
  executor_.Advance(seconds(1));
  EXPECT_THAT(kernel_->attached, IsEmpty());
  EXPECT_FALSE(kernel_->loaded);
  EXPECT_FALSE(nft_.TableHandle(FastPathTable()).ok());
  fast_path_->SetWanted(true);
  executor_.Advance(seconds(1));
  EXPECT_TRUE(kernel_->attached.contains(3)) << "it is there still";
}

TEST_F(FastPathTest, TrackingIsLoosenedAndRestored) {
  WriteTracking("1");  // by an administrator
  fast_path_->Joined(AddPod("a", 3));
  executor_.Advance(seconds(1));
  EXPECT_EQ(ReadTracking("ignore_invalid_rst"), "1");
  EXPECT_EQ(ReadTracking("timeout_unacknowledged"), "432");
  EXPECT_TRUE(RemoveFastPath(nft_, config_).ok());
  EXPECT_EQ(Tracking(), "1") << "as it was";
  EXPECT_EQ(ReadTracking("ignore_invalid_rst"), "0");
  EXPECT_EQ(ReadTracking("timeout_unacknowledged"), "300");
  EXPECT_FALSE(PathExists(config_.record));
}

TEST_F(FastPathTest, AnOlderKernelHasNoSettingForResets) {
  ASSERT_TRUE(RemoveFile(TrackingFile("ignore_invalid_rst")).ok());
  fast_path_->Joined(AddPod("a", 3));
  executor_.Advance(seconds(1));
  EXPECT_EQ(Tracking(), "1");
  EXPECT_EQ(Rules(), 1u);
}

TEST_F(FastPathTest, ARecordThatIsNoneIsNotFollowed) {
  ASSERT_TRUE(WriteFileAtomic(config_.record,
                              "../../kernel/panic 1\nnf_conntrack_tcp_be_liberal "
                              "x\nnf_conntrack_tcp_timeout_unacknowledged 200")
                  .ok());
  EXPECT_TRUE(RemoveFastPath(nft_, config_).ok());
  EXPECT_EQ(Tracking(), "0");
  EXPECT_EQ(ReadTracking("timeout_unacknowledged"), "200");
}

TEST_F(FastPathTest, AKernelThatCannotIsAskedOnce) {
  kernel_->load_error = Error(Code::kUnimplemented, "no BPF");
  fast_path_->Joined(AddPod("a", 3));
  executor_.Advance(seconds(1));
  kernel_->load_error.reset();
  fast_path_->Joined(AddPod("b", 4));
  executor_.Advance(seconds(60));
  EXPECT_FALSE(kernel_->loaded);
  EXPECT_FALSE(nft_.TableHandle(FastPathTable()).ok());
  EXPECT_EQ(Tracking(), "0");
}

TEST_F(FastPathTest, AKernelThatRunsNoProgramsOnLinksIsLeftAsItWas) {
  kernel_->attach_error = Error(Code::kUnimplemented, "no clsact");
  fast_path_->Joined(AddPod("a", 3));
  executor_.Advance(seconds(1));
  EXPECT_FALSE(kernel_->loaded);
  EXPECT_FALSE(nft_.TableHandle(FastPathTable()).ok());
  EXPECT_EQ(Tracking(), "0");
}

TEST_F(FastPathTest, WithoutLooseTrackingNothingTakesIt) {
  ASSERT_TRUE(RemoveFile(TrackingFile("be_liberal")).ok());
  fast_path_->Joined(AddPod("a", 3));
  executor_.Advance(seconds(60));
  EXPECT_FALSE(kernel_->loaded);
  EXPECT_THAT(kernel_->attached, IsEmpty());
  EXPECT_FALSE(nft_.TableHandle(FastPathTable()).ok());
}

TEST_F(FastPathTest, WithoutNftablesNothingIsLeftBehind) {
  nft_.FailNext(Error::Sys(EOPNOTSUPP, "add table"));
  fast_path_->Joined(AddPod("a", 3));
  executor_.Advance(seconds(60));
  EXPECT_FALSE(kernel_->loaded);
  EXPECT_THAT(kernel_->attached, IsEmpty());
}

TEST_F(FastPathTest, WhatFailsIsTriedAgain) {
  kernel_->attach_error = Error(Code::kUnavailable, "busy");
  fast_path_->Joined(AddPod("a", 3));
  executor_.Advance(seconds(1));
  EXPECT_EQ(Rules(), 0u);
  kernel_->attach_error.reset();
  executor_.Advance(seconds(2));
  EXPECT_TRUE(kernel_->attached.contains(3));
  EXPECT_EQ(Rules(), 1u);
}

TEST(FastPathRulesTest, MarkWhatIsEstablishedAndNotTranslated) {
  net::FakeNft nft;
  for (int times = 0; times < 2; ++times) {  // what is there already is replaced
    ASSERT_TRUE(nft.Commit(PlanFastPathRules({"skiff0", "skiff-vxlan"})).ok());
    EXPECT_THAT(nft.Rules(FastPathTable(), kFastPathChain), SizeIs(2));
  }
  const auto chains = nft.List(FastPathTable()).value().chains;
  ASSERT_THAT(chains, SizeIs(1));
  EXPECT_EQ(chains[0].base->hook, net::nft::Hook::kForward);
  EXPECT_GT(chains[0].base->priority, net::nft::kPriorityFilter + 11) << "behind the policies";
}

}  // namespace
}  // namespace skiff::cni
