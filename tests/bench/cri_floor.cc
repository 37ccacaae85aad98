// skiff-cri-floor: the kernel work of a pod, in a row: what no runtime can be faster than that
// makes the same namespaces, mounts, interfaces, cgroups and files as the load program's pods
// (cri_pods.cc) ask of it. No daemon, no records, no supervisor.
//
//   skiff-cri-floor --folder /tmp/x --cgroup /bench --count 50 --parallel 1
//
// Runs in a network and mount namespace of the caller's; --folder is empty at first.
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <string>
#include <vector>

#include "base/net/rtnl.h"
#include "base/os/files.h"
#include "runtime/linux/capabilities.h"
#include "runtime/linux/mounts.h"
#include "runtime/wire/channel.h"
#include "tests/bench/figures.h"

namespace skiff::bench {
namespace {

using runtime::AttachMount;
using runtime::MakeFilesystem;
using runtime::TargetKind;

constexpr const char* kHierarchies[] = {"cpu", "cpuacct", "cpuset", "memory", "pids", "devices"};
constexpr const char* kBridge = "floor0";
// What a container has besides, as every runtime gives it to one that asks for nothing else.
constexpr const char* kPodFiles[] = {"hostname", "hosts", "resolv.conf"};
constexpr const char* kDeviceLinks[][2] = {
    {"/proc/self/fd", "fd"},       {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
    {"/proc/self/fd/2", "stderr"}, {"/proc/kcore", "core"},      {"pts/ptmx", "ptmx"}};
struct DeviceNode {
  const char* name;
  unsigned major, minor;
};
constexpr DeviceNode kDeviceNodes[] = {{"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
                                       {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
constexpr const char* kReadonlyPaths[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                          "/proc/sysrq-trigger"};
constexpr const char* kMaskedPaths[] = {
    "/proc/acpi",       "/proc/asound",      "/proc/interrupts",
    "/proc/kcore",      "/proc/keys",        "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi",       "/sys/firmware",     "/sys/devices/virtual/powercap"};
// The devices of a container, as the devices hierarchy of cgroup v1 has them written, one a write.
constexpr const char* kDeviceRules[] = {"c *:* m",   "b *:* m",    "c 1:3 rwm", "c 1:5 rwm",
                                        "c 1:7 rwm", "c 1:8 rwm",  "c 1:9 rwm", "c 5:0 rwm",
                                        "c 5:2 rwm", "c 136:* rwm"};
constexpr uint64_t kInert = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

struct Options {
  std::string folder;
  std::string cgroup;
  int count = 50;
  int parallel = 1;
};

double Since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

Result<> Check(long result, const char* what) {
  if (result >= 0) return {};
  return Error::Sys(errno, what);
}

struct Child {
  pid_t pid = 0;
  UniqueFd pidfd;
  UniqueFd socket;  // ends when the child becomes its program
};

// Runs `work`, which ends in an exec, in a new process.
Result<Child> Start(uint64_t flags, const std::string& cgroup,
                    const std::function<Result<>(int socket)>& work) {
  runtime::SocketPair pair = TRY(runtime::MakeSocketPair());
  UniqueFd group = TRY(OpenFile(cgroup, O_PATH | O_DIRECTORY));
  int pidfd = -1;
  clone_args arguments{};
  arguments.flags = CLONE_PIDFD | CLONE_INTO_CGROUP | flags;
  arguments.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  arguments.cgroup = static_cast<uint64_t>(group.get());
  arguments.exit_signal = SIGCHLD;
  long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid == 0) {
    Result<> failed = work(pair.theirs.get());
    (void)runtime::SendMessage(pair.theirs.get(), 1, 0, failed.error().message());
    ::_exit(1);
  }
  TRY(Check(pid, "clone3"));
  return Child{static_cast<pid_t>(pid), UniqueFd(pidfd), std::move(pair.ours)};
}

Result<> WaitForExec(const Child& child) {
  auto said = TRY(runtime::ReceiveMessage(child.socket.get()));
  if (!said) return {};
  return Error(Code::kInternal, said->body);
}

Result<> End(const Child& child) {
  TRY(Check(::syscall(SYS_pidfd_send_signal, child.pidfd.get(), SIGKILL, nullptr, 0), "kill"));
  return Check(::waitpid(child.pid, nullptr, 0), "waitpid");
}

// One pod after another, in a process of its own.
class Worker {
 public:
  Worker(const Options& options, int number)
      : options_(options),
        number_(number),
        folder_(options.folder + "/" + std::to_string(number)),
        cgroup_(options.cgroup + "/floor-" + std::to_string(number)) {}

  Result<> Up() {
    TRY(MakeDirectories(folder_ + "/upper"));
    TRY(MakeDirectories(folder_ + "/work"));
    TRY(StartSandbox());
    for (const char* name : kPodFiles) {
      TRY(WriteFileInPlace(folder_ + "/" + name, "10.90.1.1\tfloor\n", 0644));
    }
    return StartContainer();
  }

  Result<> Down() {
    TRY(End(container_));
    TRY(End(pause_));
    TRY(Check(::umount2((folder_ + "/netns").c_str(), MNT_DETACH), "umount"));
    for (const std::string& directory : Cgroups()) {
      TRY(Check(::rmdir((directory + "/c").c_str()), "rmdir"));
      TRY(Check(::rmdir(directory.c_str()), "rmdir"));
    }
    return RemoveTree(folder_);
  }

 private:
  // The unified one first.
  std::vector<std::string> Cgroups() const {
    if (PathExists("/sys/fs/cgroup/cgroup.controllers")) return {"/sys/fs/cgroup" + cgroup_};
    std::vector<std::string> all = {"/sys/fs/cgroup/unified" + cgroup_};
    for (const char* name : kHierarchies) all.push_back("/sys/fs/cgroup/" + (name + cgroup_));
    return all;
  }

  Result<> StartSandbox() {
    for (const std::string& directory : Cgroups())
      TRY(Check(::mkdir(directory.c_str(), 0755), "mkdir"));
    net::Rtnl node = TRY(net::Rtnl::Open());
    const int bridge = TRY(node.LinkIndex(kBridge));
    runtime::SocketPair go = TRY(runtime::MakeSocketPair());
    constexpr uint64_t kNew =
        CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWPID;
    pause_ = TRY(Start(kNew, Cgroups()[0], [&](int) { return BecomePause(go.theirs.get()); }));
    const std::string path = "/proc/" + std::to_string(pause_.pid) + "/ns/net";
    TRY(OpenFile(folder_ + "/netns", O_RDONLY | O_CREAT));
    TRY(Check(::mount(path.c_str(), (folder_ + "/netns").c_str(), nullptr, MS_BIND, nullptr),
              "bind"));
    UniqueFd netns = TRY(OpenFile(path, O_RDONLY));
    TRY(node.Apply(net::rtnl::CreateVeth(
        {.name = "floor0-" + std::to_string(++pods_) + "-" + std::to_string(number_),
         .master = bridge,
         .peer_name = "eth0",
         .peer_netns = netns.get()})));
    TRY(runtime::SendMessage(go.ours.get(), 1, 0, {}));
    return WaitForExec(pause_);
  }

  Result<> BecomePause(int go) const {
    TRY(Check(::sethostname("floor", 5), "sethostname"));
    TRY(Check(::mount(nullptr, "/", nullptr, MS_PRIVATE | MS_REC, nullptr), "private"));
    UniqueFd program = TRY(OpenFile(options_.folder + "/lower/bin/busybox", O_RDONLY));
    UniqueFd root = TRY(MakeFilesystem("tmpfs", {{"mode", "0555"}, {"size", "64k"}}, kInert));
    TRY(Check(::mkdirat(root.get(), "shm", 0555), "mkdir"));
    UniqueFd scratch = TRY(OpenFile(folder_, O_PATH | O_DIRECTORY));
    TRY(AttachMount(root.get(), scratch.get(), folder_));
    UniqueFd shm = TRY(MakeFilesystem("tmpfs", {{"mode", "1777"}, {"size", "64m"}}, kInert));
    UniqueFd target = TRY(runtime::OpenInRoot(root.get(), "/shm", O_PATH));
    TRY(AttachMount(shm.get(), target.get(), "/shm"));
    TRY(runtime::PivotInto(root.get()));
    TRY(runtime::ReceiveMessage(go));
    TRY(ConfigureNetwork());
    TRY(runtime::LimitCapabilities(0));
    return Execute(program);
  }

  Result<> ConfigureNetwork() const {
    net::Rtnl inside = TRY(net::Rtnl::Open());
    const int loopback = TRY(inside.LinkIndex("lo"));
    const int link = TRY(inside.LinkIndex("eth0"));
    const auto gateway = TRY(net::IpAddress::Parse("10.90.0.1"));
    const auto address = TRY(net::IpAddress::Parse("10.90.1." + std::to_string(number_ % 250 + 1)));
    std::vector<net::NetlinkMessage> changes;
    changes.push_back(net::rtnl::SetUp(loopback, true));
    changes.push_back(net::rtnl::SetUp(link, true));
    changes.push_back(net::rtnl::AddAddress(link, address, 32));
    changes.push_back(net::rtnl::ReplaceRoute(
        {.destination = net::IpPrefix::Host(gateway), .gateway = {}, .link = link}));
    changes.push_back(net::rtnl::ReplaceRoute({.destination = net::IpPrefix::Of(gateway, 0),
                                               .gateway = gateway,
                                               .link = link,
                                               .source = address}));
    return inside.Apply(std::move(changes));
  }

  Result<> StartContainer() {
    for (const std::string& directory : Cgroups()) {
      TRY(Check(::mkdir((directory + "/c").c_str(), 0755), "mkdir"));
    }
    TRY(RestrictDevices());
    TRY(MakeDirectories(folder_ + "/log"));
    UniqueFd log = TRY(OpenFile(folder_ + "/log/main.log", O_WRONLY | O_APPEND | O_CREAT, 0640));
    // As whoever writes the log reads them.
    int out[2], err[2];
    TRY(Check(::pipe2(out, O_CLOEXEC), "pipe"));
    UniqueFd out_read(out[0]), out_write(out[1]);
    TRY(Check(::pipe2(err, O_CLOEXEC), "pipe"));
    UniqueFd err_read(err[0]), err_write(err[1]);
    const auto become = [&](int) -> Result<> {
      TRY(Check(::dup2(out_write.get(), STDOUT_FILENO), "dup2"));
      TRY(Check(::dup2(err_write.get(), STDERR_FILENO), "dup2"));
      return BecomeContainer();
    };
    container_ = TRY(Start(CLONE_NEWPID, Cgroups()[0] + "/c", become));
    return WaitForExec(container_);
  }

  Result<> RestrictDevices() const {
    for (const std::string& directory : Cgroups()) {
      if (!directory.starts_with("/sys/fs/cgroup/devices/")) continue;
      TRY(WriteControlFile(directory + "/c/devices.deny", "a"));
      for (const char* rule : kDeviceRules) {
        TRY(WriteControlFile(directory + "/c/devices.allow", rule));
      }
    }
    return {};
  }

  Result<> JoinCgroups() const {
    std::vector<std::string> all = Cgroups();
    for (auto directory = all.begin() + 1; directory != all.end(); ++directory) {
      if (directory->starts_with("/sys/fs/cgroup/cpuset/")) {
        for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
          std::string value = TRY(ReadFile("/sys/fs/cgroup/cpuset" + std::string(file)));
          TRY(WriteControlFile(*directory + file, value));
          TRY(WriteControlFile(*directory + "/c" + file, value));
        }
      }
      TRY(WriteControlFile(*directory + "/c/tasks", "0"));
    }
    return {};
  }

  Result<> BecomeContainer() const {
    TRY(JoinCgroups());
    std::vector<UniqueFd> files;
    for (const char* name : kPodFiles) {
      files.push_back(TRY(runtime::CloneTree(AT_FDCWD, folder_ + "/" + name, false)));
    }
    UniqueFd root = TRY(runtime::MakeOverlay({.lower = {options_.folder + "/lower"},
                                              .upper = folder_ + "/upper",
                                              .work = folder_ + "/work"},
                                             folder_, true));
    int join = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS;
    TRY(Check(::setns(pause_.pidfd.get(), join), "setns"));
    TRY(Check(::unshare(CLONE_NEWNS | CLONE_NEWCGROUP), "unshare"));
    UniqueFd shm = TRY(runtime::CloneTree(AT_FDCWD, "/shm", false));
    UniqueFd here = TRY(OpenFile("/", O_PATH | O_DIRECTORY));
    TRY(AttachMount(root.get(), here.get(), "rootfs"));
    TRY(Mount(root, "proc", {}, "/proc"));
    TRY(Mount(root, "sysfs", {}, "/sys"));
    TRY(MountCgroups(root));
    TRY(Mount(root, "tmpfs", {{"mode", "0755"}, {"size", "64m"}}, "/dev", 0));
    UniqueFd devices = TRY(runtime::OpenInRoot(root.get(), "/dev", O_PATH));
    for (const auto& [name, major, minor] : kDeviceNodes) {
      TRY(Check(::mknodat(devices.get(), name, S_IFCHR | 0666, makedev(major, minor)), "mknod"));
    }
    TRY(Mount(root, "devpts", {{"newinstance", ""}, {"ptmxmode", "0666"}}, "/dev/pts"));
    TRY(Mount(root, "mqueue", {}, "/dev/mqueue"));
    UniqueFd target =
        TRY(runtime::MakeTargetInRoot(root.get(), "/dev/shm", TargetKind::kDirectory));
    TRY(AttachMount(shm.get(), target.get(), "/dev/shm"));
    for (auto [where, name] : kDeviceLinks) {
      TRY(Check(::symlinkat(where, devices.get(), name), "symlink"));
    }
    for (size_t i = 0; i < files.size(); ++i) {
      target = TRY(runtime::OpenInRoot(root.get(), std::string("/etc/") + kPodFiles[i], O_PATH));
      TRY(AttachMount(files[i].get(), target.get(), kPodFiles[i]));
    }
    TRY(runtime::PivotInto(root.get()));
    TRY(HidePaths());
    TRY(Check(::setsid(), "setsid"));
    TRY(runtime::LimitCapabilities(runtime::DefaultCapabilities()));
    UniqueFd program = TRY(OpenFile("/bin/busybox", O_RDONLY));
    return Execute(program);
  }

  static Result<> HidePaths() {
    for (const char* path : kReadonlyPaths) {
      UniqueFd target(::open(path, O_PATH | O_CLOEXEC));
      if (!target) continue;
      UniqueFd cover = TRY(runtime::CloneTree(target.get(), "", true));
      TRY(runtime::ChangeMount(cover.get(), MOUNT_ATTR_RDONLY, 0, true));
      TRY(AttachMount(cover.get(), target.get(), path));
    }
    UniqueFd null = TRY(OpenFile("/dev/null", O_PATH));
    for (const char* path : kMaskedPaths) {
      UniqueFd target(::open(path, O_PATH | O_CLOEXEC));
      struct stat info;
      if (!target || ::fstat(target.get(), &info) != 0) continue;
      UniqueFd cover = S_ISDIR(info.st_mode)
                           ? TRY(MakeFilesystem("tmpfs", {{"size", "4k"}}, kInert))
                           : TRY(runtime::CloneTree(null.get(), "", false));
      TRY(AttachMount(cover.get(), target.get(), path));
    }
    return {};
  }

  static Result<> Mount(const UniqueFd& root, const char* type,
                        const std::vector<runtime::MountOption>& options, const std::string& path,
                        uint64_t attributes = kInert) {
    UniqueFd mount = TRY(MakeFilesystem(type, options, attributes));
    UniqueFd target = TRY(runtime::MakeTargetInRoot(root.get(), path, TargetKind::kDirectory));
    return AttachMount(mount.get(), target.get(), path);
  }

  Result<> MountCgroups(const UniqueFd& root) const {
    if (Cgroups().size() == 1) return Mount(root, "cgroup2", {}, "/sys/fs/cgroup");
    TRY(Mount(root, "tmpfs", {{"mode", "0755"}, {"size", "64k"}}, "/sys/fs/cgroup"));
    for (const char* name : kHierarchies) {
      TRY(Mount(root, "cgroup", {{name, ""}}, "/sys/fs/cgroup/" + std::string(name)));
    }
    return Mount(root, "cgroup2", {}, "/sys/fs/cgroup/unified");
  }

  static Result<> Execute(const UniqueFd& program) {
    char sleep[] = "sleep", seconds[] = "100000";
    char* argv[] = {sleep, seconds, nullptr};
    char* envp[] = {nullptr};
    ::execveat(program.get(), "", argv, envp, AT_EMPTY_PATH);
    return Error::Sys(errno, "execveat");
  }

  const Options& options_;
  const int number_;
  const std::string folder_;
  const std::string cgroup_;
  int pods_ = 0;
  Child pause_, container_;
};

struct Sample {
  double up, down;
};

// The samples of one process go into the pipe.
Result<> Work(const Options& options, int number, int pipe) {
  Worker worker(options, number);
  for (int i = number; i < options.count; i += options.parallel) {
    Sample sample{};
    auto start = std::chrono::steady_clock::now();
    TRY(worker.Up());
    sample.up = Since(start);
    start = std::chrono::steady_clock::now();
    TRY(worker.Down());
    sample.down = Since(start);
    TRY(WriteAll(pipe, {reinterpret_cast<const char*>(&sample), sizeof sample}));
  }
  return {};
}

Result<> Prepare(const Options& options) {
  TRY(MakeDirectories(options.folder + "/lower/bin"));
  for (const char* name : {"dev", "etc", "proc", "sys"})
    TRY(MakeDirectories(options.folder + "/lower/" + name));
  for (const char* name : kPodFiles) TRY(OpenFile(options.folder + "/lower/etc/" + name, O_CREAT));
  std::string busybox = TRY(ReadFile("/bin/busybox"));
  TRY(WriteFileAtomic(options.folder + "/lower/bin/busybox", busybox, Durability::kNone, 0755));
  net::Rtnl rtnl = TRY(net::Rtnl::Open());
  TRY(rtnl.DeleteLinkIfPresent(kBridge));
  TRY(rtnl.Apply(net::rtnl::CreateBridge(kBridge, "", 1500)));
  const int bridge = TRY(rtnl.LinkIndex(kBridge));
  return rtnl.Apply(net::rtnl::AddAddress(bridge, TRY(net::IpAddress::Parse("10.90.0.1")), 16));
}

Result<> Measure(const Options& options) {
  TRY(Prepare(options));
  int ends[2];
  TRY(Check(::pipe2(ends, O_CLOEXEC), "pipe"));
  UniqueFd read_end(ends[0]), write_end(ends[1]);
  const auto start = std::chrono::steady_clock::now();
  for (int number = 0; number < options.parallel; ++number) {
    const pid_t pid = ::fork();
    TRY(Check(pid, "fork"));
    if (pid != 0) continue;
    Result<> worked = Work(options, number, write_end.get());
    if (!worked.ok()) fprintf(stderr, "skiff-cri-floor: %s\n", worked.error().message().c_str());
    ::_exit(worked.ok() ? 0 : 1);
  }
  write_end.Reset();
  Samples samples;
  int pods = 0;
  for (Sample sample; ::read(read_end.get(), &sample, sizeof sample) == sizeof sample; ++pods) {
    samples.Add({{"pod up", sample.up}, {"pod down", sample.down}});
  }
  while (::wait(nullptr) > 0) {
  }
  if (pods != options.count) return Error(Code::kInternal, "not all pods came up and went");
  const std::string at_once = ", " + std::to_string(options.parallel) + " at once";
  PrintFigure("pods up and down" + at_once, pods / (Since(start) / 1000), "pods/s");
  samples.Print(at_once);
  if (options.parallel == 1) samples.Print("");
  return {};
}

}  // namespace
}  // namespace skiff::bench

int main(int argc, char** argv) {
  skiff::bench::Options options;
  CLI::App app{"The kernel work of a pod, in a row"};
  app.add_option("--folder", options.folder, "for the pods' files")->required();
  app.add_option("--cgroup", options.cgroup, "below which the pods' cgroups are")->required();
  app.add_option("--count", options.count, "pods")->check(CLI::Range(1, 100000));
  app.add_option("--parallel", options.parallel, "pods at once")->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);
  skiff::Result<> measured = skiff::bench::Measure(options);
  if (measured.ok()) return 0;
  fprintf(stderr, "skiff-cri-floor: %s\n", measured.error().message().c_str());
  return 1;
}
