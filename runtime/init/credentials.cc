// Steps that give a container's process its user, privileges and program.

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/os/files.h"
#include "runtime/init/environment.h"
#include "runtime/init/launch.h"
#include "runtime/init/user.h"
#include "runtime/linux/capabilities.h"

namespace skiff::runtime {
namespace {

constexpr size_t kUserFileLimitBytes = 4 << 20;

Result<> SetCapabilities(uint64_t effective, uint64_t permitted, uint64_t inheritable) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2];
  for (int half = 0; half < 2; ++half) {
    data[half].effective = static_cast<uint32_t>(effective >> (32 * half));
    data[half].permitted = static_cast<uint32_t>(permitted >> (32 * half));
    data[half].inheritable = static_cast<uint32_t>(inheritable >> (32 * half));
  }
  if (::syscall(SYS_capset, &header, data) != 0) return Error::Sys(errno, "capset");
  return {};
}

Result<std::string> ReadUserFile(const char* path) {
  // Not a device or a pipe that an image put there to hang us.
  struct stat info;
  if (::stat(path, &info) != 0 || !S_ISREG(info.st_mode)) return std::string();
  return ReadFile(path, kUserFileLimitBytes);
}

// A stream that is a pipe or socket belongs to the user, so that it can be opened anew by way of
// /dev/stdout; devices keep their owner.
void OwnStreams(uid_t uid) {
  for (int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    struct stat info;
    if (::fstat(stream, &info) != 0) continue;
    bool terminal = ::isatty(stream) == 1;
    if (S_ISCHR(info.st_mode) && !terminal) continue;
    // Where it does not work (a socket, a read-only mount) the stream still does.
    (void)::fchown(stream, uid, info.st_gid);
  }
}

// The file for argv[0], as execvp(3) finds it, or the error to report.
Result<std::string> FindProgram(const std::string& name, std::string_view search) {
  if (name.empty()) return Error(Code::kInvalidArgument, "no command");
  if (name.find('/') != std::string::npos) return name;
  bool denied = false;
  while (!search.empty()) {
    std::string_view directory = search.substr(0, search.find(':'));
    search.remove_prefix(std::min(search.size(), directory.size() + 1));
    std::string path = (directory.empty() ? "." : std::string(directory)) + "/" + name;
    struct stat info;
    if (::stat(path.c_str(), &info) != 0 || S_ISDIR(info.st_mode)) continue;
    if (::access(path.c_str(), X_OK) == 0) return path;
    denied = true;
  }
  return Error::Sys(denied ? EACCES : ENOENT,
                    "\"" + name + "\": executable file not found in $PATH");
}

// A file of the process's own in /proc, reached across no mount: neither a mount of the container's
// over /proc nor one below it takes what is written.
Result<UniqueFd> OpenOwnAttribute(const char* path) {
  const UniqueFd proc = TRY(OpenFile("/proc", O_PATH | O_DIRECTORY));
  struct statfs filesystem {};
  if (::fstatfs(proc.get(), &filesystem) != 0) return Error::Sys(errno, "fstatfs", "/proc");
  if (filesystem.f_type != PROC_SUPER_MAGIC) {
    return Error(Code::kFailedPrecondition, "/proc is not procfs");
  }
  open_how how{};
  how.flags = O_WRONLY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
  UniqueFd file(static_cast<int>(::syscall(SYS_openat2, proc.get(), path, &how, sizeof how)));
  if (!file) return Error::Sys(errno, "openat2", "/proc/" + std::string(path));
  return file;
}

}  // namespace

Result<uint64_t> OwnCapabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2];
  if (::syscall(SYS_capget, &header, data) != 0) return Error::Sys(errno, "capget");
  return data[0].permitted | (uint64_t{data[1].permitted} << 32);
}

Result<> ResolveContainerUser(Launch& launch) {
  std::string passwd = TRY(ReadUserFile("/etc/passwd"));
  std::string group = TRY(ReadUserFile("/etc/group"));
  FoundUser found = TRY(FindUser(launch.spec.container.user, passwd, group));
  launch.user = found.ids;
  launch.home = found.home;
  return {};
}

Result<> ChangeDirectory(Launch& launch) {
  const std::string& cwd = launch.spec.container.cwd;
  if (::chdir(cwd.empty() ? "/" : cwd.c_str()) != 0) return Error::Sys(errno, "chdir", cwd);
  return {};
}

// Of the next exec, which is the program's.
Result<> SetAppArmor(Launch& launch) {
  const std::string& profile = launch.spec.apparmor_profile;
  if (profile.empty()) return {};
  Result<UniqueFd> file = OpenOwnAttribute("self/attr/apparmor/exec");
  if (!file.ok() && file.error().sys_errno() == ENOENT) {  // before Linux 5.8
    file = OpenOwnAttribute("self/attr/exec");
  }
  const UniqueFd exec = TRY(std::move(file));
  const std::string word = "exec " + profile;
  // One write, which the kernel takes whole.
  if (::write(exec.get(), word.data(), word.size()) < 0) {
    return Error::Sys(errno, "AppArmor profile", profile);
  }
  return {};
}

Result<> SetCredentials(Launch& launch) {
  const ContainerSpec& container = launch.spec.container;
  // Keys of the node's session are not the container's (keyrings(7)). Not every kernel has them.
  (void)::syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr);
  OwnStreams(launch.user.uid);

  TRY(LimitCapabilities(container.capabilities.bounding));
  if (::prctl(PR_SET_KEEPCAPS, 1) != 0) return Error::Sys(errno, "keep capabilities");
  const ResolvedUser& user = launch.user;
  // By system calls: glibc's wrappers exist to tell other threads, of which there are none.
  if (::syscall(SYS_setgroups, user.groups.size(), user.groups.data()) != 0) {
    return Error::Sys(errno, "setgroups");
  }
  if (::syscall(SYS_setresgid, user.gid, user.gid, user.gid) != 0) {
    return Error::Sys(errno, "setresgid", std::to_string(user.gid));
  }
  if (::syscall(SYS_setresuid, user.uid, user.uid, user.uid) != 0) {
    return Error::Sys(errno, "setresuid", std::to_string(user.uid));
  }
  if (container.no_new_privs && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return Error::Sys(errno, "no_new_privs");
  }
  // A change of user clears the effective set; the filter and the last step still need it.
  uint64_t own = TRY(OwnCapabilities());
  return SetCapabilities(own, own, 0);
}

Result<> LoadSeccomp(Launch& launch) {
  // Nothing but the three streams gets into the program, whatever is open here.
  if (::syscall(SYS_close_range, kLaunchSpecFd, ~0U, CLOSE_RANGE_CLOEXEC) != 0) {
    return Error::Sys(errno, "close_range");
  }
  const std::string& filter = launch.spec.seccomp_filter;
  if (filter.empty()) return {};
  std::vector<sock_filter> instructions(filter.size() / sizeof(sock_filter));
  std::memcpy(instructions.data(), filter.data(), instructions.size() * sizeof(sock_filter));
  sock_fprog program{static_cast<unsigned short>(instructions.size()), instructions.data()};
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
    return Error::Sys(errno, "seccomp");
  }
  return {};
}

Result<> DropPrivileges(Launch& launch) {
  const CapabilitySpec& wanted = launch.spec.container.capabilities;
  uint64_t own = TRY(OwnCapabilities());
  uint64_t permitted = wanted.permitted & own;
  TRY(SetCapabilities(wanted.effective & permitted, permitted, wanted.inheritable & own));
  for (int number = 0; number < 64; ++number) {
    uint64_t bit = uint64_t{1} << number;
    if ((wanted.ambient & wanted.inheritable & permitted & bit) == 0) continue;
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) != 0) {
      return Error::Sys(errno, "raise ambient capability", std::to_string(number));
    }
  }
  return {};
}

Result<> ExecProgram(Launch& launch) {
  bool terminal = launch.spec.container.terminal ||
                  (launch.spec.kind == LaunchKind::kExec && launch.spec.exec.terminal);
  std::vector<std::string> env = FullEnvironment(launch.spec.container.env, launch.home, terminal);
  const std::vector<std::string>& argv =
      launch.spec.kind == LaunchKind::kExec ? launch.spec.exec.argv : launch.spec.container.argv;
  const std::string* path = FindVariable(env, "PATH");
  std::string program = TRY(FindProgram(argv.empty() ? "" : argv[0],
                                        path != nullptr ? std::string_view(*path).substr(5) : ""));
  auto pointers = [](const std::vector<std::string>& strings) {
    std::vector<char*> list;
    for (const std::string& text : strings) list.push_back(const_cast<char*>(text.c_str()));
    list.push_back(nullptr);
    return list;
  };
  std::vector<char*> arguments = pointers(argv);
  std::vector<char*> environment = pointers(env);
  ::execve(program.c_str(), arguments.data(), environment.data());
  return Error::Sys(errno, "\"" + program + "\"");
}

}  // namespace skiff::runtime
