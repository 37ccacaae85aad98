// What a container may not do.

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/integration/runtime/fixture.h"

namespace skiff::runtime {
namespace {

TEST_F(RuntimeTest, CapabilitiesAreThoseOfTheSpec) {
  StartPod();
  ContainerSpec spec = Shell("c", "grep Cap /proc/self/status");
  uint64_t bits = CapabilityBit(CAP_NET_BIND_SERVICE) | CapabilityBit(CAP_CHOWN);
  spec.capabilities = {.bounding = bits, .effective = bits, .permitted = bits};
  RunToEnd(spec);
  EXPECT_EQ(Output("c"),
            "CapInh:\t0000000000000000\nCapPrm:\t0000000000000401\nCapEff:\t0000000000000401\n"
            "CapBnd:\t0000000000000401\nCapAmb:\t0000000000000000\n");
  // A user who is not root keeps none, save as ambient ones.
  spec = Shell("u", "grep Cap /proc/self/status");
  spec.user.user = "worker";
  RunToEnd(spec);
  EXPECT_THAT(Output("u"), HasSubstr("CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"));
  spec = Shell("a", "grep Cap /proc/self/status");
  spec.user.user = "worker";
  spec.capabilities = {.bounding = bits,
                       .effective = bits,
                       .permitted = bits,
                       .inheritable = CapabilityBit(CAP_CHOWN),
                       .ambient = CapabilityBit(CAP_CHOWN)};
  RunToEnd(spec);
  EXPECT_THAT(Output("a"), HasSubstr("CapEff:\t0000000000000001\n"));
  EXPECT_THAT(Output("a"), HasSubstr("CapAmb:\t0000000000000001\n"));
}

TEST_F(RuntimeTest, UsersAndGroups) {
  StartPod();
  auto id = [&](const std::string& name, UserSpec user) {
    ContainerSpec spec = Shell(name, "id; echo x > /dev/stdout");
    spec.user = std::move(user);
    EXPECT_EQ(RunToEnd(spec).status.code, 0);
    return Output(name);
  };
  EXPECT_EQ(id("name", {.user = "worker"}),
            "uid=1000(worker) gid=1001(workers) groups=1001(workers),1500(extra)\nx\n");
  EXPECT_EQ(id("number", {.user = "4000:5000", .additional_gids = {6000}}),
            "uid=4000 gid=5000 groups=5000,6000\nx\n");
  EXPECT_EQ(id("strict", {.user = "worker", .additional_gids = {7}, .groups_from_image = false}),
            "uid=1000(worker) gid=1001(workers) groups=7,1001(workers)\nx\n");
  ResolvedUser user = runtime_->Container("name")->user;
  EXPECT_EQ(user.uid, 1000U);
  EXPECT_EQ(user.gid, 1001U);
  EXPECT_THAT(user.groups, ::testing::ElementsAre(1001, 1500));
}

TEST_F(RuntimeTest, DefaultSeccompProfile) {
  StartPod();
  RunToEnd(Shell("c",
                 "grep Seccomp: /proc/self/status; unshare -U true 2>&1; unshare -n true 2>&1;"
                 "mkdir /m; mount -t tmpfs x /m 2>&1"));
  EXPECT_THAT(Output("c"), HasSubstr("Seccomp:\t2\n"));
  EXPECT_THAT(Output("c"), HasSubstr("unshare(0x10000000): Operation not permitted"));
  EXPECT_THAT(Output("c"), HasSubstr("unshare(0x40000000): Operation not permitted"));
  EXPECT_THAT(Output("c"), HasSubstr("permission denied"));

  ContainerSpec spec = Shell("u", "grep Seccomp: /proc/self/status; unshare -U true && echo made");
  spec.seccomp.kind = SeccompSpec::Kind::kUnconfined;
  RunToEnd(spec);
  EXPECT_EQ(Output("u"), "Seccomp:\t0\nmade\n");

  spec = Shell("p", "mkdir /a 2>&1; hostname 2>&1; echo still");
  spec.seccomp = {.kind = SeccompSpec::Kind::kProfile, .profile_json = R"({
      "defaultAction": "SCMP_ACT_ALLOW",
      "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]})"};
  RunToEnd(spec);
  EXPECT_THAT(Output("p"), HasSubstr("No space left on device"));
  EXPECT_THAT(Output("p"), HasSubstr("still"));
  spec = Shell("bad", "true");
  spec.seccomp = {.kind = SeccompSpec::Kind::kProfile, .profile_json = "{"};
  EXPECT_EQ(runtime_->CreateContainer(spec).error().code(), Code::kInvalidArgument);
}

TEST_F(RuntimeTest, MaskedAndReadonlyPaths) {
  StartPod();
  ContainerSpec spec = Shell("c",
                             "exec 2>&1;"  // two streams would come in any order
                             "wc -c < /proc/keys; wc -c < /proc/timer_list; ls /proc/scsi;"
                             "echo 1 > /proc/sys/kernel/panic; touch /sys/x;"
                             "wc -c < /etc/group; ls /home; ls /no/such");
  spec.masked_paths = {"/proc/keys", "/proc/timer_list", "/proc/scsi", "/etc/group",
                       "/home",      "/no/such"};
  spec.readonly_paths = {"/proc/sys", "/no/such/either"};
  RunToEnd(spec);
  std::string output = Output("c");
  EXPECT_THAT(output, HasSubstr("0\n"));
  EXPECT_THAT(LogText("c"),
              HasSubstr("can't create /proc/sys/kernel/panic: Read-only file system"));
  EXPECT_THAT(output, HasSubstr("touch: /sys/x: Read-only file system\n0\nls: /no/such"));
  EXPECT_THAT(output, Not(HasSubstr("worker")));
}

TEST_F(RuntimeTest, NoNewPrivileges) {
  std::string payload = ReadFile(SKIFF_TEST_PAYLOAD).value();
  ASSERT_OK(WriteFileAtomic(rootfs_ + "/bin/payload", payload, Durability::kNone, 04755));
  StartPod();
  for (bool no_new_privs : {false, true}) {
    ContainerSpec spec = Shell(no_new_privs ? "nnp" : "plain", "");
    spec.argv = {"payload"};
    spec.user.user = "1000";
    spec.no_new_privs = no_new_privs;
    RunToEnd(spec);
    EXPECT_EQ(Output(spec.id), no_new_privs ? "effective uid 1000\n" : "effective uid 0\n");
  }
}

TEST_F(RuntimeTest, Devices) {
  StartPod();
  std::string reading = "head -c 1 /dev/block > /dev/null 2>&1 && echo read || echo refused";
  // A block device that is surely there, of any kind: the number of the disk under this test.
  struct stat info;
  ASSERT_EQ(::stat(work_->path().c_str(), &info), 0);
  ContainerSpec spec =
      Shell("c",
            "ls /dev; echo x > /dev/null && echo null; head -c 2 /dev/zero | wc -c;"
            "mknod /tmp/kmsg c 1 11 && echo made; head -c 1 /tmp/kmsg 2>&1;"
            "head -c 1 /dev/given | wc -c; ls -l /dev/given");
  spec.devices = {{.host_path = "/dev/zero", .container_path = "/dev/given", .access = "rw"}};
  RunToEnd(spec);
  std::string output = Output("c");
  for (const char* name : {"full\n", "mqueue\n", "ptmx\n", "pts\n", "random\n", "shm\n", "stdin\n",
                           "tty\n", "urandom\n", "zero\n", "given\n"}) {
    EXPECT_THAT(output, HasSubstr(name));
  }
  EXPECT_THAT(output, HasSubstr("null\n2\nmade\nhead: /tmp/kmsg: Operation not permitted\n1\n"));

  ContainerSpec privileged = Shell("p",
                                   "head -c 1 /dev/kmsg > /dev/null && echo read;"
                                   "touch /sys/fs/cgroup 2>/dev/null; "
                                   "grep -c 'sysfs rw' /proc/mounts");
  privileged.privileged = true;
  privileged.seccomp.kind = SeccompSpec::Kind::kUnconfined;
  privileged.apparmor.kind = AppArmorSpec::Kind::kUnconfined;
  privileged.capabilities = {.bounding = AllCapabilities(),
                             .effective = AllCapabilities(),
                             .permitted = AllCapabilities()};
  RunToEnd(privileged);
  EXPECT_EQ(Output("p"), "read\n1\n");
}

TEST_F(RuntimeTest, LimitsAndScores) {
  StartPod();
  ContainerSpec spec = Shell("c", "ulimit -n; cat /proc/self/oom_score_adj");
  spec.rlimits = {{.resource = RLIMIT_NOFILE, .soft = 123, .hard = 456}};
  spec.oom_score_adj = 555;
  RunToEnd(spec);
  EXPECT_EQ(Output("c"), "123\n555\n");
}

TEST_F(RuntimeTest, NothingOfTheHostLeaksIn) {
  StartPod();
  RunToEnd(Shell(
      "c",
      "ls /proc/self/fd | wc -l; cat /proc/self/cgroup; env | grep -v '^SHLVL\\|^PWD' | wc -l;"
      "grep 'SigIgn\\|SigBlk' /proc/self/status; umask;"
      "awk '$2 !~ \"^/(proc|sys|dev)(/|$)\" { print $2 }' /proc/mounts"));
  std::string output = Output("c");
  // 0, 1, 2 and the directory that ls reads.
  EXPECT_TRUE(output.starts_with("4\n")) << output;
  EXPECT_THAT(output, Not(HasSubstr("skiff")));
  EXPECT_THAT(output, HasSubstr("0::/\n2\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
                                "0022\n/\n"));
}

}  // namespace
}  // namespace skiff::runtime
