// SandboxTurns: lets calls for one sandbox through one after another, those for others side by
// side.
#pragma once

#include <condition_variable>
#include <mutex>
#include <set>
#include <string>
#include <utility>

namespace skiff::cni {

class SandboxTurns {
 public:
  // Waits for the sandbox's turn and has it until the end of the scope.
  class Turn {
   public:
    Turn(SandboxTurns& turns, std::string id) : turns_(turns), id_(std::move(id)) {
      std::unique_lock lock(turns_.mutex_);
      turns_.changed_.wait(lock, [this] { return !turns_.busy_.contains(id_); });
      turns_.busy_.insert(id_);
    }
    Turn(const Turn&) = delete;
    ~Turn() {
      std::lock_guard lock(turns_.mutex_);
      turns_.busy_.erase(id_);
      turns_.changed_.notify_all();
    }

   private:
    SandboxTurns& turns_;
    const std::string id_;
  };

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::string> busy_;
};

}  // namespace skiff::cni
