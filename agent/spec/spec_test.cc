// First: CRI's enum Signal has the names that signal.h, which gtest brings, defines as macros.
#include "proto/cri/runtime/v1/api.pb.h"

// clang-format off: after the above.
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
// clang-format on

#include "agent/spec/dns.h"
#include "agent/spec/pod_config.h"
#include "agent/spec/resources.h"
#include "agent/spec/security.h"
#include "agent/spec/shape.h"
#include "agent/spec/user_namespace.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
namespace cri = ::runtime::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

core::Pod PodOf(const std::string& spec) {
  core::Pod pod;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      R"(metadata { name: "web" namespace: "shop" uid: "u1" } spec { )" + spec + " }", &pod));
  return pod;
}

std::string Resources(const std::string& requests, const std::string& limits) {
  std::string text = "resources { ";
  for (const auto& [kind, list] : {std::pair("requests", requests), std::pair("limits", limits)}) {
    size_t start = 0;
    while (start < list.size()) {
      size_t end = std::min(list.find(' ', start), list.size());
      std::string item = list.substr(start, end - start);
      size_t equals = item.find('=');
      text += std::string(kind) + " { key: \"" + item.substr(0, equals) + "\" value { string: \"" +
              item.substr(equals + 1) + "\" } } ";
      start = end + 1;
    }
  }
  return text + "}";
}

TEST(QosTest, FollowsTheTable) {
  struct Case {
    std::string requests, limits;
    QosClass qos;
  };
  const Case kCases[] = {
      {"", "", QosClass::kBestEffort},
      {"cpu=0", "", QosClass::kBestEffort},
      {"cpu=100m", "", QosClass::kBurstable},
      {"", "memory=1Gi", QosClass::kBurstable},
      {"cpu=1 memory=1Gi", "cpu=1 memory=1Gi", QosClass::kGuaranteed},
      {"", "cpu=1 memory=1Gi", QosClass::kGuaranteed},
      {"cpu=500m memory=1Gi", "cpu=1 memory=1Gi", QosClass::kBurstable},
      {"cpu=1000m memory=1024Mi", "cpu=1 memory=1Gi", QosClass::kGuaranteed},
  };
  for (const Case& c : kCases) {
    core::Pod pod = PodOf("containers { name: \"a\" " + Resources(c.requests, c.limits) + " }");
    EXPECT_EQ(QosOf(pod), c.qos) << c.requests << " / " << c.limits;
  }
}

TEST(ResourcesTest, NumbersAreTheKernels) {
  EXPECT_EQ(MilliCpuToShares(0), 2);
  EXPECT_EQ(MilliCpuToShares(1000), 1024);
  EXPECT_EQ(MilliCpuToShares(1'000'000), 262144);
  EXPECT_EQ(MilliCpuToQuota(0), 0);
  EXPECT_EQ(MilliCpuToQuota(1500), 150'000);
  EXPECT_EQ(MilliCpuToQuota(1), 1000);
}

TEST(ResourcesTest, OomScoreFollowsQosAndRequest) {
  constexpr int64_t kCapacity = int64_t{8} << 30;
  auto score = [&](const std::string& resources, const std::string& more = "") {
    core::Pod pod = PodOf(more + "containers { name: \"a\" " + resources + " }");
    return OomScoreAdj(pod, pod.spec().containers(0), kCapacity);
  };
  EXPECT_EQ(score(""), 1000);
  EXPECT_EQ(score(Resources("", "cpu=1 memory=1Gi")), -997);
  EXPECT_EQ(score(Resources("memory=4Gi", "")), 500);
  EXPECT_EQ(score(Resources("memory=1", "")), 999);
  EXPECT_EQ(score(Resources("memory=8Gi", "")), 3);
  EXPECT_EQ(score("", "priority: 2000000000 "), -997);
}

TEST(ResourcesTest, ThePodsCgroupIsTheSumWithLimitsWhereAllHaveThem) {
  core::Pod pod =
      PodOf("containers { name: \"a\" " + Resources("cpu=250m", "memory=64Mi") +
            " } containers { name: \"b\" " + Resources("cpu=250m", "memory=64Mi") +
            " } init_containers { name: \"i\" " + Resources("cpu=2", "memory=32Mi") + " }");
  cri::LinuxContainerResources resources;
  FillPodResources(pod, WithOverhead::kNo, &resources);
  EXPECT_EQ(resources.cpu_shares(), 2048) << "the init container asks for more than all others";
  EXPECT_EQ(resources.memory_limit_in_bytes(), 128 << 20);
  EXPECT_EQ(resources.cpu_quota(), 0);
  (*pod.mutable_spec()->mutable_overhead())["cpu"].set_string("500m");
  (*pod.mutable_spec()->mutable_overhead())["memory"].set_string("16Mi");
  FillPodResources(pod, WithOverhead::kYes, &resources);
  EXPECT_EQ(resources.cpu_shares(), 2560);
  EXPECT_EQ(resources.memory_limit_in_bytes(), 144 << 20);
  EXPECT_EQ(PodCpuRequestMilli(pod), 2500);
  cri::PodSandboxConfig sandbox;
  NodeContext any;
  ASSERT_TRUE(FillSandboxConfig(pod, 0, any, DnsConfig(), &sandbox).ok());
  EXPECT_EQ(sandbox.linux().resources().memory_limit_in_bytes(), 128 << 20);
  EXPECT_EQ(sandbox.linux().overhead().memory_limit_in_bytes(), 16 << 20);
  EXPECT_EQ(sandbox.linux().overhead().cpu_quota(), 50'000);
  NodeContext node;
  node.cgroup_root = "/skiff-a";
  EXPECT_EQ(PodCgroup(pod, node), "/skiff-a/kubepods/burstable/podu1");
}

TEST(DnsTest, PoliciesGiveKubernetesNames) {
  NodeContext node;
  node.cluster_dns = {"10.96.0.10"};
  DnsConfig host = ParseResolvConf(
      "# comment\nnameserver 192.0.2.53\nsearch corp.example. corp.example\noptions rotate\n");
  EXPECT_THAT(host.searches, ElementsAre("corp.example"));
  DnsConfig dns = PodDns(PodOf("dns_policy: \"ClusterFirst\""), node, host);
  EXPECT_THAT(dns.servers, ElementsAre("10.96.0.10"));
  EXPECT_THAT(dns.searches, ElementsAre("shop.svc.cluster.local", "svc.cluster.local",
                                        "cluster.local", "corp.example"));
  EXPECT_THAT(dns.options, ElementsAre("ndots:5"));
  EXPECT_EQ(PodDns(PodOf("dns_policy: \"Default\""), node, host), host);
  EXPECT_EQ(PodDns(PodOf("dns_policy: \"ClusterFirst\" host_network: true"), node, host), host);
  EXPECT_THAT(
      PodDns(PodOf("dns_policy: \"ClusterFirstWithHostNet\" host_network: true"), node, host)
          .servers,
      ElementsAre("10.96.0.10"));
  dns = PodDns(PodOf(R"(dns_policy: "None" dns_config { nameservers: "1.1.1.1" searches: "a.b"
                        options { name: "ndots" value: "2" } options { name: "edns0" } })"),
               node, host);
  EXPECT_THAT(dns.servers, ElementsAre("1.1.1.1"));
  EXPECT_THAT(dns.options, ElementsAre("ndots:2", "edns0"));
  dns = PodDns(PodOf(R"(dns_config { options { name: "ndots" value: "2" } })"), node, host);
  EXPECT_THAT(dns.options, ElementsAre("ndots:2")) << "the pod's own option replaces the default";
}

TEST(DnsTest, HostsAndHostname) {
  NodeContext node;
  EXPECT_EQ(PodHostname(PodOf(""), node), "web");
  EXPECT_EQ(PodHostname(PodOf("host_network: true"), node), "");
  EXPECT_EQ(PodHostname(PodOf("hostname: \"h\" subdomain: \"s\" set_hostname_as_fqdn: true"), node),
            "h.s.shop.svc.cluster.local");
  core::Pod pod = PodOf(std::string("hostname: \"") + std::string(62, 'x') + "-y\"");
  EXPECT_EQ(PodHostname(pod, node), std::string(62, 'x'));
  std::string hosts = HostsFile(
      PodOf(R"(subdomain: "s" host_aliases { ip: "10.1.1.1" hostnames: "a" hostnames: "b" })"),
      node, {"10.244.0.2"}, "");
  EXPECT_THAT(hosts, HasSubstr("10.244.0.2\tweb.s.shop.svc.cluster.local\tweb\n"));
  EXPECT_THAT(hosts, HasSubstr("# Entries added by HostAliases.\n10.1.1.1\ta\tb\n"));
  EXPECT_THAT(HostsFile(PodOf("host_network: true"), node, {}, "127.0.0.1 me\n"),
              HasSubstr("(host network).\n127.0.0.1 me\n"));
}

class SecurityTest : public ::testing::Test {
 protected:
  Result<cri::LinuxContainerSecurityContext> Fill(const std::string& pod_context,
                                                  const std::string& own) {
    core::Pod pod = PodOf("security_context { " + pod_context +
                          " } containers { name: \"a\" security_context { " + own + " } }");
    cri::LinuxContainerSecurityContext security;
    TRY(FillContainerSecurity(pod, pod.spec().containers(0), image, NodeContext(), &security));
    return security;
  }
  ImageInfo image;
};

TEST_F(SecurityTest, TheContainerOverridesThePodAndThePodTheImage) {
  image.uid = 33;
  EXPECT_EQ(Fill("", "")->run_as_user().value(), 33);
  EXPECT_EQ(Fill("run_as_user: 1000", "")->run_as_user().value(), 1000);
  EXPECT_EQ(Fill("run_as_user: 1000", "run_as_user: 2000")->run_as_user().value(), 2000);
  image.uid.reset();
  image.username = "nginx";
  EXPECT_EQ(Fill("", "")->run_as_username(), "nginx");
  auto groups = Fill("fs_group: 7 supplemental_groups: 8", "");
  EXPECT_THAT(groups->supplemental_groups(), ElementsAre(8, 7));
}

TEST_F(SecurityTest, NonRootIsEnforced) {
  EXPECT_THAT(Fill("run_as_non_root: true", "").error().message(),
              HasSubstr("container has runAsNonRoot and image will run as root"));
  EXPECT_THAT(Fill("run_as_non_root: true", "run_as_user: 0").error().message(),
              HasSubstr("container's runAsUser breaks non-root policy"));
  EXPECT_TRUE(Fill("run_as_non_root: true", "run_as_user: 5").ok());
  EXPECT_TRUE(Fill("run_as_non_root: true", "run_as_non_root: false").ok());
  image.uid = 33;
  EXPECT_TRUE(Fill("run_as_non_root: true", "").ok());
  image.username = "www-data";
  EXPECT_THAT(Fill("run_as_non_root: true", "").error().message(),
              HasSubstr("image has non-numeric user (www-data)"));
}

TEST_F(SecurityTest, ConfinementIsPassedOn) {
  auto plain = Fill("", "");
  EXPECT_EQ(plain->seccomp().profile_type(), cri::SecurityProfile::Unconfined);
  EXPECT_FALSE(plain->no_new_privs());
  EXPECT_THAT(plain->masked_paths(), ::testing::Contains("/proc/kcore"));
  auto tight = Fill("seccomp_profile { type: \"RuntimeDefault\" }",
                    "allow_privilege_escalation: false read_only_root_filesystem: true "
                    "capabilities { drop: \"ALL\" add: \"NET_BIND_SERVICE\" }");
  EXPECT_EQ(tight->seccomp().profile_type(), cri::SecurityProfile::RuntimeDefault);
  EXPECT_TRUE(tight->no_new_privs());
  EXPECT_TRUE(tight->readonly_rootfs());
  EXPECT_THAT(tight->capabilities().drop_capabilities(), ElementsAre("ALL"));
  EXPECT_THAT(Fill("", "proc_mount: \"Unmasked\"")->masked_paths(), ::testing::IsEmpty());
}

TEST(PodConfigTest, NamespacesAndPorts) {
  core::Pod pod = PodOf(R"(share_process_namespace: true
      containers { name: "a" ports { container_port: 80 host_port: 8080 protocol: "UDP" } })");
  cri::PodSandboxConfig config;
  ASSERT_TRUE(FillSandboxConfig(pod, 3, NodeContext(), {}, &config).ok());
  EXPECT_EQ(config.metadata().attempt(), 3u);
  EXPECT_EQ(config.log_directory(), "/var/log/pods/shop_web_u1");
  ASSERT_EQ(config.port_mappings_size(), 1);
  EXPECT_EQ(config.port_mappings(0).protocol(), cri::UDP);
  EXPECT_EQ(config.port_mappings(0).host_port(), 8080);
  EXPECT_EQ(config.linux().security_context().namespace_options().pid(), cri::POD);
  EXPECT_EQ(config.labels().at("io.kubernetes.pod.uid"), "u1");
}

TEST(PodConfigTest, UserNamespacesCoverPodContainerAndMounts) {
  EXPECT_FALSE(HasUserNamespace(PodOf("containers { name: \"a\" }")));
  EXPECT_FALSE(HasUserNamespace(PodOf("host_users: true containers { name: \"a\" }")));
  EXPECT_TRUE(HasUserNamespace(PodOf("host_users: false containers { name: \"a\" }")));
  auto is_range = [](const auto& mappings) {
    return mappings.size() == 1 && mappings[0].container_id() == 0 &&
           mappings[0].host_id() == 131072 && mappings[0].length() == 65536;
  };
  cri::PodSandboxConfig sandbox;
  SetUserNamespace(131072, 65536, &sandbox);
  const auto& pod = sandbox.linux().security_context().namespace_options().userns_options();
  EXPECT_EQ(pod.mode(), cri::POD);
  EXPECT_TRUE(is_range(pod.uids()) && is_range(pod.gids()));
  cri::ContainerConfig container;
  container.add_mounts();
  container.add_mounts();
  SetUserNamespace(131072, 65536, &container);
  const auto& own = container.linux().security_context().namespace_options().userns_options();
  EXPECT_TRUE(is_range(own.uids()) && is_range(own.gids()));
  for (const cri::Mount& mount : container.mounts()) {
    EXPECT_TRUE(is_range(mount.uidmappings()) && is_range(mount.gidmappings()));
  }
}

TEST(PodConfigTest, CommandsAreExpandedAndLabelled) {
  core::Pod pod = PodOf(R"pb(containers {
                               name: "a"
                               image: "i:1"
                               command: "run"
                               args: "$(X)-$$(X)-$(Y)"
                               lifecycle { stop_signal: "SIGRTMIN+3" }
                             })pb");
  ImageInfo image;
  image.id = "sha256:1";
  ContainerInputs inputs;
  inputs.attempt = 2;
  inputs.image = &image;
  inputs.env = {{"X", "1"}};
  cri::ContainerConfig config;
  ASSERT_TRUE(
      FillContainerConfig(pod, pod.spec().containers(0), inputs, NodeContext(), &config).ok());
  EXPECT_THAT(config.args(), ElementsAre("1-$(X)-$(Y)"));
  EXPECT_EQ(config.image().image(), "sha256:1");
  EXPECT_EQ(config.image().user_specified_image(), "i:1");
  EXPECT_EQ(config.log_path(), "a/2.log");
  EXPECT_EQ(config.annotations().at("io.kubernetes.container.restartCount"), "2");
  EXPECT_EQ(config.annotations().at("io.kubernetes.container.hash"),
            SpecHash(pod.spec().containers(0)));
  EXPECT_EQ(config.stop_signal(), cri::SIGRTMINPLUS3);
}

}  // namespace
}  // namespace skiff::agent
