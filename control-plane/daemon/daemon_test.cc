#include <gtest/gtest.h>

#include "base/os/files.h"
#include "control-plane/daemon/config.h"
#include "control-plane/daemon/identity.h"

namespace skiff::cp {
namespace {

TEST(ConfigTest, TheFileOverridesDefaults) {
  Config config;
  ASSERT_TRUE(config
                  .ApplyYaml("dataDir: /d\nnodePortRange: 31000-31999\nnodeCidrMaskSize: 25\n"
                             "certificateNames: [a, b]\n")
                  .ok());
  EXPECT_EQ(config.data_dir, "/d");
  EXPECT_EQ(config.first_node_port, 31000);
  EXPECT_EQ(config.last_node_port, 31999);
  EXPECT_EQ(config.node_cidr_mask_size, 25);
  EXPECT_EQ(config.certificate_names, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(config.service_cidrs, std::vector<std::string>{"10.96.0.0/16"});
  EXPECT_TRUE(config.ApplyYaml("").ok());
  EXPECT_TRUE(config.ApplyYaml("# only a comment\n").ok());
}

TEST(ConfigTest, MistakesAreNamedWithTheirLine) {
  auto message = [](const char* text) {
    auto applied = Config().ApplyYaml(text);
    return applied.ok() ? std::string("accepted") : applied.error().message();
  };
  EXPECT_EQ(message("dataDir: /d\ndataDirr: /e\n"), "line 2: unknown setting \"dataDirr\"");
  EXPECT_EQ(message("\nnodeCidrMaskSize: many\n"), "line 2: nodeCidrMaskSize must be a number");
  EXPECT_EQ(message("nodePortRange: 5\n"),
            "line 1: nodePortRange: \"5\" is no port range, want FIRST-LAST");
  EXPECT_EQ(message("certificateNames: a\n"), "line 1: certificateNames must be a list");
  EXPECT_NE(message("a: [\n"), "accepted");
  EXPECT_NE(message("- a\n"), "accepted");
}

TEST(ConfigTest, TheAdvertiseAddressIsAnAddress) {
  Config config;
  ASSERT_TRUE(config.FillDefaults().ok());
  EXPECT_FALSE(config.advertise_address.empty());
  config.advertise_address = "example.com";
  EXPECT_FALSE(config.FillDefaults().ok());
}

TEST(ConfigTest, BothFamiliesAreAListOrSeparatedByCommas) {
  for (const char* text : {"clusterCidr: 10.244.0.0/16,fd00:1::/48\nserviceCidr: [10.96.0.0/16, "
                           "fd00:2::/108]\nnodeCidrMaskSizeIpv6: 72\n",
                           "clusterCidr: [10.244.0.0/16, fd00:1::/48]\nserviceCidr: "
                           "'10.96.0.0/16, fd00:2::/108'\nnodeCidrMaskSizeIpv6: 72\n"}) {
    Config config;
    config.advertise_address = "10.0.0.1";
    ASSERT_TRUE(config.ApplyYaml(text).ok());
    ASSERT_TRUE(config.FillDefaults().ok());
    EXPECT_EQ(config.cluster_cidrs, (std::vector<std::string>{"10.244.0.0/16", "fd00:1::/48"}));
    EXPECT_EQ(config.node_cidr_mask_size_ipv6, 72);
    EXPECT_EQ(config.cluster_dns, (std::vector<std::string>{"10.96.0.10", "fd00:2::a"}));
    EXPECT_EQ(config.listen_address, "[::]:6443");
  }
  Config alone;
  alone.advertise_address = "10.0.0.1";
  ASSERT_TRUE(alone.FillDefaults().ok());
  EXPECT_EQ(alone.node_link_address, "0.0.0.0:6444");
  EXPECT_EQ(alone.cluster_dns, std::vector<std::string>{"10.96.0.10"});
}

TEST(ConfigTest, AnIpv6ClusterAdvertisesAnIpv6Address) {
  Config config;
  ASSERT_TRUE(config
                  .ApplyYaml("clusterCidr: fd00:1::/48\nserviceCidr: fd00:2::/108\n"
                             "clusterDns: fd00:2::53\n")
                  .ok());
  Config v4 = config;
  ASSERT_TRUE(config.FillDefaults().ok());
  EXPECT_NE(config.advertise_address.find(':'), std::string::npos);
  EXPECT_EQ(config.cluster_dns, std::vector<std::string>{"fd00:2::53"});
  v4.advertise_address = "10.0.0.1";
  EXPECT_FALSE(v4.FillDefaults().ok());
}

TEST(ConfigTest, RangesFitTogether) {
  auto error = [](const char* text) {
    Config config;
    config.advertise_address = "10.0.0.1";
    auto applied = config.ApplyYaml(text);
    if (applied.ok()) applied = config.FillDefaults();
    return applied.ok() ? std::string("accepted") : applied.error().message();
  };
  EXPECT_NE(error("clusterCidr: 10.0.0.0/8,11.0.0.0/8\n").find("at most one a family"),
            std::string::npos);
  EXPECT_NE(error("serviceCidr: 10.96.0.0/16,fd00::/108\n").find("clusterCidr has no IPv6 range"),
            std::string::npos);
  EXPECT_NE(error("clusterDns: 10.0.0.10\n").find("is not in serviceCidr"), std::string::npos);
  EXPECT_NE(error("clusterCidr: ten\n"), "accepted");
  EXPECT_NE(error("clusterCidr: []\n"), "accepted");
}

class IdentityTest : public testing::Test {
 protected:
  IdentityOptions Options(const std::string& url = "https://10.0.0.1:6443") {
    return {directory_.path() + "/data",
            directory_.path() + "/etc/admin.kubeconfig",
            {"kubernetes", "10.0.0.1"},
            url};
  }
  std::string Kubeconfig() { return ReadFile(Options().kubeconfig).value(); }

  TempDir directory_ = TempDir::Make().value();
  WallTime now_ = Clock::Real().WallNow();
};

TEST_F(IdentityTest, IsMadeOnceAndKept) {
  auto first = EnsureIdentity(Options(), now_);
  ASSERT_TRUE(first.ok()) << first.error().ToString();
  EXPECT_TRUE(first->server_renewed);
  std::string kubeconfig = Kubeconfig();
  auto second = EnsureIdentity(Options(), now_).value();
  EXPECT_FALSE(second.server_renewed);
  EXPECT_EQ(second.ca.certificate_pem, first->ca.certificate_pem);
  EXPECT_EQ(second.server.certificate_pem, first->server.certificate_pem);
  EXPECT_EQ(Kubeconfig(), kubeconfig);
  auto admin = pki::ReadCertificate(ClientCertificateOf(kubeconfig)).value();
  EXPECT_EQ(admin.subject.common_name, "kubernetes-admin");
  EXPECT_EQ(admin.subject.organizations, std::vector<std::string>{"system:masters"});
}

TEST_F(IdentityTest, FollowsNewNamesAndAddresses) {
  auto first = EnsureIdentity(Options(), now_).value();
  auto options = Options("https://10.0.0.2:6443");
  options.names.push_back("10.0.0.2");
  auto second = EnsureIdentity(options, now_).value();
  EXPECT_TRUE(second.server_renewed);
  EXPECT_EQ(second.ca.certificate_pem, first.ca.certificate_pem);
  EXPECT_NE(Kubeconfig().find("https://10.0.0.2:6443"), std::string::npos);
}

TEST_F(IdentityTest, RenewsInTime) {
  auto first = EnsureIdentity(Options(), now_).value();
  std::string kubeconfig = Kubeconfig();
  auto later = EnsureIdentity(Options(), now_ + pki::kLeafValidity * 3 / 4).value();
  EXPECT_TRUE(later.server_renewed);
  EXPECT_EQ(later.ca.certificate_pem, first.ca.certificate_pem);
  EXPECT_NE(Kubeconfig(), kubeconfig);
}

TEST_F(IdentityTest, ADamagedCaIsNotReplaced) {
  ASSERT_TRUE(EnsureIdentity(Options(), now_).ok());
  ASSERT_TRUE(WriteFileAtomic(Options().data_dir + "/pki/ca.key", "nonsense").ok());
  EXPECT_FALSE(EnsureIdentity(Options(), now_).ok());
}

}  // namespace
}  // namespace skiff::cp
