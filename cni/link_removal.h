// LinkRemoval: deletes interfaces, those asked for at the same time together.
//
// Deleting a veth pair makes the kernel wait for its readers, some 20 ms whatever the number of
// links, under a lock that all network configuration takes. When many pods stop at once, the calls
// that come while one deletion runs share the next one.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/net/rtnl.h"
#include "base/result.h"

namespace skiff::cni {

// Thread-safe. All calls come from threads of one network namespace.
class LinkRemoval {
 public:
  explicit LinkRemoval(std::chrono::milliseconds deadline) : deadline_(deadline) {}

  // Returns once the link of that name is gone; one that is not there is a success.
  Result<> Remove(const std::string& name);

 private:
  struct Request {
    std::string name;
    bool done = false;
    Result<> result;
  };
  using Batch = std::vector<std::shared_ptr<Request>>;
  void RemoveAll(const Batch& batch) const;
  static Result<> RemoveTogether(net::Rtnl& rtnl, const Batch& batch);

  const std::chrono::milliseconds deadline_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Batch waiting_;
  bool busy_ = false;  // one of the callers is deleting
};

}  // namespace skiff::cni
