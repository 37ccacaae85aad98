// FakePodNetwork: a PodNetwork that touches nothing, for tests of its callers.
#pragma once

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "cni/network.h"

namespace skiff::cni {

// Hands out 10.244.0.2, .3, ... Ready from the start.
class FakePodNetwork : public PodNetwork {
 public:
  Result<Attachment> Attach(const AttachRequest& request) override {
    std::lock_guard lock(mutex_);
    if (attach_error_) return *std::exchange(attach_error_, std::nullopt);
    auto [found, fresh] = attachments_.try_emplace(request.sandbox_id);
    if (fresh) {
      net::IpAddress address = net::IpAddress::V4(10, 244, 0, 2).Plus(next_++);
      found->second = {.addresses = {{address, net::IpAddress::V4(10, 244, 0, 1)}},
                       .interface = "eth0",
                       .host_interface = "veth" + request.sandbox_id.substr(0, 10),
                       .mac = "0a:58:0a:f4:00:02",
                       .mtu = 1500};
      requests_.push_back(request);
    }
    return found->second;
  }
  Result<> Detach(const std::string& sandbox_id) override {
    std::lock_guard lock(mutex_);
    if (detach_error_) return *std::exchange(detach_error_, std::nullopt);
    attachments_.erase(sandbox_id);
    return {};
  }
  Result<> Check(const std::string& sandbox_id) override {
    auto attachment = Get(sandbox_id);
    if (!attachment.ok()) return std::move(attachment).error();
    return {};
  }
  Result<Attachment> Get(const std::string& sandbox_id) const override {
    std::lock_guard lock(mutex_);
    auto found = attachments_.find(sandbox_id);
    if (found == attachments_.end()) return Error(Code::kNotFound, "not attached: " + sandbox_id);
    return found->second;
  }
  Result<> Recover(const std::vector<std::string>& live_sandbox_ids) override {
    std::lock_guard lock(mutex_);
    std::set<std::string> live(live_sandbox_ids.begin(), live_sandbox_ids.end());
    std::erase_if(attachments_, [&](const auto& entry) { return !live.contains(entry.first); });
    return {};
  }
  Result<> SetPodCidrs(const std::vector<net::IpPrefix>&,
                       const std::vector<net::IpPrefix>&) override {
    std::lock_guard lock(mutex_);
    unready_.clear();
    return {};
  }
  Result<> Reconcile() override {
    std::lock_guard lock(mutex_);
    ++reconciliations_;
    if (reconcile_error_) return *std::exchange(reconcile_error_, std::nullopt);
    return {};
  }
  std::string Unready() const override {
    std::lock_guard lock(mutex_);
    return unready_;
  }

  // What Attach was asked, oldest first.
  std::vector<AttachRequest> requests() const {
    std::lock_guard lock(mutex_);
    return requests_;
  }
  size_t attached() const {
    std::lock_guard lock(mutex_);
    return attachments_.size();
  }
  int reconciliations() const {
    std::lock_guard lock(mutex_);
    return reconciliations_;
  }
  // The next call fails with this, without effect.
  void FailNextAttach(Error error) {
    std::lock_guard lock(mutex_);
    attach_error_ = std::move(error);
  }
  void FailNextDetach(Error error) {
    std::lock_guard lock(mutex_);
    detach_error_ = std::move(error);
  }
  void FailNextReconcile(Error error) {
    std::lock_guard lock(mutex_);
    reconcile_error_ = std::move(error);
  }
  void SetUnready(std::string reason) {
    std::lock_guard lock(mutex_);
    unready_ = std::move(reason);
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, Attachment> attachments_;
  std::vector<AttachRequest> requests_;
  std::optional<Error> attach_error_, detach_error_, reconcile_error_;
  int reconciliations_ = 0;
  std::string unready_;
  uint64_t next_ = 0;
};

}  // namespace skiff::cni
