#include "agent/daemon/pod_cgroups.h"

#include "agent/spec/resources.h"
#include "runtime/linux/cgroup.h"

namespace skiff::agent {
namespace {

class RuntimePodCgroups : public PodCgroups {
 public:
  explicit RuntimePodCgroups(std::unique_ptr<runtime::Cgroups> cgroups)
      : cgroups_(std::move(cgroups)) {}

  Result<> Create(const std::string& path, const PodLimits& limits) override {
    runtime::ResourceSpec spec;
    spec.cpu_shares = static_cast<uint64_t>(limits.cpu_shares);
    if (limits.cpu_quota_us > 0) {
      spec.cpu_quota_us = limits.cpu_quota_us;
      spec.cpu_period_us = kCpuPeriod;
    }
    if (limits.memory_limit_bytes > 0) spec.memory_limit_bytes = limits.memory_limit_bytes;
    return cgroups_->Create(path, spec);
  }
  Result<> Remove(const std::string& path) override { return cgroups_->Remove(path); }
  std::vector<std::string> Children(const std::string& path) override {
    return cgroups_->Children(path);
  }

 private:
  std::unique_ptr<runtime::Cgroups> cgroups_;
};

}  // namespace

Result<std::unique_ptr<PodCgroups>> OpenPodCgroups() {
  auto cgroups = TRY(runtime::Cgroups::Open());
  return std::unique_ptr<PodCgroups>(std::make_unique<RuntimePodCgroups>(std::move(cgroups)));
}

Result<> RemoveEmptyPodCgroups(const std::string& cgroup_root, const std::string& default_parent) {
  auto cgroups = TRY(runtime::Cgroups::Open());
  NodeContext node;
  node.cgroup_root = cgroup_root;
  // That of guaranteed pods is the others' parent.
  for (QosClass qos : {QosClass::kBestEffort, QosClass::kBurstable, QosClass::kGuaranteed}) {
    std::string group = QosCgroup(qos, node);
    for (const std::string& child : cgroups->Children(group)) {
      if (child.starts_with("pod")) (void)cgroups->RemoveIfEmpty(group + "/" + child);
    }
    (void)cgroups->RemoveIfEmpty(group);
  }
  (void)cgroups->RemoveIfEmpty(default_parent);
  return {};
}

}  // namespace skiff::agent
