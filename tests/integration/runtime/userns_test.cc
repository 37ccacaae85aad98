// Pods with a user namespace of their own.

#include <linux/capability.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/integration/runtime/fixture.h"

namespace skiff::runtime {
namespace {

constexpr uint32_t kFirst = 300'000;
constexpr uint32_t kLength = 65'536;

class UserNamespaceTest : public RuntimeTest {
 protected:
  void SetUp() override {
    RuntimeTest::SetUp();
    if (HasFatalFailure()) return;
    if (!handler_.empty()) GTEST_SKIP() << handler_ << "'s pods have no user namespaces";
    Result<> works = runtime_->CheckUserNamespaces(work_->path());
    ASSERT_OK(works);
  }
  SandboxSpec MappedPod() const {
    SandboxSpec spec = Pod("pod");
    spec.user_namespace = {.uids = {{0, kFirst, kLength}}, .gids = {{0, kFirst, kLength}}};
    return spec;
  }
  struct stat StatOf(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(::stat(path.c_str(), &info), 0) << path;
    return info;
  }
};

TEST_F(UserNamespaceTest, ContainerIsRootOfItsOwnOnly) {
  StartPod(MappedPod());
  ContainerSpec spec =
      Shell("c",
            "cat /proc/self/uid_map /proc/self/gid_map; id -u; stat -c '%u %g' / /bin/sh;"
            "touch /mine /dev/shm/x && stat -c '%u %g' /mine /dev/shm/x;"
            "echo x > /dev/stdout; echo y > /dev/null && head -c 2 /dev/zero | wc -c;"
            "mknod /n c 1 3 2>&1; cat /proc/1/comm; ls /sys/class/net;"
            "ls /sys/fs/cgroup > /dev/null && echo cgroups; sleep 1000");
  Start(spec);
  WaitForLog("c", "cgroups");
  std::string output = Output("c");
  EXPECT_THAT(output, ::testing::ContainsRegex("^ +0 +300000 +65536\n +0 +300000 +65536\n0\n"));
  EXPECT_THAT(output, HasSubstr("\n0 0\n0 0\n0 0\n0 0\nx\n2\n"));
  EXPECT_THAT(output, HasSubstr("Operation not permitted\nsh\nlo\ncgroups\n"));
  // Outside it is nobody, and what it wrote is its own.
  EXPECT_EQ(StatOf("/proc/" + std::to_string(runtime_->Container("c")->pid)).st_uid, kFirst);
  EXPECT_EQ(StatOf(work_->path() + "/layers/c/upper/mine").st_uid, kFirst);
  // The layer below is as it was.
  EXPECT_EQ(StatOf(rootfs_ + "/bin/sh").st_uid, 0U);
}

TEST_F(UserNamespaceTest, OwnsItsNetworkAndItsNames) {
  SandboxSpec pod = MappedPod();
  pod.sysctls = {{"net.ipv4.ip_forward", "1"}, {"kernel.shm_rmid_forced", "1"}};
  StartPod(pod);
  ContainerSpec spec = Shell("c",
                             "hostname; cat /proc/sys/net/ipv4/ip_forward;"
                             "cat /proc/sys/kernel/shm_rmid_forced;"
                             "ip addr add 10.9.9.9/32 dev lo && echo admin");
  const uint64_t bits = DefaultCapabilities() | CapabilityBit(CAP_NET_ADMIN);
  spec.capabilities = {.bounding = bits, .effective = bits, .permitted = bits};
  EXPECT_EQ(RunToEnd(spec).status.code, 0);
  EXPECT_EQ(Output("c"), "host-of-pod\n1\n1\nadmin\n");
}

TEST_F(UserNamespaceTest, ExecAndTerminal) {
  StartPod(MappedPod());
  ContainerSpec spec = Shell("c", "tty; stat -c '%u %g' $(tty); sleep 1000");
  spec.terminal = true;
  spec.user.user = "worker";
  Start(spec);
  Result<ExecOutput> ran = ExecShell("c", "id; cat /proc/self/uid_map; echo again > /dev/stdout");
  ASSERT_OK(ran);
  EXPECT_THAT(ran->out, HasSubstr("uid=1000(worker) gid=1001(workers) groups=1001(workers),"));
  EXPECT_THAT(ran->out, ::testing::ContainsRegex(" 0 +300000 +65536\nagain\n"));
  auto process = runtime_->Exec({.container_id = "c",
                                 .argv = {"sh", "-c", "test -t 0 && stat -c '%u' $(tty)"},
                                 .terminal = true},
                                {});
  ASSERT_OK(process);
  UniqueFd terminal = (*process)->TakeTerminal();
  EXPECT_EQ((*process)->Wait(seconds(20))->status.code, 0);
  WaitForLog("c", "1000 5");
  EXPECT_THAT(Output("c"), HasSubstr("\n1000 5"));
}

TEST_F(UserNamespaceTest, VolumesAreSeenWithTheirOwners) {
  const std::string volume = work_->path() + "/volume";
  ASSERT_OK(MakeDirectories(volume));
  ASSERT_OK(WriteFileAtomic(volume + "/of-worker", "", Durability::kNone, 0600));
  ASSERT_EQ(::chown((volume + "/of-worker").c_str(), 1000, 1001), 0);
  SandboxSpec pod = MappedPod();
  StartPod(pod);
  ContainerSpec spec = Shell("c",
                             "stat -c '%u %g' /mapped/of-worker /plain/of-worker /other/of-worker;"
                             "touch /mapped/made; touch /plain/made 2>&1; sleep 1000");
  spec.mounts = {
      {.source = volume, .target = "/mapped", .id_mappings = pod.user_namespace},
      {.source = volume, .target = "/plain"},
      {.source = volume,
       .target = "/other",
       .id_mappings = {.uids = {{1000, kFirst + 7, 1}}, .gids = {{1001, kFirst + 8, 1}}}}};
  Start(spec);
  WaitForLog("c", "denied");
  EXPECT_THAT(Output("c"), HasSubstr("1000 1001\n65534 65534\n7 8\n"));
  EXPECT_EQ(StatOf(volume + "/made").st_uid, 0U);

  // A filesystem that cannot: proc is none that has owners of its own to map.
  spec = Shell("refused", "true");
  spec.mounts = {{.source = "/proc/sys", .target = "/p", .id_mappings = pod.user_namespace}};
  Result<ContainerStatus> created = runtime_->CreateContainer(spec);
  ASSERT_FALSE(created.ok());
  EXPECT_THAT(created.error().message(), HasSubstr("does not support id-mapped mounts"));
}

TEST_F(UserNamespaceTest, SharedProcessNamespaceAndDevices) {
  SandboxSpec pod = MappedPod();
  pod.pid = NamespaceMode::kPod;
  StartPod(pod);
  ContainerSpec spec = Shell("two", "");
  spec.pid = NamespaceMode::kPod;
  ContainerSpec first = Shell("one", "exec sleep 12345");
  first.pid = NamespaceMode::kPod;
  Start(first);
  spec.argv = {"sh", "-c",
               "until grep -q 12345 /proc/[0-9]*/cmdline; do :; done; cat /proc/1/comm;"
               "ls /proc/1/root/ 2>&1 > /dev/null; head -c 3 /dev/given | wc -c"};
  spec.devices = {{.host_path = "/dev/zero", .container_path = "/dev/given", .access = "r"}};
  EXPECT_EQ(RunToEnd(spec).status.code, 0);
  EXPECT_THAT(Output("two"), HasSubstr("skiff-pause\n"));
  EXPECT_THAT(Output("two"), HasSubstr("\n3\n"));
}

TEST_F(UserNamespaceTest, NodesNetwork) {
  SandboxSpec pod = MappedPod();
  pod.network = NamespaceMode::kNode;
  StartPod(pod);
  RunToEnd(
      Shell("c", "readlink /proc/self/ns/net; ls -d /sys/class/net/lo; cat /proc/self/uid_map"));
  char link[64] = {};
  ASSERT_GT(::readlink("/proc/self/ns/net", link, sizeof link - 1), 0);
  EXPECT_THAT(Output("c"), HasSubstr(std::string(link) + "\n/sys/class/net/lo\n"));
}

TEST_F(UserNamespaceTest, Privileged) {
  StartPod(MappedPod());
  ContainerSpec spec = Shell("c", "head -c 1 /dev/zero | wc -c; mount -t tmpfs x /tmp && echo ok");
  spec.privileged = true;
  spec.seccomp.kind = SeccompSpec::Kind::kUnconfined;
  spec.apparmor.kind = AppArmorSpec::Kind::kUnconfined;
  spec.capabilities = {.bounding = AllCapabilities(),
                       .effective = AllCapabilities(),
                       .permitted = AllCapabilities()};
  RunToEnd(spec);
  EXPECT_EQ(Output("c"), "1\nok\n");
}

TEST_F(UserNamespaceTest, OutlivesTheDaemon) {
  SandboxSpec pod = MappedPod();
  pods_.push_back(pod.id);
  ASSERT_OK(runtime_->CreateSandbox(pod));
  Abandon();
  Open();  // between its making and its start
  ASSERT_OK(runtime_->StartSandbox(pod.id));
  Start(Shell("before", "sleep 1000"));
  Abandon();
  Open();
  EXPECT_EQ(runtime_->Sandbox("pod")->state, SandboxState::kReady);
  Result<ExecOutput> ran = ExecShell("before", "cat /proc/self/uid_map");
  ASSERT_OK(ran);
  EXPECT_THAT(ran->out, HasSubstr("300000"));
  RunToEnd(Shell("after", "cat /proc/self/uid_map"));
  EXPECT_THAT(Output("after"), HasSubstr("300000"));
}

TEST_F(UserNamespaceTest, RefusesWhatCannotBe) {
  SandboxSpec pod = MappedPod();
  pod.pid = NamespaceMode::kNode;
  EXPECT_EQ(runtime_->CreateSandbox(pod).error().code(), Code::kInvalidArgument);
  pod = MappedPod();
  pod.ipc = NamespaceMode::kNode;
  EXPECT_EQ(runtime_->CreateSandbox(pod).error().code(), Code::kInvalidArgument);
  pod = MappedPod();
  pod.user_namespace.gids[0].container_id = 1;
  EXPECT_EQ(runtime_->CreateSandbox(pod).error().code(), Code::kInvalidArgument);
  StartPod(MappedPod());
  ContainerSpec spec = Shell("c", "true");
  spec.pid = NamespaceMode::kNode;
  EXPECT_EQ(runtime_->CreateContainer(spec).error().code(), Code::kInvalidArgument);
  // An id that the pod does not have.
  spec = Shell("d", "true");
  spec.user.user = "70000";
  EXPECT_THAT(runtime_->CreateContainer(spec).error().message(), HasSubstr("70000"));
  // Killed in the middle of its making, a container leaves nothing.
  spec = Shell("e", "true");
  spec.rootfs.lower_dirs = {"/no/such/layer"};
  EXPECT_FALSE(runtime_->CreateContainer(spec).ok());
}

TEST_F(UserNamespaceTest, OlderKernelsOverlay) {
  Abandon();
  config_.force_fallbacks = true;
  Open();
  ASSERT_OK(runtime_->CheckUserNamespaces(work_->path()));
  StartPod(MappedPod());
  RunToEnd(Shell("c", "stat -c '%u' /bin/sh"));
  EXPECT_EQ(Output("c"), "0\n");
}

}  // namespace
}  // namespace skiff::runtime
