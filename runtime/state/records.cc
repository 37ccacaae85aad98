#include "runtime/state/records.h"

#include <algorithm>
#include <cctype>

#include "runtime/linux/cgroup.h"

namespace skiff::runtime {
namespace {

constexpr size_t kClientDataLimitBytes = 1 << 20;
constexpr size_t kHostnameLimit = 64;  // sethostname(2)

Error Bad(const std::string& what) { return Error(Code::kInvalidArgument, what); }

Result<> CheckPath(const std::string& path, const char* what) {
  if (path.empty() || path[0] != '/' || path.find('\0') != std::string::npos) {
    return Bad(std::string(what) + " \"" + path + "\" is not an absolute path");
  }
  return {};
}

Result<> CheckMappings(const IdMappings& mappings, const std::string& what) {
  if (mappings.empty()) return {};
  constexpr size_t kKernelLimit = 340;  // user_namespaces(7)
  for (const auto* list : {&mappings.uids, &mappings.gids}) {
    const char* kind = list == &mappings.uids ? ": uid mapping" : ": gid mapping";
    if (list->empty() || list->size() > kKernelLimit) return Bad(what + kind + "s: 1 to 340");
    for (const IdMapping& mapping : *list) {
      // The last id is no id: it means "none".
      uint64_t highest = uint64_t{std::max(mapping.host_id, mapping.container_id)} + mapping.length;
      if (mapping.length == 0 || highest > UINT32_MAX) return Bad(what + kind + ": bad length");
    }
  }
  return {};
}

bool MapsRoot(const std::vector<IdMapping>& mappings) {
  return std::any_of(mappings.begin(), mappings.end(),
                     [](const IdMapping& mapping) { return mapping.container_id == 0; });
}

Result<> CheckUserNamespace(const SandboxSpec& spec) {
  if (spec.user_namespace.empty()) return {};
  TRY(CheckMappings(spec.user_namespace, "user namespace"));
  if (!MapsRoot(spec.user_namespace.uids) || !MapsRoot(spec.user_namespace.gids)) {
    return Bad("user namespace: ids 0 must be mapped");
  }
  if (!spec.handler.empty()) {
    return Error(Code::kUnimplemented,
                 "user namespaces need the built-in runtime, not handler " + spec.handler);
  }
  // The node's would be out of the pod's reach: /proc and /dev/mqueue could not be mounted.
  if (spec.pid == NamespaceMode::kNode) {
    return Bad("a pod with a user namespace cannot use the node's pid namespace");
  }
  if (spec.ipc == NamespaceMode::kNode) {
    return Bad("a pod with a user namespace cannot use the node's ipc namespace");
  }
  return {};
}

Result<> CheckMount(const MountSpec& mount) {
  TRY(CheckPath(mount.target, "mount target"));
  if (mount.type == MountSpec::Type::kBind) TRY(CheckPath(mount.source, "mount source"));
  if (mount.type == MountSpec::Type::kLayers) {
    if (mount.layers.empty()) return Bad("mount " + mount.target + ": no layers");
    for (const std::string& layer : mount.layers) TRY(CheckPath(layer, "layer"));
  }
  if (mount.recursive_readonly &&
      (!mount.readonly || mount.propagation != MountPropagation::kPrivate)) {
    return Bad("mount " + mount.target +
               ": recursive read-only needs read-only and private propagation");
  }
  TRY(CheckMappings(mount.id_mappings, "mount " + mount.target));
  return {};
}

}  // namespace

Result<std::string> ReadBootId() {
  std::string id = TRY(ReadFile("/proc/sys/kernel/random/boot_id"));
  while (!id.empty() && id.back() == '\n') id.pop_back();
  return id;
}

Result<> CheckId(const std::string& id) {
  bool good = !id.empty() && id.size() <= 64 && std::isalnum(static_cast<unsigned char>(id[0])) &&
              std::all_of(id.begin(), id.end(), [](unsigned char c) {
                return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
              });
  return good ? Result<>() : Bad("invalid id \"" + id.substr(0, 80) + "\"");
}

Result<> CheckSpec(const SandboxSpec& spec) {
  TRY(CheckId(spec.id));
  if (spec.hostname.size() > kHostnameLimit) return Bad("hostname is longer than 64 characters");
  if (spec.network != NamespaceMode::kPod && spec.network != NamespaceMode::kNode) {
    return Bad("network namespace must be the pod's or the node's");
  }
  if (spec.ipc != NamespaceMode::kPod && spec.ipc != NamespaceMode::kNode) {
    return Bad("ipc namespace must be the pod's or the node's");
  }
  if (spec.pid == NamespaceMode::kTarget) return Bad("a sandbox has no target pid namespace");
  TRY(CheckUserNamespace(spec));
  if (!spec.cgroup_parent.empty()) TRY(CheckCgroupPath(spec.cgroup_parent));
  if (spec.client_data.size() > kClientDataLimitBytes) return Bad("client data is too long");
  return {};
}

Result<> CheckSpec(const ContainerSpec& spec) {
  TRY(CheckId(spec.id));
  TRY(CheckId(spec.sandbox_id));
  if (spec.argv.empty() || spec.argv[0].empty()) return Bad("no command");
  for (const auto* strings : {&spec.argv, &spec.env}) {
    for (const std::string& text : *strings) {
      if (text.find('\0') != std::string::npos) return Bad("NUL in command or environment");
    }
  }
  if (spec.rootfs.lower_dirs.empty()) return Bad("rootfs has no layers");
  for (const std::string& layer : spec.rootfs.lower_dirs) TRY(CheckPath(layer, "layer"));
  if (!spec.rootfs.writable_dir.empty()) TRY(CheckPath(spec.rootfs.writable_dir, "writable_dir"));
  if (!spec.cwd.empty()) TRY(CheckPath(spec.cwd, "working directory"));
  if (!spec.log.path.empty()) TRY(CheckPath(spec.log.path, "log"));
  for (const MountSpec& mount : spec.mounts) TRY(CheckMount(mount));
  for (const DeviceSpec& device : spec.devices) {
    TRY(CheckPath(device.host_path, "device"));
    TRY(CheckPath(device.container_path, "device"));
    if (device.access.empty() || device.access.find_first_not_of("rwm") != std::string::npos) {
      return Bad("invalid device access \"" + device.access + "\"");
    }
  }
  if (spec.pid == NamespaceMode::kTarget) TRY(CheckId(spec.target_id));
  if (spec.stop_signal < 1 || spec.stop_signal > 64) return Bad("invalid stop signal");
  if (spec.client_data.size() > kClientDataLimitBytes) return Bad("client data is too long");
  return {};
}

}  // namespace skiff::runtime
