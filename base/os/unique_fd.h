// UniqueFd: a file descriptor with one owner.
#pragma once

#include <utility>

#include "base/result.h"

namespace skiff {

// Closes its descriptor exactly once and keeps errno. A close that fails with EINTR is not retried:
// on Linux the descriptor is gone already (close(2)). Descriptors are made with CLOEXEC.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.Release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) Reset(other.Release());
    return *this;
  }
  ~UniqueFd() { Reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  explicit operator bool() const { return valid(); }
  // Gives the descriptor up; the caller owns it.
  int Release() { return std::exchange(fd_, -1); }
  void Reset(int fd = -1);
  // Closes and reports what close(2) said: for writers, whose data may be lost here.
  Result<> Close();
  // A second descriptor of the same open file.
  Result<UniqueFd> Duplicate() const;

 private:
  int fd_ = -1;
};

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};
// pipe2(2) with CLOEXEC and further flags.
Result<Pipe> MakePipe(int flags = 0);

}  // namespace skiff
