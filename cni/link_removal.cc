#include "cni/link_removal.h"

#include <pthread.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/log.h"

namespace skiff::cni {
namespace {

// Links belong to group 0 unless somebody says otherwise; this one is ours ("skif").
constexpr uint32_t kDoomedGroup = 0x736b6966;
// For a link to go with its namespace, and until what failed is tried again.
constexpr std::chrono::milliseconds kPatience{200};

}  // namespace

LinkRemoval::LinkRemoval(std::chrono::milliseconds deadline)
    : deadline_(deadline), thread_([this] {
        ::pthread_setname_np(::pthread_self(), "skiff-links");
        Run();
      }) {}

LinkRemoval::~LinkRemoval() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void LinkRemoval::Remove(std::string name, std::function<void()> gone) {
  std::lock_guard lock(mutex_);
  const auto due = std::chrono::steady_clock::now() + kPatience;
  waiting_.push_back({.name = std::move(name), .gone = std::move(gone), .due = due});
  if (waiting_.size() == 1) changed_.notify_all();
}

bool LinkRemoval::Has(const std::string& name) const {
  auto is_it = [&](const Request& request) { return request.name == name; };
  std::lock_guard lock(mutex_);
  return std::any_of(waiting_.begin(), waiting_.end(), is_it) ||
         std::any_of(current_.begin(), current_.end(), is_it);
}

Result<> LinkRemoval::Flush() {
  std::unique_lock lock(mutex_);
  flush_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return !flush_; });
  return flushed_;
}

LinkRemoval::Batch LinkRemoval::TakeDue() {
  auto end = waiting_.end();
  if (!flush_ && !stop_) {
    const auto now = std::chrono::steady_clock::now();
    end = std::find_if(waiting_.begin(), waiting_.end(),
                       [now](const Request& request) { return request.due > now; });
  }
  Batch due(std::make_move_iterator(waiting_.begin()), std::make_move_iterator(end));
  waiting_.erase(waiting_.begin(), end);
  return due;
}

void LinkRemoval::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const bool flush = flush_;
    current_ = TakeDue();
    if (!current_.empty() || flush) {
      Batch batch = current_;
      lock.unlock();
      Result<> removed = RemoveAll(batch);
      lock.lock();
      current_.clear();
      const auto again = std::chrono::steady_clock::now() + kPatience;
      for (Request& left : batch) {
        left.due = again;
        waiting_.push_back(std::move(left));
      }
      if (flush) {
        flush_ = false;
        flushed_ = std::move(removed);
        changed_.notify_all();
      } else if (!removed.ok()) {
        log::Warning("cannot delete pods' interfaces; trying again", {{"error", removed.error()}});
      }
      if (!stop_) continue;
    }
    if (stop_) return;
    if (waiting_.empty()) {
      changed_.wait(lock);
    } else {
      changed_.wait_until(lock, waiting_.front().due);
    }
  }
}

Result<> LinkRemoval::RemoveAll(Batch& batch) const {
  if (batch.empty()) return {};
  net::Rtnl rtnl = TRY(net::Rtnl::Open(deadline_));
  Result<> first;
  auto gone = [&](const Request& request) {
    auto index = rtnl.LinkIndex(request.name);
    if (index.ok() || index.error().code() != Code::kNotFound) return false;
    request.gone();
    return true;
  };
  std::erase_if(batch, gone);
  if (batch.size() > 1 && RemoveTogether(rtnl, batch).ok()) std::erase_if(batch, gone);
  // Alone, or one of them made it fail: each has its own answer.
  std::erase_if(batch, [&](const Request& request) {
    Result<> deleted = rtnl.DeleteLinkIfPresent(request.name);
    if (deleted.ok()) request.gone();
    const bool done = deleted.ok();
    if (first.ok() && !done) first = std::move(deleted);
    return done;
  });
  return first;
}

Result<> LinkRemoval::RemoveTogether(net::Rtnl& rtnl, const Batch& batch) {
  std::vector<net::NetlinkMessage> doomed;
  for (const Request& request : batch) {
    auto index = rtnl.LinkIndex(request.name);
    if (index.ok()) doomed.push_back(net::rtnl::SetGroup(*index, kDoomedGroup));
    if (!index.ok() && index.error().code() != Code::kNotFound) return std::move(index).error();
  }
  if (doomed.empty()) return {};
  TRY(rtnl.Apply(std::move(doomed)));
  return rtnl.Apply(net::rtnl::DeleteGroup(kDoomedGroup));
}

}  // namespace skiff::cni
