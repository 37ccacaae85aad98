#include "cni/link_removal.h"

#include <utility>

namespace skiff::cni {
namespace {

// Links belong to group 0 unless somebody says otherwise; this one is ours ("skif").
constexpr uint32_t kDoomedGroup = 0x736b6966;

}  // namespace

Result<> LinkRemoval::Remove(const std::string& name) {
  auto request = std::make_shared<Request>(Request{.name = name});
  std::unique_lock lock(mutex_);
  waiting_.push_back(request);
  while (!request->done) {
    if (busy_) {
      changed_.wait(lock);
      continue;
    }
    busy_ = true;
    Batch batch = std::exchange(waiting_, {});
    lock.unlock();
    RemoveAll(batch);
    lock.lock();
    busy_ = false;
    for (const auto& removed : batch) removed->done = true;
    changed_.notify_all();
  }
  return std::move(request->result);
}

void LinkRemoval::RemoveAll(const Batch& batch) const {
  auto rtnl = net::Rtnl::Open(deadline_);
  if (rtnl.ok() && batch.size() > 1 && RemoveTogether(*rtnl, batch).ok()) return;
  // Alone, or one of them made it fail: each has its own answer.
  for (const auto& request : batch) {
    request->result = rtnl.ok() ? rtnl->DeleteLinkIfPresent(request->name) : Result<>(rtnl.error());
  }
}

Result<> LinkRemoval::RemoveTogether(net::Rtnl& rtnl, const Batch& batch) {
  std::vector<net::NetlinkMessage> doomed;
  for (const auto& request : batch) {
    auto index = rtnl.LinkIndex(request->name);
    if (index.ok()) doomed.push_back(net::rtnl::SetGroup(*index, kDoomedGroup));
    if (!index.ok() && index.error().code() != Code::kNotFound) return std::move(index).error();
  }
  if (doomed.empty()) return {};
  TRY(rtnl.Apply(std::move(doomed)));
  return rtnl.Apply(net::rtnl::DeleteGroup(kDoomedGroup));
}

}  // namespace skiff::cni
