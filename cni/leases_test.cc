#include "cni/leases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/os/files.h"
#include "cni/test_addresses.h"

namespace skiff::cni {
namespace {

using ::testing::HasSubstr;

class LeasesTest : public ::testing::Test {
 protected:
  std::unique_ptr<LeaseTable> Open(const std::string& boot = "boot-1") {
    return LeaseTable::Open(dir_.path(), boot).value();
  }
  static Lease Draft(const std::string& id) {
    Lease lease{.sandbox_id = id,
                .netns_path = "/run/netns/" + id,
                .pod_namespace = "default",
                .pod_name = "pod-" + id,
                .pod_uid = "uid"};
    lease.attachment.interface = "eth0";
    lease.attachment.mtu = 1450;
    return lease;
  }
  // The first address given, or the error's name.
  std::string Acquire(LeaseTable& table, const std::string& id,
                      const std::vector<net::IpAddress>& requested = {}) {
    auto lease = table.Acquire(Draft(id), requested, cidrs_);
    if (!lease.ok()) return std::string(CodeName(lease.error().code()));
    return lease->attachment.addresses.front().address.ToString();
  }

  TempDir dir_ = TempDir::Make().value();
  std::vector<net::IpPrefix> cidrs_ = {Prefix("10.244.7.0/29")};
};

TEST_F(LeasesTest, GivesEachSandboxItsOwnAddressUntilNoneIsLeft) {
  auto table = Open();
  std::set<std::string> given;
  for (int i = 0; i < 5; ++i) given.insert(Acquire(*table, "s" + std::to_string(i)));
  // A /29 less network, gateway and broadcast.
  EXPECT_EQ(given, (std::set<std::string>{"10.244.7.2", "10.244.7.3", "10.244.7.4", "10.244.7.5",
                                          "10.244.7.6"}));
  EXPECT_EQ(Acquire(*table, "s9"), "ResourceExhausted");
  ASSERT_TRUE(table->Retire("s3").ok());
  EXPECT_EQ(Acquire(*table, "s9"), "10.244.7.5");
}

TEST_F(LeasesTest, DoesNotGiveAFreedAddressAtOnce) {
  auto table = Open();
  EXPECT_EQ(Acquire(*table, "a"), "10.244.7.2");
  ASSERT_TRUE(table->Retire("a").ok());
  EXPECT_EQ(Acquire(*table, "b"), "10.244.7.3");
}

TEST_F(LeasesTest, ARetiredLeaseIsRememberedUntilForgotten) {
  auto table = Open();
  EXPECT_EQ(Acquire(*table, "a"), "10.244.7.2");
  ASSERT_TRUE(table->Retire("a").ok());
  EXPECT_EQ(table->Find("a"), std::nullopt);
  EXPECT_EQ(Acquire(*table, "b", {Address("10.244.7.2")}), "10.244.7.2") << "it is free";
  auto again = Open();
  EXPECT_EQ(again->RetiredBefore(), std::vector<std::string>{"a"});
  EXPECT_EQ(again->All().size(), 1u);
  ASSERT_TRUE(again->Forget("a").ok());
  EXPECT_TRUE(Open()->RetiredBefore().empty());
}

TEST_F(LeasesTest, BothFamilies) {
  cidrs_ = {Prefix("fd00:244:7::/64"), Prefix("10.244.7.0/24")};
  auto table = Open();
  auto lease = table->Acquire(Draft("a"), {}, cidrs_);
  ASSERT_TRUE(lease.ok());
  EXPECT_EQ(lease->attachment.addresses,
            (std::vector<PodAddress>{{Address("fd00:244:7::2"), Address("fd00:244:7::1")},
                                     {Address("10.244.7.2"), Address("10.244.7.1")}}));
}

TEST_F(LeasesTest, RequestedAddresses) {
  auto table = Open();
  EXPECT_EQ(Acquire(*table, "a", {Address("10.244.7.5")}), "10.244.7.5");
  EXPECT_EQ(Acquire(*table, "b", {Address("10.244.7.5")}), "AlreadyExists");
  EXPECT_EQ(Acquire(*table, "b", {Address("10.244.7.1")}), "InvalidArgument");
  EXPECT_EQ(Acquire(*table, "b", {Address("10.244.7.7")}), "InvalidArgument");
  EXPECT_EQ(Acquire(*table, "b", {Address("10.9.9.9")}), "InvalidArgument");
  EXPECT_EQ(Acquire(*table, "b", {Address("fd00::1")}), "InvalidArgument");
  EXPECT_EQ(table->All().size(), 1u);
}

TEST_F(LeasesTest, SurvivesARestartButNotAReboot) {
  auto table = Open();
  Lease draft = Draft("a");
  draft.ports = {{Protocol::kUdp, 53, 5353, Address("10.0.0.1")}, {Protocol::kTcp, 80, 8080, {}}};
  draft.bandwidth = {.ingress_bits = 10'000'000, .egress_bits = 1'000};
  Lease lease = table->Acquire(draft, {}, cidrs_).value();

  auto again = Open();
  auto found = again->Find("a");
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(RenderLease(*found), RenderLease(lease));
  EXPECT_EQ(found->ports, draft.ports);
  EXPECT_EQ(found->bandwidth, draft.bandwidth);
  EXPECT_EQ(Acquire(*again, "b"), "10.244.7.3") << "goes on behind the highest in use";

  auto rebooted = Open("boot-2");
  EXPECT_TRUE(rebooted->All().empty());
  EXPECT_EQ(ListDirectory(dir_.path() + "/leases").value(), std::vector<std::string>{"boot-2"});
}

TEST_F(LeasesTest, HostPortsHaveOneOwner) {
  auto table = Open();
  auto acquire = [&](const std::string& id, PortMapping port) -> Result<Lease> {
    Lease draft = Draft(id);
    draft.ports = {port};
    return table->Acquire(draft, {}, cidrs_);
  };
  ASSERT_TRUE(acquire("a", {Protocol::kTcp, 80, 8080, {}}).ok());
  auto clash = acquire("b", {Protocol::kTcp, 80, 9090, Address("10.0.0.1")});
  ASSERT_FALSE(clash.ok());
  EXPECT_EQ(clash.error().code(), Code::kAlreadyExists);
  EXPECT_THAT(clash.error().message(), HasSubstr("host port 80/tcp belongs to pod default/pod-a"));
  EXPECT_TRUE(acquire("c", {Protocol::kUdp, 80, 8080, {}}).ok());
  EXPECT_TRUE(acquire("d", {Protocol::kTcp, 81, 8080, Address("10.0.0.1")}).ok());
  EXPECT_TRUE(acquire("e", {Protocol::kTcp, 81, 8080, Address("10.0.0.2")}).ok());
}

TEST_F(LeasesTest, AFailureToWriteLeavesNoLease) {
  auto table = Open();
  ASSERT_TRUE(RemoveTree(dir_.path() + "/leases/boot-1").ok());
  EXPECT_NE(Acquire(*table, "a"), "10.244.7.2");
  EXPECT_TRUE(table->All().empty());
  ASSERT_TRUE(MakeDirectories(dir_.path() + "/leases/boot-1").ok());
  EXPECT_EQ(Acquire(*table, "a"), "10.244.7.3");
}

TEST_F(LeasesTest, NamesADamagedFile) {
  auto table = Open();
  Acquire(*table, "a");
  std::string path = dir_.path() + "/leases/boot-1/a.json";
  for (std::string_view text : {"", "{", "[]", "{\"version\":1}", "{\"version\":99}"}) {
    ASSERT_TRUE(WriteFileAtomic(path, text, Durability::kNone).ok());
    auto opened = LeaseTable::Open(dir_.path(), "boot-1");
    ASSERT_FALSE(opened.ok()) << text;
    EXPECT_EQ(opened.error().code(), Code::kDataLoss);
    EXPECT_THAT(opened.error().message(), HasSubstr(path));
  }
}

TEST(Leases, SandboxIdsAreFileNames) {
  EXPECT_TRUE(IsValidSandboxId("0123abcdef"));
  EXPECT_TRUE(IsValidSandboxId("a_b-c.d"));
  for (std::string_view id : {"", ".", "..", "a/b", "a b", ".hidden", "a\n"}) {
    EXPECT_FALSE(IsValidSandboxId(id)) << id;
  }
  EXPECT_FALSE(IsValidSandboxId(std::string(129, 'a')));
}

TEST(Leases, MacsFollowAddresses) {
  EXPECT_EQ(MacOf(Address("10.244.0.5")), "0a:58:0a:f4:00:05");
  EXPECT_NE(MacOf(Address("fd00:1::5")), MacOf(Address("fd00:2::5")));
  EXPECT_EQ(HostInterfaceOf("abc"), "vethba7816bf8f");
}

}  // namespace
}  // namespace skiff::cni
