// A pod's volumes on the node's disk.
//
//   <pod dir>/volumes.json                                the record: what was made, before it is
//   <pod dir>/volumes/kubernetes.io~empty-dir/<name>      as kubelet lays it out
//   <pod dir>/volumes/kubernetes.io~configmap/<name>/..data -> ..2026_01_02_...
//   <pod dir>/volume-subpaths/<volume>/<container>/<n>    bind mounts of subPath
//
// Every call blocks on disk and mount(2). Thread-safe: calls about one pod take turns.
#pragma once

#include <array>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "agent/desired/object_source.h"
#include "agent/spec/node_context.h"
#include "agent/spec/pod_config.h"
#include "base/result.h"
#include "proto/k8s/fwd.h"

namespace skiff::agent {

// Mounting, for tests without root.
class Mounter {
 public:
  virtual ~Mounter() = default;
  // size_bytes 0: the kernel's default. NoSwap where the kernel can (tmpfs(5)).
  virtual Result<> MountTmpfs(const std::string& path, uint64_t size_bytes) = 0;
  // Binds what the descriptor refers to onto a path.
  virtual Result<> BindFd(int fd, const std::string& path) = 0;
  // Succeeds for what is not mounted.
  virtual Result<> Unmount(const std::string& path) = 0;
  virtual bool IsMounted(const std::string& path) = 0;
  // The kernel's, for root.
  static Mounter& Kernel();
};

// What a volume's files may be made of beside ConfigMaps and Secrets.
struct VolumeContext {
  const ObjectSource* objects = nullptr;
  NodeContext node;
  std::vector<std::string> pod_ips;  // of the present sandbox
};

class PodVolumes {
 public:
  // mounter must outlive this.
  explicit PodVolumes(Mounter& mounter) : mounter_(mounter) {}

  // Makes every volume of the pod, or brings those that exist up to date (live update of
  // ConfigMaps, Secrets and downward API). Idempotent. The result maps a volume's name to its
  // directory on the node. Errors are kubelet's words for the FailedMount event.
  Result<std::map<std::string, std::string>> SetUp(const k8s::core::v1::Pod& pod,
                                                   const VolumeContext& context);

  // The mounts of one container's run, subPath resolved inside the volume whatever symlinks it
  // holds. env: for subPathExpr.
  Result<std::vector<ResolvedMount>> ResolveMounts(
      const k8s::core::v1::Pod& pod, const k8s::core::v1::Container& container,
      const std::map<std::string, std::string>& volumes, const EnvList& env,
      const NodeContext& node);

  // Unmounts and removes what the record of this pod says, then the pod's directory. A pod that
  // left nothing is a success.
  Result<> Release(const std::string& pod_dir);

 private:
  struct Record;
  Result<> AddToRecord(const std::string& pod_dir, const std::string& mount);
  // One mutex for each pod would outlive its pod; a few for all are enough.
  std::mutex& LockOf(const std::string& pod_dir);
  Mounter& mounter_;
  std::array<std::mutex, 32> locks_;
};

}  // namespace skiff::agent
