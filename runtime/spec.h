// What a pod's sandbox and its containers are to be, as plain values: the input of runtime.h.
//
// Nothing here is Kubernetes': the CRI server translates its messages into these. Paths are
// absolute. Ids are 1 to 64 characters of [a-zA-Z0-9._-] and begin with a letter or digit; names
// and paths hold no NUL. Values are copied into records on disk and into the message that
// skiff-init reads.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace skiff::runtime {

// Which namespace a container lives in.
enum class NamespaceMode : uint8_t {
  kPod = 0,        // the sandbox's
  kContainer = 1,  // one of its own (pid only)
  kNode = 2,       // the host's
  kTarget = 3,     // that of another container of the pod (pid only)
};

// A range of user or group ids: container_id, container_id+1, ... inside are host_id, host_id+1,
// ... outside (user_namespaces(7)).
struct IdMapping {
  uint32_t container_id = 0;
  uint32_t host_id = 0;
  uint32_t length = 0;
  bool operator==(const IdMapping&) const = default;
};

struct IdMappings {
  std::vector<IdMapping> uids;
  std::vector<IdMapping> gids;
  bool empty() const { return uids.empty() && gids.empty(); }
  bool operator==(const IdMappings&) const = default;
};

struct SandboxSpec {
  std::string id;
  std::string hostname;                         // of the pod's UTS namespace; empty: the node's
  NamespaceMode network = NamespaceMode::kPod;  // kPod or kNode; kNode shares the UTS namespace too
  NamespaceMode ipc = NamespaceMode::kPod;      // kPod or kNode
  NamespaceMode pid = NamespaceMode::kContainer;  // kPod: containers see each other; kNode
  std::map<std::string, std::string> sysctls;     // "net.ipv4.ip_forward" -> "1"
  std::string cgroup_parent;      // "/kubepods/pod1"; empty: RuntimeConfig::default_cgroup_parent
  int oom_score_adj = -998;       // of pause; clamped to what this process may set
  uint64_t shm_bytes = 64 << 20;  // size of the pod's /dev/shm
  // Bytes the caller wants back after a restart (labels, annotations, ...); at most 1 MiB.
  std::string client_data;
  // The OCI runtime of its containers (RuntimeConfig::oci_handlers); empty: the built-in way.
  std::string handler;
  // Empty: the node's user namespace. Else the pod has one of its own, which owns its other
  // namespaces; both lists have a mapping for id 0, and neither pid nor ipc may be kNode.
  IdMappings user_namespace;
};

// The root filesystem: overlayfs over image layers, or a plain directory.
struct RootfsSpec {
  std::vector<std::string> lower_dirs;  // topmost layer first
  // The container's own layer is made below this directory and removed with the container.
  // Empty with one lower_dir: that directory itself is the rootfs, used in place.
  std::string writable_dir;
  bool readonly = false;
};

enum class MountPropagation : uint8_t { kPrivate = 0, kSlave = 1, kShared = 2 };

struct MountSpec {
  enum class Type : uint8_t {
    kBind = 0,
    kTmpfs = 1,
    kLayers = 2,  // what image layers make together, read-only
    kOwn = 3,  // target itself, in the container's own rootfs: it stays writable where the rootfs
               // is not; an image's VOLUME
  };
  Type type = Type::kBind;
  std::string source;               // on the host; kBind only
  std::vector<std::string> layers;  // kLayers: on the host, topmost first
  std::string target;  // in the container; made (as directory or file) where it is missing
  // kBind, kLayers: where set, the mount is this path below the source, resolved so that it cannot
  // leave it; it must be there.
  std::string sub_path;
  bool readonly = false;
  bool recursive_readonly = false;  // needs readonly, kPrivate and mount_setattr(2)
  bool no_exec = false;
  bool no_dev = false;
  bool no_suid = false;
  bool recursive = true;  // kBind: with the mounts below source
  MountPropagation propagation = MountPropagation::kPrivate;
  std::string tmpfs_options;  // kTmpfs: "size=64m,mode=1777"
  // kBind, kLayers: the owners of source's files, seen through the mount. An owner container_id on
  // disk is host_id for the kernel. Of the mount at source itself, not of those below it. Fails
  // where the filesystem cannot do so (mount_setattr(2), MOUNT_ATTR_IDMAP).
  IdMappings id_mappings;
};

struct DeviceSpec {
  std::string host_path;
  std::string container_path;
  std::string access = "rwm";  // of r, w, m
  // What the node must be; where it is not on the host, what is made (all three given).
  char type = '\0';  // 'c', 'b'; 0: as the host's
  std::optional<uint32_t> major;
  std::optional<uint32_t> minor;
  // Of the node in the container; unset: as the host's. Without effect in a pod with a user
  // namespace, where the host's node itself is mounted.
  std::optional<uint32_t> file_mode;
  std::optional<uint32_t> uid;
  std::optional<uint32_t> gid;
};

// Capabilities by number (capability.h), as bit sets.
struct CapabilitySpec {
  uint64_t bounding = 0;
  uint64_t effective = 0;
  uint64_t permitted = 0;
  uint64_t inheritable = 0;
  uint64_t ambient = 0;
};

struct SeccompSpec {
  enum class Kind : uint8_t { kUnconfined = 0, kDefault = 1, kProfile = 2 };
  Kind kind = Kind::kDefault;
  std::string profile_json;  // kProfile: in the format of Docker and OCI
};

struct AppArmorSpec {
  enum class Kind : uint8_t {
    kNodeDefault = 0,  // the default profile where this machine can have it, else none
    kUnconfined = 1,
    kDefault = 2,
    kProfile = 3,
  };
  Kind kind = Kind::kNodeDefault;
  std::string profile;  // kProfile: its name, as the kernel has it
};

struct RlimitSpec {
  int resource = 0;  // RLIMIT_*
  uint64_t soft = 0;
  uint64_t hard = 0;
};

// Limits; an unset one is left to the kernel's default (or, on update, as it is).
struct ResourceSpec {
  std::optional<uint64_t> cpu_shares;      // as cgroup v1 counts: 2 to 262144
  std::optional<int64_t> cpu_quota_us;     // per period; -1: none
  std::optional<uint64_t> cpu_period_us;   // 1000 to 1000000
  std::optional<std::string> cpuset_cpus;  // "0-3,5"
  std::optional<std::string> cpuset_mems;
  std::optional<int64_t> memory_limit_bytes;       // -1: none
  std::optional<int64_t> memory_swap_limit_bytes;  // memory plus swap, as v1 counts; -1: none
  std::optional<int64_t> pids_limit;               // -1: none
  std::map<std::string, uint64_t> hugepage_limits_bytes;  // "2MB" -> bytes
  std::map<std::string, std::string> unified;             // cgroup v2 file -> value, verbatim
};

// Who runs. A name is looked up in the container's own /etc/passwd and /etc/group.
struct UserSpec {
  std::string user;   // "0", "www-data", "1000:1000", "www-data:staff"; empty: 0
  std::string group;  // where set, instead of the user's own group: a name or a number
  std::vector<uint32_t> additional_gids;
  bool groups_from_image = true;  // also the groups that /etc/group gives the user (policy Merge)
};

struct LogSpec {
  std::string path;           // of the CRI log; empty: the output is thrown away
  uint64_t rotate_bytes = 0;  // rename and begin anew at this size; 0: never
  uint32_t keep_files = 5;    // with rotate_bytes: the live file and the renamed ones
};

struct ContainerSpec {
  std::string id;
  std::string sandbox_id;
  RootfsSpec rootfs;
  std::vector<std::string> argv;  // argv[0] is searched in the container's PATH
  std::vector<std::string> env;   // "NAME=value"; HOME is added from /etc/passwd where missing
  std::string cwd;                // empty: /
  UserSpec user;

  bool terminal = false;
  bool stdin_open = false;
  bool stdin_once = false;  // standard input is closed when the first attached client leaves
  LogSpec log;

  std::vector<MountSpec>
      mounts;  // in this order; /proc, /sys, /dev, /dev/shm, ... are there already
  std::vector<DeviceSpec> devices;
  bool privileged = false;  // all devices of the host, writable /sys and cgroups, nothing masked
  CapabilitySpec capabilities;
  SeccompSpec seccomp;
  AppArmorSpec apparmor;
  bool no_new_privs = false;
  std::vector<std::string> masked_paths;
  std::vector<std::string> readonly_paths;
  std::vector<RlimitSpec> rlimits;

  NamespaceMode pid = NamespaceMode::kContainer;
  std::string target_id;  // of the container whose pid namespace kTarget means
  bool host_cgroup_namespace = false;

  ResourceSpec resources;
  std::optional<int> oom_score_adj;
  int stop_signal = 15;
  std::string client_data;  // as in SandboxSpec
};

// A further process in a running container: with its namespaces, cgroup, user, environment,
// capabilities and seccomp profile.
struct ExecSpec {
  std::string container_id;
  std::vector<std::string> argv;
  bool terminal = false;
  uint16_t rows = 0;  // of the terminal; 0: not known yet
  uint16_t columns = 0;
};

}  // namespace skiff::runtime
