// Netns: another network namespace, and the short visits to it that cannot be avoided.
#pragma once

#include <string>
#include <string_view>

#include "base/os/unique_fd.h"
#include "base/result.h"

namespace skiff::net {

// A network namespace held by a descriptor: it lives on, and /proc paths cannot come to mean
// another one, as long as this object lives.
class Netns {
 public:
  // A bind mount or /proc/PID/ns/net. NotFound when nothing is there; InvalidArgument when what is
  // there is no network namespace (a bind mount whose namespace is gone is a plain file).
  static Result<Netns> Open(const std::string& path);
  // That of the calling thread.
  static Result<Netns> Current();

  int fd() const { return fd_.get(); }
  // Names the namespace among all that are alive (the inode of the namespace file).
  uint64_t id() const { return id_; }
  bool operator==(const Netns& other) const { return id_ == other.id_; }

 private:
  Netns(UniqueFd fd, uint64_t id) : fd_(std::move(fd)), id_(id) {}
  UniqueFd fd_;
  uint64_t id_;
};

// Moves the calling thread into a namespace until the end of the scope. For a few system calls on
// the thread's own stack (opening a socket, writing a sysctl): no callback, no lock, no other
// thread's work. If the way back fails, the process ends: a thread in the wrong namespace would do
// its next work there.
class NetnsScope {
 public:
  static Result<NetnsScope> Enter(const Netns& netns);
  NetnsScope(NetnsScope&& other) noexcept : home_(std::move(other.home_)) {}
  NetnsScope& operator=(NetnsScope&&) = delete;
  ~NetnsScope();

 private:
  explicit NetnsScope(UniqueFd home) : home_(std::move(home)) {}
  UniqueFd home_;
};

// Writes /proc/sys/net/<name> ("ipv4/ip_forward") of the calling thread's namespace, if it does not
// have that value already. root: where /proc/sys is.
Result<> WriteNetSysctl(std::string_view name, std::string_view value,
                        std::string_view root = "/proc/sys");
// Its value without the newline. NotFound where the kernel has no such sysctl.
Result<std::string> ReadNetSysctl(std::string_view name, std::string_view root = "/proc/sys");

}  // namespace skiff::net
