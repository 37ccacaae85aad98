#include "agent/volumes/volumes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "agent/volumes/contents.h"
#include "agent/volumes/subpath.h"
#include "base/os/files.h"
#include "proto/codec/quantity.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/volume.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
using nlohmann::json;

std::string RecordPath(const std::string& pod_dir) { return pod_dir + "/volumes.json"; }

const char* PluginDirectory(const core::Volume& volume) {
  const auto& source = volume.volume_source();
  if (source.has_config_map()) return "kubernetes.io~configmap";
  if (source.has_secret()) return "kubernetes.io~secret";
  if (source.has_downward_api()) return "kubernetes.io~downward-api";
  if (source.has_projected()) return "kubernetes.io~projected";
  return "kubernetes.io~empty-dir";
}

std::string VolumeDir(const core::Pod& pod, const core::Volume& volume, const NodeContext& node) {
  return node.PodDir(pod.metadata().uid()) + "/volumes/" + PluginDirectory(volume) + "/" +
         volume.name();
}

std::optional<gid_t> FsGroup(const core::Pod& pod) {
  if (!pod.spec().security_context().has_fs_group()) return std::nullopt;
  return static_cast<gid_t>(pod.spec().security_context().fs_group());
}

// https://kubernetes.io/docs/concepts/storage/volumes/#hostpath-volume-types
Result<> CheckHostPath(const std::string& path, const std::string& type) {
  if (type.empty()) return {};
  if (type == "DirectoryOrCreate") TRY(MakeDirectories(path, 0755));
  if (type == "FileOrCreate" && !PathExists(path)) {
    (void)TRY(OpenFile(path, O_WRONLY | O_CREAT, 0644));
  }
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) {
    return Error(CodeFromErrno(errno), "hostPath type check failed: " + path + " does not exist");
  }
  struct Kind {
    const char* type;
    mode_t format;
    const char* what;
  };
  static constexpr Kind kKinds[] = {
      {"DirectoryOrCreate", S_IFDIR, "a directory"}, {"Directory", S_IFDIR, "a directory"},
      {"FileOrCreate", S_IFREG, "a file"},           {"File", S_IFREG, "a file"},
      {"Socket", S_IFSOCK, "a socket file"},         {"CharDevice", S_IFCHR, "a character device"},
      {"BlockDevice", S_IFBLK, "a block device"},
  };
  for (const Kind& kind : kKinds) {
    if (type != kind.type) continue;
    if ((status.st_mode & S_IFMT) == kind.format) return {};
    return Error(Code::kFailedPrecondition,
                 "hostPath type check failed: " + path + " is not " + kind.what);
  }
  return Error(Code::kInvalidArgument, type + " is an invalid volume type");
}

// Everybody in the pod may write; with a group, what they make belongs to it. Only where nobody has
// looked yet: the pod may have changed the mode of what is its own.
Result<> OpenToPod(const std::string& path, std::optional<gid_t> group) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return Error::Sys(errno, "stat", path);
  constexpr mode_t kAsMade = 0755;
  bool as_mounted = (status.st_mode & 07777) == 0777 && group && status.st_gid != *group;
  if ((status.st_mode & 07777) != kAsMade && !as_mounted) return {};
  if (group && ::chown(path.c_str(), static_cast<uid_t>(-1), *group) != 0) {
    return Error::Sys(errno, "chown", path);
  }
  if (::chmod(path.c_str(), group ? 02777 : 0777) != 0) return Error::Sys(errno, "chmod", path);
  return {};
}

}  // namespace

// What has to be undone: the mounts made for a pod, in the order of their making.
struct PodVolumes::Record {
  std::vector<std::string> mounts;

  static Result<Record> Load(const std::string& pod_dir) {
    auto text = ReadFile(RecordPath(pod_dir), 4 << 20);
    Record record;
    if (!text.ok() && text.error().code() == Code::kNotFound) return record;
    if (!text.ok()) return std::move(text).error();
    json document = json::parse(*text, nullptr, /*allow_exceptions=*/false);
    if (!document.is_object() || !document["mounts"].is_array()) {
      return Error(Code::kDataLoss, RecordPath(pod_dir) + " is damaged");
    }
    for (const json& mount : document["mounts"]) {
      if (mount.is_string()) record.mounts.push_back(mount.get<std::string>());
    }
    return record;
  }

  Result<> Save(const std::string& pod_dir) const {
    return WriteFileAtomic(RecordPath(pod_dir), json{{"version", 1}, {"mounts", mounts}}.dump());
  }
};

std::mutex& PodVolumes::LockOf(const std::string& pod_dir) {
  return locks_[std::hash<std::string>()(pod_dir) % locks_.size()];
}

Result<> PodVolumes::AddToRecord(const std::string& pod_dir, const std::string& mount) {
  Record record = TRY(Record::Load(pod_dir));
  for (const std::string& known : record.mounts) {
    if (known == mount) return {};
  }
  record.mounts.push_back(mount);
  return record.Save(pod_dir);
}

Result<std::map<std::string, std::string>> PodVolumes::SetUp(const core::Pod& pod,
                                                             const VolumeContext& context) {
  std::map<std::string, std::string> paths;
  std::string pod_dir = context.node.PodDir(pod.metadata().uid());
  std::lock_guard lock(LockOf(pod_dir));
  TRY(MakeDirectories(pod_dir, 0750));
  for (const core::Volume& volume : pod.spec().volumes()) {
    auto failed = [&volume](Error error) {
      return Error(error.code(), "MountVolume.SetUp failed for volume \"" + volume.name() +
                                     "\" : " + error.message());
    };
    const auto& source = volume.volume_source();
    if (source.has_host_path()) {
      auto checked = CheckHostPath(source.host_path().path(), source.host_path().type());
      if (!checked.ok()) return failed(std::move(checked).error());
      paths[volume.name()] = source.host_path().path();
      continue;
    }
    auto contents = VolumeContents(pod, volume, context);
    if (!contents.ok()) return failed(std::move(contents).error());
    // A volume without any source is an emptyDir, as the API's default says.
    bool empty_dir = source.has_empty_dir() || source.ByteSizeLong() == 0;
    if (!contents->has_value() && !empty_dir) {
      return failed(Error(Code::kUnimplemented, "this kind of volume is not supported"));
    }
    std::string path = VolumeDir(pod, volume, context.node);
    TRY(MakeDirectories(path));
    bool memory = empty_dir ? source.empty_dir().medium() == "Memory" : IsSecretVolume(volume);
    if (memory && !mounter_.IsMounted(path)) {
      TRY(AddToRecord(pod_dir, path));
      auto size = codec::Quantity::From(source.empty_dir().size_limit()).Value();
      auto mounted = mounter_.MountTmpfs(path, static_cast<uint64_t>(std::max<int64_t>(size, 0)));
      if (!mounted.ok()) return failed(std::move(mounted).error());
    }
    if (empty_dir) {
      TRY(OpenToPod(path, FsGroup(pod)));
    } else {
      auto written = WritePayload(path, **contents, FsGroup(pod), Clock::Real().WallNow());
      if (!written.ok()) return failed(std::move(written).error());
    }
    paths[volume.name()] = path;
  }
  return paths;
}

Result<std::vector<ResolvedMount>> PodVolumes::ResolveMounts(
    const core::Pod& pod, const core::Container& container,
    const std::map<std::string, std::string>& volumes, const EnvList& env,
    const NodeContext& node) {
  std::vector<ResolvedMount> mounts;
  std::map<std::string, std::string> variables(env.begin(), env.end());
  std::string pod_dir = node.PodDir(pod.metadata().uid());
  std::lock_guard lock(LockOf(pod_dir));
  int index = -1;
  for (const core::VolumeMount& mount : container.volume_mounts()) {
    ++index;
    auto volume = volumes.find(mount.name());
    if (volume == volumes.end()) {
      return Error(Code::kNotFound, "cannot find volume \"" + mount.name() +
                                        "\" to mount into container \"" + container.name() + "\"");
    }
    ResolvedMount resolved;
    resolved.host_path = volume->second;
    resolved.container_path =
        mount.mount_path().starts_with('/') ? mount.mount_path() : "/" + mount.mount_path();
    resolved.read_only = mount.read_only();
    resolved.recursive_read_only = mount.recursive_read_only() == "Enabled";
    resolved.propagation = mount.mount_propagation();
    std::string sub_path = mount.sub_path();
    if (!mount.sub_path_expr().empty()) sub_path = Expand(mount.sub_path_expr(), variables);
    if (sub_path.starts_with('/')) {
      return Error(Code::kInvalidArgument,
                   "subPath \"" + sub_path + "\" must not be an absolute path");
    }
    if (!sub_path.empty()) {
      std::string target = pod_dir + "/volume-subpaths/" + mount.name() + "/" + container.name() +
                           "/" + std::to_string(index);
      auto failed = [&](Error error) {
        return Error(error.code(), "failed to prepare subPath for volumeMount \"" + mount.name() +
                                       "\" of container \"" + container.name() +
                                       "\": " + error.message());
      };
      auto source = OpenSubPath(volume->second, sub_path);
      if (!source.ok()) return failed(std::move(source).error());
      struct stat status;
      if (::fstat(source->get(), &status) != 0) return Error::Sys(errno, "fstat", sub_path);
      TRY(AddToRecord(pod_dir, target));
      TRY(mounter_.Unmount(target));  // of the run before: the volume may have changed since
      TRY(MakeDirectories(target.substr(0, target.rfind('/')), 0750));
      if (S_ISDIR(status.st_mode)) {
        TRY(MakeDirectories(target, 0750));
      } else {
        (void)TRY(OpenFile(target, O_WRONLY | O_CREAT, 0640));
      }
      auto bound = mounter_.BindFd(source->get(), target);
      if (!bound.ok()) return failed(std::move(bound).error());
      resolved.host_path = target;
    }
    mounts.push_back(std::move(resolved));
  }
  return mounts;
}

Result<> PodVolumes::Release(const std::string& pod_dir) {
  std::lock_guard lock(LockOf(pod_dir));
  if (!PathExists(pod_dir)) return {};
  Record record = TRY(Record::Load(pod_dir));
  for (auto mount = record.mounts.rbegin(); mount != record.mounts.rend(); ++mount) {
    TRY(mounter_.Unmount(*mount));
  }
  return RemoveTree(pod_dir);
}

}  // namespace skiff::agent
