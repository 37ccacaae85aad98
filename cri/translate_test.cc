#include "cri/translate.h"

#include <gtest/gtest.h>
#include <sys/capability.h>

#include <csignal>
#include <functional>

#include "cri/security.h"

namespace skiff::cri {
namespace {

api::PodSandboxConfig SandboxConfig() {
  api::PodSandboxConfig config;
  config.mutable_metadata()->set_name("web");
  config.mutable_metadata()->set_namespace_("default");
  config.mutable_metadata()->set_uid("u1");
  config.set_hostname("web-0");
  config.set_log_directory("/var/log/pods/default_web_u1");
  return config;
}

void Map(api::NamespaceOption* namespaces, uint32_t container_id, uint32_t host_id, uint32_t length,
         bool uids = true, bool gids = true) {
  api::UserNamespace* user = namespaces->mutable_userns_options();
  user->set_mode(api::POD);
  for (int i = 0; i < 2; ++i) {
    if (i == 0 ? !uids : !gids) continue;
    api::IDMapping* mapping = i == 0 ? user->add_uids() : user->add_gids();
    mapping->set_container_id(container_id);
    mapping->set_host_id(host_id);
    mapping->set_length(length);
  }
}

api::NamespaceOption* NamespacesOf(api::PodSandboxConfig& config) {
  return config.mutable_linux()->mutable_security_context()->mutable_namespace_options();
}

class ContainerPlan : public ::testing::Test {
 protected:
  ContainerPlan() {
    image_.config.entrypoint = {"/entry"};
    image_.config.command = {"serve"};
    image_.config.env = {"PATH=/bin", "A=image"};
    config_.mutable_metadata()->set_name("main");
  }
  Result<runtime::ContainerSpec> Plan() {
    ContainerContext context{"c1",
                             "s1",
                             sandbox_,
                             image_,
                             {{"/layer"}, "/rw"},
                             {"/f/resolv.conf", "/f/hostname", "/f/hosts"},
                             "",
                             image_mounts_,
                             cdi_};
    return PlanContainer(config_, context);
  }
  api::LinuxContainerSecurityContext* security() {
    return config_.mutable_linux()->mutable_security_context();
  }
  Code PlanError() {
    const auto spec = Plan();
    return spec.ok() ? Code{} : spec.error().code();
  }
  static bool Has(const std::vector<std::string>& list, const std::string& text) {
    return std::find(list.begin(), list.end(), text) != list.end();
  }

  api::PodSandboxConfig sandbox_ = SandboxConfig();
  api::ContainerConfig config_;
  runtime::Image image_;
  std::map<int, std::vector<std::string>> image_mounts_;
  CdiEdits cdi_;
};

TEST(SandboxPlan, TakesNamespacesPortsAndSysctls) {
  api::PodSandboxConfig config = SandboxConfig();
  auto* namespaces =
      config.mutable_linux()->mutable_security_context()->mutable_namespace_options();
  namespaces->set_pid(api::POD);
  (*config.mutable_linux()->mutable_sysctls())["kernel.shm_rmid_forced"] = "1";
  auto* port = config.add_port_mappings();
  port->set_protocol(api::UDP);
  port->set_host_port(53);
  port->set_container_port(5353);
  port->set_host_ip("127.0.0.1");
  const auto plan = PlanSandbox(config, "", "s1");
  ASSERT_TRUE(plan.ok()) << plan.error().message();
  EXPECT_TRUE(plan->has_network);
  EXPECT_EQ(plan->spec.pid, runtime::NamespaceMode::kPod);
  EXPECT_EQ(plan->spec.sysctls.at("kernel.shm_rmid_forced"), "1");
  ASSERT_EQ(plan->network.ports.size(), 1u);
  EXPECT_EQ(plan->network.ports[0].protocol, cni::Protocol::kUdp);
  EXPECT_EQ(plan->network.ports[0].host_ip->ToString(), "127.0.0.1");
  EXPECT_EQ(plan->network.pod_uid, "u1");
}

TEST(SandboxPlan, BandwidthIsAnnotated) {
  api::PodSandboxConfig config = SandboxConfig();
  EXPECT_TRUE(PlanSandbox(config, "", "s1")->network.bandwidth.empty());
  auto& annotations = *config.mutable_annotations();
  annotations["kubernetes.io/ingress-bandwidth"] = "10M";
  annotations["kubernetes.io/egress-bandwidth"] = "1P";
  const auto plan = PlanSandbox(config, "", "s1");
  ASSERT_TRUE(plan.ok()) << plan.error().message();
  EXPECT_EQ(plan->network.bandwidth.ingress_bits, 10'000'000u);
  EXPECT_EQ(plan->network.bandwidth.egress_bits, 1'000'000'000'000'000u);
  const std::pair<const char*, const char*> wrong[] = {
      {"999", "annotation kubernetes.io/ingress-bandwidth: 999 is unreasonably small"},
      {"0", "unreasonably small"},
      {"-10M", "unreasonably small"},
      {"2P", "unreasonably large"},
      {"fast", "\"fast\" is no quantity of bits per second"},
      {"", "is no quantity"}};
  for (const auto& [text, complaint] : wrong) {
    annotations["kubernetes.io/ingress-bandwidth"] = text;
    const auto refused = PlanSandbox(config, "", "s1");
    ASSERT_FALSE(refused.ok()) << text;
    EXPECT_EQ(refused.error().code(), Code::kInvalidArgument);
    EXPECT_NE(refused.error().message().find(complaint), std::string::npos)
        << refused.error().message();
  }
}

TEST(SandboxPlan, Handlers) {
  EXPECT_EQ(PlanSandbox(SandboxConfig(), "", "s1")->spec.handler, "");
  EXPECT_EQ(PlanSandbox(SandboxConfig(), "skiff", "s1")->spec.handler, "");
  EXPECT_EQ(PlanSandbox(SandboxConfig(), "crun", "s1")->spec.handler, "crun");
}

TEST(SandboxPlan, RefusesNonsense) {
  const auto code = [](const std::function<void(api::PodSandboxConfig*)>& change) {
    api::PodSandboxConfig config = SandboxConfig();
    change(&config);
    const auto plan = PlanSandbox(config, "", "s1");
    return plan.ok() ? Code{} : plan.error().code();
  };
  const auto namespaces = [](api::PodSandboxConfig* config) {
    return config->mutable_linux()->mutable_security_context()->mutable_namespace_options();
  };
  EXPECT_EQ(code([](auto* c) { c->mutable_metadata()->clear_uid(); }), Code::kInvalidArgument);
  EXPECT_EQ(code([](auto* c) { c->set_hostname(std::string(64, 'h')); }), Code::kInvalidArgument);
  EXPECT_EQ(code([&](auto* c) { namespaces(c)->set_network(api::CONTAINER); }),
            Code::kInvalidArgument);
  EXPECT_EQ(code([&](auto* c) { namespaces(c)->set_pid(api::TARGET); }), Code::kInvalidArgument);
  EXPECT_EQ(code([](auto* c) { c->add_port_mappings()->set_host_port(70000); }),
            Code::kInvalidArgument);
  EXPECT_EQ(code([](auto* c) { c->mutable_linux()->set_cgroup_parent("/a/../b"); }),
            Code::kInvalidArgument);
  EXPECT_EQ(code([](auto* c) { c->mutable_linux()->set_cgroup_parent("x.slice"); }),
            Code::kInvalidArgument);
  EXPECT_EQ(code([&](auto* c) {
              namespaces(c)->set_network(api::NODE);
              (*c->mutable_linux()->mutable_sysctls())["net.ipv4.ip_forward"] = "1";
            }),
            Code::kInvalidArgument);
  EXPECT_EQ(code([&](auto* c) { namespaces(c)->mutable_userns_options()->set_mode(api::POD); }),
            Code::kInvalidArgument);  // without mappings
}

TEST(SandboxPlan, UserNamespaceIsOneRangeFromZero) {
  const auto error = [](const std::function<void(api::NamespaceOption*)>& change) {
    api::PodSandboxConfig config = SandboxConfig();
    change(NamespacesOf(config));
    const auto plan = PlanSandbox(config, "", "s1");
    return plan.ok() ? std::string() : plan.error().message();
  };
  api::PodSandboxConfig config = SandboxConfig();
  Map(NamespacesOf(config), 0, 65536, 65536);
  const auto plan = PlanSandbox(config, "", "s1");
  ASSERT_TRUE(plan.ok()) << plan.error().message();
  const std::vector<runtime::IdMapping> range{{0, 65536, 65536}};
  EXPECT_EQ(plan->spec.user_namespace, (runtime::IdMappings{range, range}));
  EXPECT_EQ(error([](auto* n) { n->mutable_userns_options()->set_mode(api::NODE); }), "");

  EXPECT_EQ(error([](auto* n) {
              Map(n, 0, 65536, 65536);
              Map(n, 0, 200000, 65536);
            }),
            "user namespace: uid mappings: exactly one is supported, 2 given");
  EXPECT_EQ(error([](auto* n) { Map(n, 1, 65536, 65536); }),
            "user namespace: uid mappings: container_id must be 0, not 1");
  EXPECT_EQ(error([](auto* n) { Map(n, 0, 65536, 0); }),
            "user namespace: uid mappings: length 0 is not supported");
  EXPECT_EQ(error([](auto* n) { Map(n, 0, 4294967295, 65536); }),
            "user namespace: uid mappings: length 65536 is not supported");
  EXPECT_EQ(error([](auto* n) {
              Map(n, 0, 65536, 65536, true, false);
              Map(n, 0, 131072, 65536, false, true);
            }),
            "user namespace: uid and gid mappings must be the same");
  EXPECT_EQ(error([](auto* n) { Map(n, 0, 65536, 65536, true, false); }),
            "user namespace: gid mappings: exactly one is supported, 0 given");
  for (const auto mode : {api::CONTAINER, api::TARGET}) {
    EXPECT_EQ(error([&](auto* n) { n->mutable_userns_options()->set_mode(mode); }),
              "user namespace: must be POD or NODE");
  }
}

TEST(SandboxPlan, SysctlsOfTheNodeAreRefused) {
  const auto trouble = [](const std::string& name, bool host_network = false,
                          bool host_ipc = false) {
    api::PodSandboxConfig config = SandboxConfig();
    if (host_network) NamespacesOf(config)->set_network(api::NODE);
    if (host_ipc) NamespacesOf(config)->set_ipc(api::NODE);
    (*config.mutable_linux()->mutable_sysctls())[name] = "1";
    const auto plan = PlanSandbox(config, "", "s1");
    return plan.ok() ? std::string() : plan.error().message();
  };
  for (const char* good :
       {"kernel.shm_rmid_forced", "kernel.msgmax", "kernel.sem", "fs.mqueue.msg_max",
        "net.ipv4.ip_forward", "net/ipv4/conf/eth0.1/rp", "kernel.domainname"}) {
    EXPECT_EQ(trouble(good), "") << good;
  }
  EXPECT_EQ(trouble("vm.swappiness"),
            "sysctl vm.swappiness is in no namespace: it would change the node's");
  EXPECT_NE(trouble("kernel/panic"), "");
  EXPECT_EQ(trouble("net.ipv4.ip_forward", true),
            "sysctl net.ipv4.ip_forward would change the node's network");
  EXPECT_EQ(trouble("kernel.sem", false, true), "sysctl kernel.sem would change the node's ipc");
}

TEST_F(ContainerPlan, ImageVolumesAndDevicesByName) {
  image_.config.volumes = {"/data/", "cache", "/mounted"};
  auto* mount = config_.add_mounts();
  mount->set_container_path("/mounted");
  mount->mutable_image()->set_image("sha256:1");
  mount->set_image_sub_path("sub");
  image_mounts_ = {{0, {"/top", "/bottom"}}};
  cdi_.env = {"GPU=0"};
  const auto spec = Plan();
  ASSERT_TRUE(spec.ok()) << spec.error().message();
  std::map<std::string, runtime::MountSpec> mounts;
  for (const runtime::MountSpec& planned : spec->mounts) mounts[planned.target] = planned;
  const runtime::MountSpec& image = mounts.at("/mounted");
  EXPECT_EQ(image.type, runtime::MountSpec::Type::kLayers);
  EXPECT_EQ(image.layers, (std::vector<std::string>{"/top", "/bottom"}));
  EXPECT_EQ(image.sub_path, "sub");
  EXPECT_TRUE(image.readonly && image.no_exec);
  EXPECT_EQ(mounts.at("/data").type, runtime::MountSpec::Type::kOwn);
  EXPECT_EQ(mounts.at("/cache").type, runtime::MountSpec::Type::kOwn);
  EXPECT_TRUE(Has(spec->env, "GPU=0"));
  mount->clear_image();
  mount->set_host_path("/host");
  EXPECT_EQ(PlanError(), Code::kInvalidArgument);  // a sub-path of no image
}

TEST_F(ContainerPlan, SharesThePodsUserNamespace) {
  api::NamespaceOption* own = security()->mutable_namespace_options();
  Map(own, 0, 65536, 65536);
  EXPECT_EQ(PlanError(), Code::kInvalidArgument);  // the pod has the node's
  Map(NamespacesOf(sandbox_), 0, 65536, 65536);
  auto* mount = config_.add_mounts();
  mount->set_container_path("/data");
  mount->set_host_path("/host");
  for (api::IDMapping* mapping : {mount->add_uidmappings(), mount->add_gidmappings()}) {
    mapping->set_host_id(65536);
    mapping->set_length(65536);
  }
  const auto spec = Plan();
  ASSERT_TRUE(spec.ok()) << spec.error().message();
  // The pod's own files (/etc/hosts, ...) are its root's already.
  ASSERT_EQ(spec->mounts.size(), 4u);
  const std::vector<runtime::IdMapping> mapped{{0, 65536, 65536}};
  for (const auto& planned : spec->mounts) {
    EXPECT_EQ(planned.id_mappings.uids == mapped, planned.target == "/data");
    EXPECT_EQ(planned.id_mappings.empty(), planned.target != "/data");
  }
  mount->clear_gidmappings();
  EXPECT_EQ(PlanError(), Code::kInvalidArgument);
  mount->clear_uidmappings();
  own->mutable_userns_options()->mutable_uids(0)->set_host_id(131072);
  own->mutable_userns_options()->mutable_gids(0)->set_host_id(131072);
  EXPECT_EQ(PlanError(), Code::kInvalidArgument);  // other than the pod's
  own->clear_userns_options();
  EXPECT_TRUE(Plan().ok());  // says nothing
}

TEST_F(ContainerPlan, CommandAndArguments) {
  EXPECT_EQ(Plan()->argv, (std::vector<std::string>{"/entry", "serve"}));
  config_.add_args("other");
  EXPECT_EQ(Plan()->argv, (std::vector<std::string>{"/entry", "other"}));
  config_.clear_args();
  config_.add_command("sh");
  EXPECT_EQ(Plan()->argv, std::vector<std::string>{"sh"});
  config_.clear_command();
  image_.config = {};
  EXPECT_EQ(PlanError(), Code::kInvalidArgument);
}

TEST_F(ContainerPlan, Environment) {
  auto* entry = config_.add_envs();
  entry->set_key("A");
  entry->set_value("pod");
  config_.set_tty(true);
  EXPECT_EQ(Plan()->env,
            (std::vector<std::string>{"PATH=/bin", "A=pod", "HOSTNAME=web-0", "TERM=xterm"}));
  config_.add_envs()->set_key("B=C");
  EXPECT_EQ(PlanError(), Code::kInvalidArgument);
}

TEST_F(ContainerPlan, MountsAreOrderedAndChecked) {
  auto* deep = config_.add_mounts();
  deep->set_host_path("/h/deep");
  deep->set_container_path("/etc/app/conf");
  auto* hosts = config_.add_mounts();
  hosts->set_host_path("/pods/hosts");
  hosts->set_container_path("/etc/hosts");
  auto* top = config_.add_mounts();
  top->set_host_path("/h/etc");
  top->set_container_path("/data");
  top->set_readonly(true);
  top->set_recursive_read_only(true);
  const auto spec = Plan();
  ASSERT_TRUE(spec.ok());
  std::vector<std::string> targets;
  for (const auto& mount : spec->mounts) targets.push_back(mount.target + "<" + mount.source);
  EXPECT_EQ(targets, (std::vector<std::string>{
                         "/data</h/etc", "/etc/hosts</pods/hosts", "/etc/hostname</f/hostname",
                         "/etc/resolv.conf</f/resolv.conf", "/etc/app/conf</h/deep"}));
  EXPECT_TRUE(spec->mounts[0].recursive_readonly);
  // Recursive read-only has its conditions.
  top->set_readonly(false);
  EXPECT_EQ(PlanError(), Code::kInvalidArgument);
  top->set_readonly(true);
  top->set_propagation(api::PROPAGATION_BIDIRECTIONAL);
  EXPECT_EQ(PlanError(), Code::kInvalidArgument);
  top->set_propagation(api::PROPAGATION_HOST_TO_CONTAINER);
  EXPECT_EQ(PlanError(), Code::kInvalidArgument);
  top->set_recursive_read_only(false);
  EXPECT_TRUE(Plan().ok());
  top->set_host_path("relative");
  EXPECT_EQ(PlanError(), Code::kInvalidArgument);
}

TEST_F(ContainerPlan, Users) {
  image_.config.user = "www-data:4";
  EXPECT_EQ(Plan()->user.user, "www-data:4");
  security()->mutable_run_as_user()->set_value(1000);
  EXPECT_EQ(Plan()->user.user, "1000");
  security()->mutable_run_as_group()->set_value(2000);
  security()->add_supplemental_groups(3000);
  security()->set_supplemental_groups_policy(api::Strict);
  const auto spec = Plan();
  EXPECT_EQ(spec->user.group, "2000");
  EXPECT_EQ(spec->user.additional_gids, std::vector<uint32_t>{3000});
  EXPECT_FALSE(spec->user.groups_from_image);
  security()->set_run_as_username("root");
  EXPECT_EQ(PlanError(), Code::kInvalidArgument);
  security()->clear_run_as_username();
  security()->clear_run_as_user();
  EXPECT_EQ(PlanError(), Code::kInvalidArgument);  // a group without a user
  security()->clear_run_as_group();
  security()->add_supplemental_groups(-1);
  EXPECT_EQ(PlanError(), Code::kInvalidArgument);
}

TEST_F(ContainerPlan, Privileged) {
  security()->set_privileged(true);
  EXPECT_EQ(PlanError(), Code::kInvalidArgument);  // its sandbox is not
  sandbox_.mutable_linux()->mutable_security_context()->set_privileged(true);
  security()->mutable_seccomp()->set_profile_type(api::SecurityProfile::RuntimeDefault);
  const auto spec = Plan();
  ASSERT_TRUE(spec.ok());
  EXPECT_TRUE(spec->privileged);
  EXPECT_TRUE(spec->masked_paths.empty());
  EXPECT_EQ(spec->seccomp.kind, runtime::SeccompSpec::Kind::kUnconfined);
  EXPECT_NE(spec->capabilities.bounding & (1ull << CAP_SYS_ADMIN), 0u);
}

TEST_F(ContainerPlan, SeccompAndMaskedPaths) {
  EXPECT_EQ(Plan()->seccomp.kind, runtime::SeccompSpec::Kind::kUnconfined);
  EXPECT_TRUE(Has(Plan()->masked_paths, "/proc/kcore"));
  EXPECT_TRUE(Has(Plan()->readonly_paths, "/proc/sys"));
  security()->add_masked_paths("/bin/ls");
  EXPECT_EQ(Plan()->masked_paths, std::vector<std::string>{"/bin/ls"});
  security()->mutable_seccomp()->set_profile_type(api::SecurityProfile::RuntimeDefault);
  EXPECT_EQ(Plan()->seccomp.kind, runtime::SeccompSpec::Kind::kDefault);
  security()->mutable_seccomp()->set_profile_type(api::SecurityProfile::Localhost);
  security()->mutable_seccomp()->set_localhost_ref("/nonexistent/profile.json");
  EXPECT_EQ(PlanError(), Code::kInvalidArgument);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"  // what kubelets before 1.30 send
TEST_F(ContainerPlan, AppArmor) {
  using Kind = runtime::AppArmorSpec::Kind;
  EXPECT_EQ(Plan()->apparmor.kind, Kind::kNodeDefault);
  const auto old = [&](const char* text) {
    security()->set_apparmor_profile(text);
    return Plan();
  };
  EXPECT_EQ(old("runtime/default")->apparmor.kind, Kind::kDefault);
  EXPECT_EQ(old("unconfined")->apparmor.kind, Kind::kUnconfined);
  EXPECT_EQ(old("localhost//usr/bin/man")->apparmor.profile, "/usr/bin/man");
  for (const char* text : {"mine", "localhost/", "localhost/a\nb", "runtime/other"}) {
    EXPECT_EQ(old(text).error().code(), Code::kInvalidArgument) << text;
  }
  // The newer field counts; some clients give it the older's prefix.
  api::SecurityProfile& profile = *security()->mutable_apparmor();
  profile.set_profile_type(api::SecurityProfile::Localhost);
  EXPECT_EQ(PlanError(), Code::kInvalidArgument);
  for (const char* name : {"mine", "localhost/mine"}) {
    profile.set_localhost_ref(name);
    EXPECT_EQ(Plan()->apparmor.kind, Kind::kProfile);
    EXPECT_EQ(Plan()->apparmor.profile, "mine");
  }
  profile.set_profile_type(api::SecurityProfile::RuntimeDefault);
  EXPECT_EQ(Plan()->apparmor.kind, Kind::kDefault);
  // The default is not for privileged containers.
  sandbox_.mutable_linux()->mutable_security_context()->set_privileged(true);
  security()->set_privileged(true);
  EXPECT_EQ(Plan()->apparmor.kind, Kind::kUnconfined);
  security()->clear_apparmor();
  security()->clear_apparmor_profile();
  EXPECT_EQ(Plan()->apparmor.kind, Kind::kUnconfined);
}
#pragma GCC diagnostic pop

TEST(Capabilities, AddDropAndAll) {
  const auto plan = [](std::vector<std::string> add, std::vector<std::string> drop) {
    api::Capability capability;
    for (const auto& name : add) capability.add_add_capabilities(name);
    for (const auto& name : drop) capability.add_drop_capabilities(name);
    return PlanCapabilities(capability);
  };
  const auto bit = [](int value) { return uint64_t{1} << value; };
  const uint64_t base = *plan({}, {});
  EXPECT_NE(base & bit(CAP_CHOWN), 0u);
  EXPECT_EQ(base & bit(CAP_NET_ADMIN), 0u);
  EXPECT_EQ(*plan({"NET_ADMIN"}, {}), base | bit(CAP_NET_ADMIN));
  EXPECT_EQ(*plan({"cap_net_admin"}, {"CHOWN"}), (base | bit(CAP_NET_ADMIN)) & ~bit(CAP_CHOWN));
  EXPECT_EQ(*plan({}, {"ALL"}), 0u);
  EXPECT_EQ(*plan({"NET_BIND_SERVICE"}, {"all"}), bit(CAP_NET_BIND_SERVICE));
  EXPECT_EQ(*plan({"ALL"}, {"CHOWN"}) & bit(CAP_CHOWN), 0u);
  EXPECT_NE(*plan({"ALL"}, {"CHOWN"}) & bit(CAP_SYS_ADMIN), 0u);
  EXPECT_EQ(plan({"NO_SUCH"}, {}).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(plan({"12"}, {}).error().code(), Code::kInvalidArgument);
}

TEST(Resources, AreTakenAndChecked) {
  api::LinuxContainerResources resources;
  EXPECT_FALSE(PlanResources(resources)->memory_limit_bytes.has_value());
  resources.set_cpu_shares(1);
  resources.set_cpu_quota(50000);
  resources.set_cpu_period(100000);
  resources.set_memory_limit_in_bytes(1 << 20);
  (*resources.mutable_unified())["pids.max"] = "100";
  auto* huge = resources.add_hugepage_limits();
  huge->set_page_size("2MB");
  huge->set_limit(4 << 20);
  const auto spec = PlanResources(resources);
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(spec->cpu_shares, 2u);
  EXPECT_EQ(spec->cpu_quota_us, 50000);
  EXPECT_EQ(spec->memory_limit_bytes, 1 << 20);
  EXPECT_EQ(spec->pids_limit, 100);
  EXPECT_EQ(spec->hugepage_limits_bytes.at("2MB"), 4u << 20);
  resources.set_memory_swap_limit_in_bytes(1);
  EXPECT_EQ(PlanResources(resources).error().code(), Code::kInvalidArgument);
  resources.clear_memory_swap_limit_in_bytes();
  resources.set_oom_score_adj(1001);
  EXPECT_EQ(PlanResources(resources).error().code(), Code::kInvalidArgument);
  resources.set_oom_score_adj(1000);
  EXPECT_TRUE(PlanResources(resources).ok());
  (*resources.mutable_unified())["../x"] = "1";
  EXPECT_EQ(PlanResources(resources).error().code(), Code::kInvalidArgument);
}

TEST(Signals, EveryNameOfTheApi) {
  EXPECT_EQ(*ParseSignal("SIGTERM"), SIGTERM);
  EXPECT_EQ(*ParseSignal("KILL"), SIGKILL);
  EXPECT_EQ(*ParseSignal("15"), SIGTERM);
  EXPECT_EQ(*ParseSignal("SIGRTMIN+3"), SIGRTMIN + 3);
  EXPECT_EQ(*ParseSignal("SIGRTMAXMINUS2"), SIGRTMAX - 2);
  for (const char* bad : {"", "SIG", "0", "65", "999", "SIGFOO", "SIGRTMIN+99", "-1"}) {
    EXPECT_FALSE(ParseSignal(bad).ok()) << bad;
  }
  const auto* names = api::Signal_descriptor();
  for (int i = 1; i < names->value_count(); ++i) {
    EXPECT_TRUE(ParseSignal(names->value(i)->name()).ok()) << names->value(i)->name();
  }
  EXPECT_EQ(api::Signal_Name(SignalToApi(SIGTERM)), "SIGTERM");
  EXPECT_EQ(api::Signal_Name(SignalToApi(SIGQUIT)), "SIGQUIT");
}

TEST(ResolvConf, IsRendered) {
  api::DNSConfig dns;
  EXPECT_EQ(RenderResolvConf(dns), "");
  dns.add_servers("10.96.0.10");
  dns.add_searches("default.svc.cluster.local");
  dns.add_searches("svc.cluster.local");
  dns.add_options("ndots:5");
  EXPECT_EQ(RenderResolvConf(dns),
            "search default.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\n"
            "options ndots:5\n");
}

}  // namespace
}  // namespace skiff::cri
