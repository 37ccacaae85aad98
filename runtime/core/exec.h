// RunningExec: the daemon's handle on a process in a container.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "runtime/core/runtime_impl.h"

namespace skiff::runtime {

// Shared by the handle that the caller has and the runtime's table; thread-safe.
class RunningExec {
 public:
  RunningExec(const Cgroups& cgroups, std::string cgroup)
      : cgroup_(std::move(cgroup)), cgroups_(cgroups) {}

  void SetTerminal(UniqueFd terminal);
  void End(const ContainerExit& exit);

  UniqueFd TakeTerminal();
  void OnExit(std::function<void(const ContainerExit&)> callback);
  Result<ContainerExit> Wait(std::optional<std::chrono::milliseconds> timeout);
  Result<> ResizeTerminal(uint16_t rows, uint16_t columns);
  Result<> Kill();

 private:
  const std::string cgroup_;
  const Cgroups& cgroups_;
  std::mutex mutex_;
  std::condition_variable ended_;
  UniqueFd terminal_;         // until it is taken
  UniqueFd resize_terminal_;  // a second descriptor, to resize by
  std::optional<ContainerExit> exit_;
  std::function<void(const ContainerExit&)> callback_;
};

}  // namespace skiff::runtime
