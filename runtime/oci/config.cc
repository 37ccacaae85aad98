#include "runtime/oci/config.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "runtime/init/environment.h"
#include "runtime/linux/capabilities.h"

namespace skiff::runtime {
namespace {

using nlohmann::json;

constexpr const char* kOciVersion = "1.0.2";  // what runtimes of Debian 12 know
constexpr uint32_t kUmask = 0022;

json CapabilityNames(uint64_t bits) {
  json names = json::array();
  for (int number = 0; number < 64; ++number) {
    if ((bits & CapabilityBit(number)) == 0) continue;
    if (std::string name = CapabilityName(number); !name.empty()) names.push_back(std::move(name));
  }
  return names;
}

// As SetCredentials and DropPrivileges of init/credentials.cc have it.
json Capabilities(const CapabilitySpec& wanted, uint64_t own) {
  const uint64_t permitted = wanted.permitted & own;
  return {{"bounding", CapabilityNames(wanted.bounding & own)},
          {"effective", CapabilityNames(wanted.effective & permitted)},
          {"permitted", CapabilityNames(permitted)},
          {"inheritable", CapabilityNames(wanted.inheritable & own)},
          {"ambient", CapabilityNames(wanted.ambient & wanted.inheritable & permitted)}};
}

const char* RlimitName(int resource) {
  switch (resource) {
    case RLIMIT_AS: return "RLIMIT_AS";
    case RLIMIT_CORE: return "RLIMIT_CORE";
    case RLIMIT_CPU: return "RLIMIT_CPU";
    case RLIMIT_DATA: return "RLIMIT_DATA";
    case RLIMIT_FSIZE: return "RLIMIT_FSIZE";
    case RLIMIT_LOCKS: return "RLIMIT_LOCKS";
    case RLIMIT_MEMLOCK: return "RLIMIT_MEMLOCK";
    case RLIMIT_MSGQUEUE: return "RLIMIT_MSGQUEUE";
    case RLIMIT_NICE: return "RLIMIT_NICE";
    case RLIMIT_NOFILE: return "RLIMIT_NOFILE";
    case RLIMIT_NPROC: return "RLIMIT_NPROC";
    case RLIMIT_RSS: return "RLIMIT_RSS";
    case RLIMIT_RTPRIO: return "RLIMIT_RTPRIO";
    case RLIMIT_RTTIME: return "RLIMIT_RTTIME";
    case RLIMIT_SIGPENDING: return "RLIMIT_SIGPENDING";
    default: return "RLIMIT_STACK";
  }
}

json Process(const ContainerSpec& container, const std::string& apparmor, const OciFacts& facts) {
  json process{
      {"terminal", container.terminal},
      {"user",
       {{"uid", facts.user.uid},
        {"gid", facts.user.gid},
        {"umask", kUmask},
        {"additionalGids", facts.user.groups}}},
      {"args", container.argv},
      {"env", FullEnvironment(container.env, facts.home, container.terminal)},
      {"cwd", container.cwd.empty() ? "/" : container.cwd},
      {"capabilities", Capabilities(container.capabilities, facts.capabilities)},
      {"noNewPrivileges", container.no_new_privs},
      {"oomScoreAdj", facts.oom_score_adj},
  };
  if (!apparmor.empty()) process["apparmorProfile"] = apparmor;
  json& limits = process["rlimits"] = json::array();
  for (const RlimitSpec& limit : container.rlimits) {
    limits.push_back(
        {{"type", RlimitName(limit.resource)}, {"soft", limit.soft}, {"hard", limit.hard}});
  }
  return process;
}

json Mount(const char* type, const std::string& source, const std::string& target,
           std::vector<std::string> options) {
  return {
      {"type", type}, {"source", source}, {"destination", target}, {"options", std::move(options)}};
}

const char* PropagationOption(MountPropagation propagation) {
  switch (propagation) {
    case MountPropagation::kPrivate: return "rprivate";
    case MountPropagation::kSlave: return "rslave";
    case MountPropagation::kShared: return "rshared";
  }
  return "rprivate";
}

// The flags are on the prepared source already, also below it where they are to be; the options
// say them for a runtime that does not share mounts with its containers.
json SpecifiedMount(const MountSpec& mount, const std::string& source) {
  const bool tmpfs = mount.type == MountSpec::Type::kTmpfs;
  std::vector<std::string> options;
  if (!tmpfs) {
    options = {mount.recursive ? "rbind" : "bind", PropagationOption(mount.propagation)};
  }
  if (mount.readonly) options.emplace_back("ro");
  if (mount.no_exec) options.emplace_back("noexec");
  if (mount.no_dev) options.emplace_back("nodev");
  if (mount.no_suid) options.emplace_back("nosuid");
  if (!tmpfs) return Mount("bind", source, mount.target, options);
  for (size_t at = 0; at < mount.tmpfs_options.size();) {
    const size_t comma = std::min(mount.tmpfs_options.find(',', at), mount.tmpfs_options.size());
    if (comma > at) options.push_back(mount.tmpfs_options.substr(at, comma - at));
    at = comma + 1;
  }
  return Mount("tmpfs", "tmpfs", mount.target, options);
}

json Mounts(const LaunchSpec& spec) {
  const ContainerSpec& container = spec.container;
  const char* access = container.privileged ? "rw" : "ro";
  const std::string& bundle = spec.oci.bundle;
  json mounts = json::array({
      Mount("proc", "proc", "/proc", {"nosuid", "noexec", "nodev"}),
      Mount("tmpfs", "tmpfs", "/dev", {"nosuid", "strictatime", "mode=755", "size=65536k"}),
      Mount("devpts", "devpts", "/dev/pts",
            {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}),
      Mount("mqueue", "mqueue", "/dev/mqueue", {"nosuid", "noexec", "nodev"}),
      Mount("bind", OciShmPath(bundle), "/dev/shm", {"rbind", "rprivate"}),
      Mount("sysfs", "sysfs", "/sys", {"nosuid", "noexec", "nodev", access}),
      Mount("cgroup", "cgroup", "/sys/fs/cgroup",
            {"nosuid", "noexec", "nodev", "relatime", access}),
  });
  for (size_t i = 0; i < container.mounts.size(); ++i) {
    mounts.push_back(SpecifiedMount(container.mounts[i], OciMountPath(bundle, i)));
  }
  return mounts;
}

json Devices(const std::vector<DeviceNode>& nodes) {
  json devices = json::array();
  for (const DeviceNode& node : nodes) {
    devices.push_back({{"type", S_ISBLK(node.mode) ? "b" : "c"},
                       {"path", node.path},
                       {"major", node.major},
                       {"minor", node.minor},
                       {"fileMode", node.mode & 07777},
                       {"uid", node.uid},
                       {"gid", node.gid}});
  }
  return devices;
}

// Of all mounts: a runtime that makes them private first would cut off those that are to pass
// mounts on, and what is prepared for the private ones is private already.
const char* RootfsPropagation(const std::vector<MountSpec>& mounts) {
  MountPropagation most = MountPropagation::kPrivate;
  for (const MountSpec& mount : mounts) most = std::max(most, mount.propagation);
  return PropagationOption(most);
}

json Linux(const LaunchSpec& spec) {
  const ContainerSpec& container = spec.container;
  json object{
      {"cgroupsPath", spec.oci.cgroups_path},
      {"resources", json::parse(spec.oci.resources, nullptr, false)},
      {"devices", Devices(spec.devices)},
      {"rootfsPropagation", RootfsPropagation(container.mounts)},
      {"maskedPaths", container.masked_paths},
      {"readonlyPaths", container.readonly_paths},
  };
  json& namespaces = object["namespaces"] = json::array();
  for (const OciNamespace& space : spec.oci.namespaces) {
    json& entry = namespaces.emplace_back(json{{"type", space.type}});
    if (!space.path.empty()) entry["path"] = space.path;
  }
  if (!spec.oci.seccomp.empty()) {
    object["seccomp"] = json::parse(spec.oci.seccomp, nullptr, false);
  }
  return object;
}

json DeviceAccess(const std::vector<DeviceRule>& rules) {
  json list = json::array({{{"allow", false}, {"access", "rwm"}}});
  for (const DeviceRule& rule : rules) {
    // Every runtime knows types c and b; not all take "a" with an access of its own.
    for (const char type : {'c', 'b'}) {
      if (rule.type != 'a' && rule.type != type) continue;
      json entry{{"allow", true}, {"type", std::string(1, type)}, {"access", rule.access}};
      if (rule.major >= 0) entry["major"] = rule.major;
      if (rule.minor >= 0) entry["minor"] = rule.minor;
      list.push_back(std::move(entry));
    }
  }
  return list;
}

}  // namespace

std::string OciResources(const ResourceSpec& limits, const std::vector<DeviceRule>& devices,
                         bool v2) {
  json resources = json::object();
  if (!devices.empty()) resources["devices"] = DeviceAccess(devices);
  const auto set = [&](const char* group, const char* name, const auto& value) {
    if (value) resources[group][name] = *value;
  };
  set("cpu", "shares", limits.cpu_shares);
  set("cpu", "quota", limits.cpu_quota_us);
  set("cpu", "period", limits.cpu_period_us);
  set("cpu", "cpus", limits.cpuset_cpus);
  set("cpu", "mems", limits.cpuset_mems);
  set("memory", "limit", limits.memory_limit_bytes);
  set("memory", "swap", limits.memory_swap_limit_bytes);
  set("pids", "limit", limits.pids_limit);
  for (const auto& [size, bytes] : limits.hugepage_limits_bytes) {
    resources["hugepageLimits"].push_back({{"pageSize", size}, {"limit", bytes}});
  }
  if (v2) {
    for (const auto& [file, value] : limits.unified) resources["unified"][file] = value;
  }
  return resources.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string OciConfig(const LaunchSpec& spec, const OciFacts& facts) {
  const json config{
      {"ociVersion", kOciVersion},
      {"process", Process(spec.container, spec.apparmor_profile, facts)},
      {"root",
       {{"path", OciRootfsPath(spec.oci.bundle)}, {"readonly", spec.container.rootfs.readonly}}},
      {"mounts", Mounts(spec)},
      {"linux", Linux(spec)},
      {"annotations", spec.oci.annotations},
  };
  // Bytes that are no UTF-8 cannot be said in JSON.
  return config.dump(1, ' ', false, json::error_handler_t::replace);
}

}  // namespace skiff::runtime
