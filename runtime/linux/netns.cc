#include "runtime/linux/netns.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <thread>

#include "base/failpoint.h"
#include "base/os/files.h"

namespace skiff::runtime {
namespace {

// Namespaces are a thread's own: what may take its time in another one has a thread of its own,
// which ends with it.
Result<UniqueFd> InOwnThread(const std::function<Result<UniqueFd>()>& work) {
  std::optional<Result<UniqueFd>> result;
  std::thread([&] { result.emplace(work()); }).join();
  return std::move(*result);
}

// For a few system calls on the caller's own stack. If the way back fails, the process ends: a
// thread in the wrong namespace would do its next work there.
Result<> InNewNetworkNamespace(const std::function<Result<>()>& calls) {
  UniqueFd home = TRY(OpenFile("/proc/thread-self/ns/net", O_RDONLY));
  if (::unshare(CLONE_NEWNET) != 0) return Error::Sys(errno, "unshare", "CLONE_NEWNET");
  Result<> done = calls();
  CHECK(::setns(home.get(), CLONE_NEWNET) == 0);
  return done;
}

bool IsPinned(const std::string& path) {
  struct statfs info;
  return ::statfs(path.c_str(), &info) == 0 && info.f_type == NSFS_MAGIC;
}

Result<> BringLoopbackUp() {
  UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return Error::Sys(errno, "socket");
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0) {
    return Error::Sys(errno, "SIOCSIFFLAGS", "lo");
  }
  return {};
}

Result<UniqueFd> ConnectTo(const sockaddr* address, socklen_t length) {
  UniqueFd socket(::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return Error::Sys(errno, "socket");
  // On loopback the answer comes at once, save where the listener's queue is full.
  timeval patience{.tv_sec = 10, .tv_usec = 0};
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (::connect(socket.get(), address, length) != 0) return Error::Sys(errno, "connect");
  timeval none{};
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none);
  return socket;
}

Result<UniqueFd> ConnectToLoopback(uint16_t port) {
  sockaddr_in four{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {}, .sin_zero = {}};
  four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  Result<UniqueFd> connection = ConnectTo(reinterpret_cast<const sockaddr*>(&four), sizeof four);
  if (connection.ok()) return connection;
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  six.sin6_port = htons(port);
  six.sin6_addr = in6addr_loopback;
  Result<UniqueFd> second = ConnectTo(reinterpret_cast<const sockaddr*>(&six), sizeof six);
  return second.ok() ? std::move(second)
                     : std::move(connection).With("port " + std::to_string(port));
}

}  // namespace

Result<> PinNetworkNamespace(const std::string& path) {
  if (IsPinned(path)) return {};
  TRY(MakeDirectories(path.substr(0, path.find_last_of('/'))));
  TRY(OpenFile(path, O_RDONLY | O_CREAT, 0444));
  TRY(failpoint::Reach("make network namespace", path));
  return InNewNetworkNamespace([&]() -> Result<> {
    TRY(BringLoopbackUp());
    TRY(failpoint::Reach("pin network namespace", path));
    if (::mount("/proc/thread-self/ns/net", path.c_str(), nullptr, MS_BIND, nullptr) != 0) {
      return Error::Sys(errno, "mount", path);
    }
    return {};
  });
}

Result<> UnpinNamespace(const std::string& path) {
  TRY(failpoint::Reach("unpin namespace", path));
  // EINVAL: the file is there, but nothing is mounted on it.
  if (::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != ENOENT &&
      errno != EINVAL) {
    return Error::Sys(errno, "umount", path);
  }
  return RemoveFile(path);
}

Result<UniqueFd> ConnectInNamespace(const std::string& path, uint16_t port) {
  if (path.empty()) return ConnectToLoopback(port);
  UniqueFd netns = TRY(OpenFile(path, O_RDONLY));
  return InOwnThread([&]() -> Result<UniqueFd> {
    if (::setns(netns.get(), CLONE_NEWNET) != 0) return Error::Sys(errno, "setns", path);
    return ConnectToLoopback(port);
  });
}

}  // namespace skiff::runtime
