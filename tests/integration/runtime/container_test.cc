// Containers from their start to their end: exit codes, namespaces, mounts, limits.

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/linux/cgroup.h"
#include "tests/integration/runtime/fixture.h"

namespace skiff::runtime {
namespace {

TEST_F(RuntimeTest, ExitCodesAndSignals) {
  StartPod();
  EXPECT_EQ(RunToEnd(Shell("zero", "true")).status.ShellCode(), 0);
  EXPECT_EQ(RunToEnd(Shell("three", "exit 3")).status.code, 3);
  ContainerExit killed = RunToEnd(Shell("killed", "kill -9 $$; sleep 0.1"));
  // PID 1 cannot kill itself: the shell goes on to sleep, and exits with 0.
  EXPECT_EQ(killed.status.ShellCode(), 0);
  ContainerExit status = RunToEnd(Shell("times", "sleep 0.1"));
  ContainerStatus container = runtime_->Container("times").value();
  EXPECT_EQ(container.state, ContainerState::kExited);
  ASSERT_TRUE(container.started.has_value());
  EXPECT_LE(container.created, *container.started);
  EXPECT_GE(status.finished - *container.started, milliseconds(90));
  EXPECT_EQ(container.pid, 0);
}

TEST_F(RuntimeTest, CreatedContainerWaits) {
  StartPod();
  ASSERT_OK(runtime_->CreateContainer(Shell("c", "echo ran")));
  EXPECT_EQ(runtime_->Container("c")->state, ContainerState::kCreated);
  EXPECT_GT(runtime_->Container("c")->pid, 0);
  EXPECT_EQ(Output("c"), "");
  // Twice is once; with another spec it is an error.
  ASSERT_OK(runtime_->CreateContainer(Shell("c", "echo ran")));
  EXPECT_EQ(runtime_->CreateContainer(Shell("c", "echo other")).error().code(),
            Code::kAlreadyExists);
  EXPECT_EQ(runtime_->Exec({.container_id = "c", .argv = {"true"}}, {}).error().code(),
            Code::kFailedPrecondition);
  ASSERT_OK(runtime_->StartContainer("c"));
  WaitExit("c");
  EXPECT_EQ(Output("c"), "ran\n");
  EXPECT_EQ(runtime_->StartContainer("c").error().code(), Code::kFailedPrecondition);
}

TEST_F(RuntimeTest, RemovingACreatedContainerEndsIt) {
  StartPod();
  ASSERT_OK(runtime_->CreateContainer(Shell("c", "echo ran")));
  ASSERT_OK(runtime_->RemoveContainer("c"));
  EXPECT_EQ(runtime_->Container("c").error().code(), Code::kNotFound);
  EXPECT_EQ(Output("c"), "");
}

TEST_F(RuntimeTest, UnknownIds) {
  EXPECT_TRUE(runtime_->StopSandbox("nobody").ok());
  EXPECT_TRUE(runtime_->RemoveSandbox("nobody").ok());
  EXPECT_TRUE(runtime_->StopContainer("nobody", seconds(1)).ok());
  EXPECT_TRUE(runtime_->RemoveContainer("nobody").ok());
  EXPECT_EQ(runtime_->StartContainer("nobody").error().code(), Code::kNotFound);
  EXPECT_EQ(runtime_->Container("nobody").error().code(), Code::kNotFound);
  EXPECT_EQ(runtime_->ContainerStats("nobody").error().code(), Code::kNotFound);
  EXPECT_EQ(runtime_->CreateSandbox(Pod("../etc")).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(runtime_->CreateContainer(Shell("c", "true")).error().code(), Code::kNotFound);
}

TEST_F(RuntimeTest, FailedStartsSayWhy) {
  StartPod();
  ContainerSpec spec = Shell("missing", "");
  spec.argv = {"no-such-program", "x"};
  if (handler_.empty()) {
    ASSERT_OK(runtime_->CreateContainer(spec));
    Result<> started = runtime_->StartContainer("missing");
    ASSERT_FALSE(started.ok());
    EXPECT_THAT(started.error().message(),
                HasSubstr("\"no-such-program\": executable file not found in $PATH"));
    EXPECT_EQ(started.error().code(), Code::kNotFound);
    ContainerExit exit = WaitExit("missing");
    EXPECT_EQ(exit.status.code, 127);
    EXPECT_THAT(exit.start_error, HasSubstr("executable file not found"));

    spec = Shell("denied", "");
    spec.argv = {"/etc/passwd"};
    ASSERT_OK(runtime_->CreateContainer(spec));
    EXPECT_FALSE(runtime_->StartContainer("denied").ok());
    EXPECT_EQ(WaitExit("denied").status.code, 126);
  } else {
    // OCI runtimes look for the program when they create the container.
    Result<ContainerStatus> refused = runtime_->CreateContainer(spec);
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(refused.error().message(), HasSubstr("no-such-program"));
    EXPECT_THAT(refused.error().message(), HasSubstr("not found in $PATH"));
    EXPECT_EQ(runtime_->Container("missing").error().code(), Code::kNotFound);
  }

  spec = Shell("nouser", "true");
  spec.user.user = "nobody-here";
  Result<ContainerStatus> created = runtime_->CreateContainer(spec);
  ASSERT_FALSE(created.ok());
  EXPECT_THAT(created.error().message(), HasSubstr("unable to find user nobody-here"));
  EXPECT_EQ(runtime_->Container("nouser").error().code(), Code::kNotFound);

  spec = Shell("nosource", "true");
  spec.mounts = {{.source = "/no/such/path", .target = "/data"}};
  created = runtime_->CreateContainer(spec);
  ASSERT_FALSE(created.ok());
  EXPECT_THAT(created.error().message(), HasSubstr("/no/such/path"));
  EXPECT_EQ(created.error().sys_errno(), ENOENT);
  // And the same id can be used again.
  spec.mounts.clear();
  EXPECT_EQ(RunToEnd(spec).status.code, 0);
}

TEST_F(RuntimeTest, NamespacesOfThePod) {
  SandboxSpec pod = Pod("pod");
  pod.sysctls = {{"net.ipv4.ip_unprivileged_port_start", "0"}, {"kernel.shm_rmid_forced", "1"}};
  StartPod(pod);
  RunToEnd(
      Shell("c",
            "hostname; echo pid $$; ls /proc | grep -c '^[0-9]';"
            "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced;"
            "ip -o link | grep -c UP; pwd; echo $HOME"));
  // Two processes: the shell and ls (grep reads its names).
  EXPECT_THAT(Output("c"), HasSubstr("host-of-pod\npid 1\n"));
  EXPECT_THAT(Output("c"), HasSubstr("\n0\n1\n1\n/\n/root\n"));
  // What containers of a pod share. The standard input of nc never ends (a FIFO opened both ways):
  // at its end nc would close the connection, perhaps before the other side has sent.
  ASSERT_OK(runtime_->CreateContainer(
      Shell("a", "mkfifo /dev/shm/f; echo from a > /dev/shm/x; exec nc -l -p 7000 <> /dev/shm/f")));
  ASSERT_OK(runtime_->StartContainer("a"));
  ContainerSpec b = Shell("b",
                          "while ! test -s /dev/shm/x; do sleep 0.01; done; cat /dev/shm/x;"
                          "while ! echo hello | nc 127.0.0.1 7000; do sleep 0.01; done");
  EXPECT_EQ(RunToEnd(b).status.code, 0);
  EXPECT_EQ(Output("b"), "from a\n");
  EXPECT_EQ(WaitExit("a").status.code, 0);
  EXPECT_EQ(Output("a"), "hello\n");
}

TEST_F(RuntimeTest, SharedPidNamespace) {
  SandboxSpec pod = Pod("pod");
  pod.pid = NamespaceMode::kPod;
  StartPod(pod);
  ContainerSpec a = Shell("a", "sleep 1000");
  a.argv = {"sleep", "1000"};
  a.pid = NamespaceMode::kPod;
  Start(a);
  ContainerSpec b = Shell("b",
                          "cat /proc/1/comm; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' ;"
                          "ls /proc/1/root/ 2>&1; (sleep 0.01 &) ; sleep 0.1;"
                          "ps | grep -c '[Zz] '");
  b.pid = NamespaceMode::kPod;
  RunToEnd(b);
  EXPECT_THAT(Output("b"), HasSubstr("skiff-pause"));
  EXPECT_THAT(Output("b"), HasSubstr("sleep 1000"));
  // The root directory of pause is out of reach, and would be bare.
  EXPECT_THAT(Output("b"), HasSubstr("Permission denied"));
  EXPECT_THAT(Output("b"), Not(HasSubstr("etc")));
  ContainerSpec target = Shell("t", "echo $$; cat /proc/1/comm");
  target.pid = NamespaceMode::kTarget;
  target.target_id = "a";
  RunToEnd(target);
  EXPECT_THAT(Output("t"), HasSubstr("skiff-pause"));
  // Ending one ends all that it started, though the namespace lives on.
  ContainerSpec leaver = Shell("l", "setsid sleep 2000 & echo ready; exec sleep 3000");
  leaver.pid = NamespaceMode::kPod;
  Start(leaver);
  WaitForLog("l", "ready");
  ASSERT_OK(runtime_->StopContainer("l", milliseconds(0)));
  EXPECT_EQ(WaitExit("l").status.signal, 9);
  auto seen = ExecShell("a", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
  ASSERT_OK(seen);
  EXPECT_THAT(seen->out, Not(HasSubstr("sleep 2000")));
}

TEST_F(RuntimeTest, NodeNamespaces) {
  SandboxSpec pod = Pod("pod");
  pod.network = pod.ipc = pod.pid = NamespaceMode::kNode;
  StartPod(pod);
  EXPECT_EQ(runtime_->Sandbox("pod")->netns_path, "");
  char link[128];
  auto own = [&](const char* name) {
    ssize_t length = ::readlink((std::string("/proc/self/ns/") + name).c_str(), link, sizeof link);
    return std::string(link, static_cast<size_t>(length));
  };
  ContainerSpec spec = Shell("c",
                             "for n in net ipc uts pid; do readlink /proc/self/ns/$n; done;"
                             "(setsid sleep 30 &); echo $$");
  spec.pid = NamespaceMode::kNode;
  RunToEnd(spec);
  EXPECT_THAT(Output("c"),
              HasSubstr(own("net") + "\n" + own("ipc") + "\n" + own("uts") + "\n" + own("pid")));
}

TEST_F(RuntimeTest, MountsOfTheSpec) {
  StartPod();
  std::string data = work_->path() + "/data";
  ASSERT_OK(MakeDirectories(data + "/sub"));
  ASSERT_OK(WriteFileAtomic(data + "/file", "text\n", Durability::kNone, 0644));
  ASSERT_EQ(::symlink("/etc", (data + "/escape").c_str()), 0);
  ASSERT_EQ(::mount("tmpfs", (data + "/sub").c_str(), "tmpfs", 0, "mode=777"), 0);
  ContainerSpec spec = Shell(
      "c",
      "cat /data/file; touch /ro/x 2>&1; touch /rro/sub/x 2>&1; touch /ro/sub/y && echo shallow;"
      "cat /etc/one; echo w > /data/written; touch /tmpfs/t && df -k /tmpfs | tail -n 1;"
      "grep ' /tmpfs ' /proc/mounts; grep -c overlay /proc/mounts; ls -d /deep/er");
  spec.mounts = {
      {.source = data, .target = "/data"},
      {.source = data, .target = "/ro", .readonly = true},
      {.source = data, .target = "/rro", .readonly = true, .recursive_readonly = true},
      {.source = data + "/file", .target = "/etc/one"},
      {.source = data, .target = "/deep/er", .no_exec = true, .no_dev = true, .no_suid = true},
      {.type = MountSpec::Type::kTmpfs, .target = "/tmpfs", .tmpfs_options = "size=64k,noexec"},
  };
  EXPECT_EQ(RunToEnd(spec).status.code, 0);
  std::string output = Output("c");
  EXPECT_THAT(output, HasSubstr("text\ntouch: /ro/x: Read-only file system\n"
                                "touch: /rro/sub/x: Read-only file system\nshallow\ntext\n"));
  EXPECT_THAT(output, HasSubstr(" 64 "));
  EXPECT_THAT(output, HasSubstr("noexec"));
  EXPECT_THAT(output, HasSubstr("/deep/er"));
  EXPECT_EQ(ReadFile(data + "/written").value(), "w\n");

  ContainerSpec sub = Shell("s", "ls /m; cat /f");
  sub.mounts = {{.source = data, .target = "/m", .sub_path = "sub"},
                {.source = data, .target = "/f", .sub_path = "file"}};
  EXPECT_EQ(RunToEnd(sub).status.code, 0);
  EXPECT_EQ(Output("s"), "y\ntext\n");
  // A link out of the volume stays in it, and finds nothing there.
  ContainerSpec escape = Shell("e", "true");
  escape.mounts = {{.source = data, .target = "/m", .sub_path = "escape/passwd"}};
  Result<ContainerStatus> created = runtime_->CreateContainer(escape);
  ASSERT_FALSE(created.ok());
  EXPECT_EQ(created.error().sys_errno(), ENOENT);
  ASSERT_EQ(::umount2((data + "/sub").c_str(), MNT_DETACH), 0);
}

TEST_F(RuntimeTest, TargetsCannotLeaveTheRootfs) {
  StartPod();
  std::string outside = work_->path() + "/outside";
  ASSERT_OK(MakeDirectories(outside));
  ASSERT_EQ(::symlink(outside.c_str(), (rootfs_ + "/evil").c_str()), 0);
  ASSERT_EQ(::symlink("../../../../../../dangling/link", (rootfs_ + "/etc/conf").c_str()), 0);
  ContainerSpec spec =
      Shell("c", "ls /evil/; cat /etc/conf; readlink /etc/conf; ls -d /dangling/link");
  ASSERT_OK(WriteFileAtomic(work_->path() + "/conf", "configured\n", Durability::kNone, 0644));
  spec.mounts = {{.source = rootfs_ + "/etc", .target = "/evil/made"},
                 {.source = work_->path() + "/conf", .target = "/etc/conf"}};
  EXPECT_EQ(RunToEnd(spec).status.code, 0);
  EXPECT_THAT(ListDirectory(outside).value(), IsEmpty());
  EXPECT_THAT(Output("c"), HasSubstr("made\nconfigured\n"));
}

TEST_F(RuntimeTest, Propagation) {
  StartPod();
  std::string shared = work_->path() + "/shared";
  ASSERT_OK(MakeDirectories(shared));
  ContainerSpec spec = Shell("c", "true");
  spec.mounts = {{.source = shared, .target = "/mnt", .propagation = MountPropagation::kShared}};
  Result<ContainerStatus> refused = runtime_->CreateContainer(spec);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message(), HasSubstr("it is not a shared mount"));

  ASSERT_EQ(::mount("tmpfs", shared.c_str(), "tmpfs", 0, nullptr), 0);
  ASSERT_EQ(::mount(nullptr, shared.c_str(), nullptr, MS_SHARED, nullptr), 0);
  ASSERT_OK(MakeDirectories(shared + "/host"));
  ASSERT_OK(MakeDirectories(shared + "/container"));
  auto container = [&](const std::string& id, MountPropagation propagation) {
    ContainerSpec c = Shell(id,
                            "mount -t tmpfs x /mnt/container; echo mounted;"
                            "while ! test -e /mnt/stop; do sleep 0.01; done;"
                            "ls /mnt/host; umount /mnt/container");
    c.mounts = {{.source = shared, .target = "/mnt", .propagation = propagation}};
    c.capabilities.bounding = c.capabilities.effective = c.capabilities.permitted =
        AllCapabilities();
    c.seccomp.kind = SeccompSpec::Kind::kUnconfined;
    c.apparmor.kind = AppArmorSpec::Kind::kUnconfined;
    Start(c);
    WaitForLog(id, "mounted");
  };
  auto mounted_on_host = [&] {
    struct stat inner, outer;
    EXPECT_EQ(::stat((shared + "/container").c_str(), &inner), 0);
    EXPECT_EQ(::stat(shared.c_str(), &outer), 0);
    return inner.st_dev != outer.st_dev;
  };
  struct Case {
    MountPropagation propagation;
    bool up, down;
  };
  for (auto [propagation, up, down] :
       {Case{MountPropagation::kPrivate, false, false}, Case{MountPropagation::kSlave, false, true},
        Case{MountPropagation::kShared, true, true}}) {
    std::string id = "p" + std::to_string(static_cast<int>(propagation));
    container(id, propagation);
    EXPECT_EQ(mounted_on_host(), up) << id;
    ASSERT_EQ(::mount("tmpfs", (shared + "/host").c_str(), "tmpfs", 0, nullptr), 0);
    ASSERT_OK(MakeDirectories(shared + "/host/seen"));
    ASSERT_OK(WriteFileAtomic(shared + "/stop", "", Durability::kNone));
    WaitExit(id);
    EXPECT_EQ(Output(id).find("seen") != std::string::npos, down) << id;
    ASSERT_EQ(::umount2((shared + "/host").c_str(), MNT_DETACH), 0);
    ASSERT_OK(RemoveFile(shared + "/stop"));
  }
  ASSERT_EQ(::umount2(shared.c_str(), MNT_DETACH), 0);
}

TEST_F(RuntimeTest, RootfsKinds) {
  StartPod();
  ContainerSpec readonly = Shell("ro", "touch /x 2>&1; touch /dev/shm/ok && echo shm; pwd");
  readonly.rootfs.readonly = true;
  readonly.cwd = "/made/here";
  RunToEnd(readonly);
  EXPECT_EQ(Output("ro"), "touch: /x: Read-only file system\nshm\n/made/here\n");

  std::string top = work_->path() + "/top";
  ASSERT_OK(MakeDirectories(top + "/etc"));
  ASSERT_OK(WriteFileAtomic(top + "/etc/passwd", "covered\n", Durability::kNone, 0644));
  ContainerSpec layered = Shell("layers", "cat /etc/passwd /etc/group; echo x > /etc/group");
  layered.rootfs.lower_dirs = {top, rootfs_};
  RunToEnd(layered);
  EXPECT_THAT(Output("layers"), HasSubstr("covered\nroot:x:0:"));
  EXPECT_THAT(ReadFile(rootfs_ + "/etc/group").value(), HasSubstr("workers"));

  ContainerSpec in_place = Shell("plain", "echo here > /in-place");
  in_place.rootfs = {.lower_dirs = {rootfs_}};
  EXPECT_EQ(RunToEnd(in_place).status.code, 0);
  EXPECT_EQ(ReadFile(rootfs_ + "/in-place").value(), "here\n");
}

TEST_F(RuntimeTest, OverlayFallbackOfOlderKernels) {
  config_.force_fallbacks = true;
  Abandon();
  Open();
  StartPod();
  ContainerSpec spec = Shell("c", "echo x > /etc/new; cat /etc/new; grep -c . /proc/mounts");
  for (int i = 0; i < 60; ++i) {
    // With long paths: more than a page of mount options.
    std::string layer = work_->path() + "/a-rather-long-path-of-a-layer-of-an-image/" +
                        std::string(40, 'x') + std::to_string(i);
    ASSERT_OK(MakeDirectories(layer));
    spec.rootfs.lower_dirs.insert(spec.rootfs.lower_dirs.begin(), layer);
  }
  EXPECT_EQ(RunToEnd(spec).status.code, 0);
  EXPECT_THAT(Output("c"), HasSubstr("x\n"));
}

TEST_F(RuntimeTest, LimitsAreInTheCgroup) {
  StartPod();
  ContainerSpec spec = Shell("c",
                             "cat /sys/fs/cgroup/memory.max "
                             "/sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null;"
                             "sleep 1000");
  spec.resources = {.cpu_shares = 1024,
                    .cpu_quota_us = 50000,
                    .cpu_period_us = 100000,
                    .cpuset_cpus = "0",
                    .memory_limit_bytes = 64 << 20,
                    .pids_limit = 77};
  Start(spec);
  EXPECT_EQ(CgroupFile("c", "memory", "memory.limit_in_bytes", "memory.max"), "67108864");
  EXPECT_EQ(CgroupFile("c", "pids", "pids.max", "pids.max"), "77");
  EXPECT_EQ(CgroupFile("c", "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
  EXPECT_EQ(CgroupFile("c", "cpu", "cpu.shares", "cpu.weight"),
            runtime_->cgroup_v2() ? "100" : "1024");
  EXPECT_EQ(CgroupFile("c", "cpu", "cpu.cfs_quota_us", "cpu.max"),
            runtime_->cgroup_v2() ? "50000 100000" : "50000");
  WaitForLog("c", "67108864");
  EXPECT_THAT(CgroupFile("c", "memory", "cgroup.procs", "cgroup.procs"),
              HasSubstr(std::to_string(runtime_->Container("c")->pid)));

  ASSERT_OK(runtime_->UpdateResources("c", {.cpu_shares = 512, .memory_limit_bytes = 128 << 20}));
  EXPECT_EQ(CgroupFile("c", "memory", "memory.limit_in_bytes", "memory.max"), "134217728");
  EXPECT_EQ(CgroupFile("c", "pids", "pids.max", "pids.max"), "77");
  // Shares, quota and sets in flight, too.
  ASSERT_OK(runtime_->UpdateResources("c", {.cpu_shares = 2048, .cpu_quota_us = 20000}));
  EXPECT_EQ(CgroupFile("c", "cpu", "cpu.shares", "cpu.weight"),
            runtime_->cgroup_v2() ? std::to_string(WeightFromShares(2048)) : "2048");
  EXPECT_EQ(CgroupFile("c", "cpu", "cpu.cfs_quota_us", "cpu.max"),
            runtime_->cgroup_v2() ? "20000 100000" : "20000");
  ASSERT_OK(runtime_->SetOomScore("c", 700));
  const std::string score = "/proc/" + std::to_string(runtime_->Container("c")->pid);
  EXPECT_EQ(ReadFile(score + "/oom_score_adj").value_or(""), "700\n");
  const Result<> unified = runtime_->UpdateResources("c", {.unified = {{"cgroup.max.depth", "3"}}});
  if (runtime_->cgroup_v2()) {
    ASSERT_OK(unified);
    EXPECT_EQ(CgroupFile("c", "", "", "cgroup.max.depth"), "3");
  } else {
    ASSERT_FALSE(unified.ok());
    EXPECT_THAT(unified.error().message(), HasSubstr("needs cgroup v2"));
  }

  CgroupStats stats = runtime_->ContainerStats("c").value();
  EXPECT_GT(stats.memory_usage_bytes.value_or(0), 0U);
  EXPECT_GE(stats.memory_usage_bytes.value(), stats.memory_working_set_bytes.value());
  EXPECT_GT(stats.cpu_usage_nanos.value_or(0), 0U);
  EXPECT_GE(stats.pids.value_or(0), 1U);
  EXPECT_LE(stats.memory_available_bytes.value_or(~0ULL), 128U << 20);
}

TEST_F(RuntimeTest, OutOfMemoryIsReported) {
  StartPod();
  // tail keeps all of a file without newlines in memory.
  ContainerSpec spec = Shell("c", "tail /dev/zero; echo survived $?; exit 7");
  spec.resources = {.memory_limit_bytes = 16 << 20, .memory_swap_limit_bytes = 16 << 20};
  ContainerExit exit = RunToEnd(spec);
  EXPECT_TRUE(exit.oom_killed);
  // A child of it: the container itself goes on, and it still counts.
  EXPECT_EQ(exit.status.code, 7);
  EXPECT_THAT(Output("c"), HasSubstr("survived 137"));

  ContainerSpec direct = Shell("d", "");
  direct.argv = {"tail", "/dev/zero"};
  direct.resources = spec.resources;
  exit = RunToEnd(direct);
  EXPECT_TRUE(exit.oom_killed);
  EXPECT_EQ(exit.status.ShellCode(), 137);
  EXPECT_FALSE(RunToEnd(Shell("fine", "true")).oom_killed);
}

TEST_F(RuntimeTest, StopAsksThenKills) {
  StartPod();
  Start(
      Shell("polite", "trap 'echo bye; exit 5' TERM; echo ready; while true; do sleep 0.05; done"));
  WaitForLog("polite", "ready");
  ASSERT_OK(runtime_->StopContainer("polite", seconds(10)));
  EXPECT_EQ(runtime_->Container("polite")->exit->status.code, 5);
  EXPECT_EQ(Output("polite"), "ready\nbye\n");

  Start(Shell("deaf", "trap '' TERM; echo ready; sleep 1000 & sleep 2000"));
  WaitForLog("deaf", "ready");
  auto before = std::chrono::steady_clock::now();
  ASSERT_OK(runtime_->StopContainer("deaf", milliseconds(200)));
  EXPECT_GE(std::chrono::steady_clock::now() - before, milliseconds(200));
  EXPECT_EQ(runtime_->Container("deaf")->exit->status.signal, 9);
  ASSERT_OK(runtime_->StopContainer("deaf", seconds(1)));

  ContainerSpec usr =
      Shell("usr", "trap 'exit 9' USR1; echo ready; while true; do sleep 0.05; done");
  usr.stop_signal = SIGUSR1;
  Start(usr);
  WaitForLog("usr", "ready");
  ASSERT_OK(runtime_->StopContainer("usr", seconds(10)));
  EXPECT_EQ(runtime_->Container("usr")->exit->status.code, 9);
  EXPECT_EQ(runtime_->SignalContainer("usr", SIGTERM).error().code(), Code::kNotFound);
}

TEST_F(RuntimeTest, StoppedSandboxKeepsItsNetworkNamespace) {
  StartPod();
  Start(Shell("c", "sleep 1000"));
  std::string netns = runtime_->Sandbox("pod")->netns_path;
  ASSERT_OK(runtime_->StopSandbox("pod"));
  EXPECT_EQ(runtime_->Sandbox("pod")->state, SandboxState::kStopped);
  EXPECT_EQ(runtime_->Container("c")->state, ContainerState::kExited);
  EXPECT_EQ(runtime_->Container("c")->exit->status.signal, 9);
  EXPECT_EQ(CountEvents("c"), 1);
  // Its own doing is no news.
  EXPECT_EQ(CountEvents(""), 0);
  EXPECT_TRUE(PathExists(netns));
  ASSERT_OK(runtime_->StopSandbox("pod"));
  EXPECT_EQ(runtime_->CreateContainer(Shell("d", "true")).error().code(),
            Code::kFailedPrecondition);
  ASSERT_OK(runtime_->RemoveSandbox("pod"));
  EXPECT_FALSE(PathExists(netns));
}

TEST_F(RuntimeTest, ConnectsToAPortOfThePod) {
  StartPod();
  Start(Shell("c", "echo pong | nc -l -p 8080"));
  Result<UniqueFd> connection = Error(Code::kUnavailable, "");
  auto deadline = std::chrono::steady_clock::now() + seconds(10);
  while (!connection.ok() && std::chrono::steady_clock::now() < deadline) {
    connection = runtime_->ConnectToPort("pod", 8080);
  }
  ASSERT_OK(connection);
  char text[16] = {};
  EXPECT_EQ(::read(connection->get(), text, sizeof text), 5);
  EXPECT_STREQ(text, "pong\n");
  EXPECT_EQ(runtime_->ConnectToPort("pod", 1).error().code(), Code::kUnavailable);
}

}  // namespace
}  // namespace skiff::runtime
