#include "base/net/netns.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

#include "base/os/files.h"

namespace skiff::net {

Result<Netns> Netns::Open(const std::string& path) {
  UniqueFd fd = TRY(OpenFile(path, O_RDONLY));
  struct statfs filesystem {};
  if (fstatfs(fd.get(), &filesystem) != 0) return Error::Sys(errno, "fstatfs", path);
  if (filesystem.f_type != NSFS_MAGIC || ioctl(fd.get(), NS_GET_NSTYPE) != CLONE_NEWNET) {
    return Error(Code::kInvalidArgument, path + " is not a network namespace");
  }
  struct stat status {};
  if (fstat(fd.get(), &status) != 0) return Error::Sys(errno, "fstat", path);
  return Netns(std::move(fd), status.st_ino);
}

Result<Netns> Netns::Current() { return Open("/proc/thread-self/ns/net"); }

Result<NetnsScope> NetnsScope::Enter(const Netns& netns) {
  UniqueFd home = TRY(OpenFile("/proc/thread-self/ns/net", O_RDONLY));
  if (setns(netns.fd(), CLONE_NEWNET) != 0) return Error::Sys(errno, "setns", "network namespace");
  return NetnsScope(std::move(home));
}

NetnsScope::~NetnsScope() {
  if (!home_.valid()) return;
  CHECK(setns(home_.get(), CLONE_NEWNET) == 0);
}

Result<> WriteNetSysctl(std::string_view name, std::string_view value, std::string_view root) {
  auto present = ReadNetSysctl(name, root);
  if (present.ok() && *present == value) return {};
  return WriteControlFile(std::string(root) + "/net/" + std::string(name), value);
}

Result<std::string> ReadNetSysctl(std::string_view name, std::string_view root) {
  std::string value = TRY(ReadFile(std::string(root) + "/net/" + std::string(name)));
  while (!value.empty() && value.back() == '\n') value.pop_back();
  return value;
}

}  // namespace skiff::net
