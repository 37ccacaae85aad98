#include "runtime/linux/userns.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/os/files.h"

namespace skiff::runtime {
namespace {

// Ended and reaped with the scope.
class Holder {
 public:
  explicit Holder(pid_t pid) : pid_(pid) {}
  ~Holder() {
    (void)::kill(pid_, SIGKILL);
    (void)::waitpid(pid_, nullptr, 0);
  }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  std::string File(const char* name) const { return "/proc/" + std::to_string(pid_) + "/" + name; }

 private:
  const pid_t pid_;
};

// BringLoopbackUp of netns.cc for a child that must not allocate; an errno value.
int BringUpLoopbackHere() {
  int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return errno;
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  int failure = ::ioctl(socket, SIOCSIFFLAGS, &request) != 0 ? errno : 0;
  ::close(socket);  // tidy: a child between clone and its end
  return failure;
}

// Born in the namespaces; holds them until it is killed.
[[noreturn]] void Hold(int report, bool with_network) {
  unsigned char failure = 0;
  if (with_network) failure = static_cast<unsigned char>(BringUpLoopbackHere());
  if (::write(report, &failure, 1) == 1) {
    for (;;) ::pause();
  }
  ::_exit(1);
}

std::string MapText(const std::vector<IdMapping>& mappings) {
  std::string text;
  for (const IdMapping& mapping : mappings) {
    text += std::to_string(mapping.container_id) + " " + std::to_string(mapping.host_id) + " " +
            std::to_string(mapping.length) + "\n";
  }
  return text;
}

}  // namespace

Result<UserNamespace> MakeUserNamespace(const IdMappings& mappings, bool with_network) {
  Pipe pipe = TRY(MakePipe());
  clone_args arguments{};
  arguments.flags = CLONE_NEWUSER | (with_network ? CLONE_NEWNET : 0);
  arguments.exit_signal = SIGCHLD;
  long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid == 0) Hold(pipe.write_end.get(), with_network);
  if (pid < 0) return Error::Sys(errno, "clone3", "user namespace");
  Holder holder(static_cast<pid_t>(pid));
  pipe.write_end.Reset();
  unsigned char failure = 0;
  ssize_t got = ::read(pipe.read_end.get(), &failure, 1);
  if (got != 1) return Error(Code::kInternal, "a new user namespace's process ended");
  if (failure != 0) return Error::Sys(failure, "bring up", "lo");
  TRY(WriteControlFile(holder.File("uid_map"), MapText(mappings.uids)));
  TRY(WriteControlFile(holder.File("gid_map"), MapText(mappings.gids)));
  UserNamespace made;
  made.user = TRY(OpenFile(holder.File("ns/user"), O_RDONLY));
  if (with_network) made.network = TRY(OpenFile(holder.File("ns/net"), O_RDONLY));
  return made;
}

Result<> PinNamespace(int fd, const std::string& path) {
  TRY(OpenFile(path, O_RDONLY | O_CREAT, 0444));
  std::string source = "/proc/self/fd/" + std::to_string(fd);
  if (::mount(source.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    return Error::Sys(errno, "mount", path);
  }
  return {};
}

Result<> MapMountIds(int mount, int user_namespace, std::string_view subject) {
  mount_attr change{};
  change.attr_set = MOUNT_ATTR_IDMAP;
  change.userns_fd = static_cast<uint64_t>(user_namespace);
  if (::mount_setattr(mount, "", AT_EMPTY_PATH, &change, sizeof change) == 0) return {};
  if (errno == EINVAL || errno == EPERM) {
    return Error(Code::kUnimplemented, "the filesystem of " + std::string(subject) +
                                           " does not support id-mapped mounts");
  }
  return Error::Sys(errno, "map ids", subject);
}

std::optional<uint32_t> HostId(const std::vector<IdMapping>& mappings, uint32_t id) {
  for (const IdMapping& mapping : mappings) {
    if (id >= mapping.container_id && id - mapping.container_id < mapping.length) {
      return mapping.host_id + (id - mapping.container_id);
    }
  }
  return std::nullopt;
}

}  // namespace skiff::runtime
