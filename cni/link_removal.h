// LinkRemoval: deletes interfaces that nobody uses any more, without anybody waiting for it.
//
// Deleting a veth pair makes the kernel wait for its readers, some 20 ms whatever the number of
// links. A pair goes by itself with the pod's network namespace, so there is a moment for that;
// what is still there afterwards is deleted, all that are due together.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/net/rtnl.h"
#include "base/result.h"

namespace skiff::cni {

// Thread-safe. Works in the network namespace of the thread that makes it.
class LinkRemoval {
 public:
  // `deadline`: of a call of the kernel.
  explicit LinkRemoval(std::chrono::milliseconds deadline);
  // Deletes what is left; what cannot be deleted stays.
  ~LinkRemoval();

  // The link goes soon; `gone` is called then, on this object's thread, not where it never goes.
  void Remove(std::string name, std::function<void()> gone);
  // Whether a link of that name is still to go.
  bool Has(const std::string& name) const;
  // Deletes at once all that are to go; what fails is tried again later.
  Result<> Flush();

 private:
  struct Request {
    std::string name;
    std::function<void()> gone;
    std::chrono::steady_clock::time_point due;
  };
  using Batch = std::vector<Request>;
  void Run();
  Batch TakeDue();  // mutex_ held
  // Deletes what it can and leaves the rest in the batch.
  Result<> RemoveAll(Batch& batch) const;
  static Result<> RemoveTogether(net::Rtnl& rtnl, const Batch& batch);

  const std::chrono::milliseconds deadline_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Batch waiting_;  // in the order of `due`
  Batch current_;  // what the thread deletes now
  bool flush_ = false;
  bool stop_ = false;
  Result<> flushed_;  // how the last Flush ended
  std::thread thread_;
};

}  // namespace skiff::cni
