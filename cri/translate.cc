#include "cri/translate.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <set>

#include "cri/security.h"
#include "proto/codec/quantity.h"

namespace skiff::cri {
namespace {

using runtime::NamespaceMode;

constexpr size_t kMaxHostname = 63;  // HOST_NAME_MAX is 64, DNS labels end at 63
constexpr std::string_view kDefaultPath =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

Result<NamespaceMode> PlanNamespace(api::NamespaceMode mode, std::string_view which) {
  switch (mode) {
    case api::POD: return NamespaceMode::kPod;
    case api::CONTAINER: return NamespaceMode::kContainer;
    case api::NODE: return NamespaceMode::kNode;
    case api::TARGET: return NamespaceMode::kTarget;
    default: return Invalid(std::string(which) + " namespace: unknown mode");
  }
}

// Network and IPC namespaces are the pod's or the node's.
Result<NamespaceMode> PlanSharedNamespace(api::NamespaceMode mode, std::string_view which) {
  const NamespaceMode planned = TRY(PlanNamespace(mode, which));
  if (planned != NamespaceMode::kPod && planned != NamespaceMode::kNode) {
    return Invalid(std::string(which) + " namespace: must be POD or NODE");
  }
  return planned;
}

// One range from id 0 on, as the API has it: kubelet gives each pod one of its own.
Result<std::vector<runtime::IdMapping>> PlanIdMappings(
    const google::protobuf::RepeatedPtrField<api::IDMapping>& mappings, std::string_view which) {
  const std::string where = "user namespace: " + std::string(which) + " mappings: ";
  if (mappings.size() != 1) {
    return Invalid(where + "exactly one is supported, " + std::to_string(mappings.size()) +
                   " given");
  }
  const api::IDMapping& mapping = mappings.Get(0);
  if (mapping.container_id() != 0) {
    return Invalid(where + "container_id must be 0, not " + std::to_string(mapping.container_id()));
  }
  if (mapping.length() == 0 || uint64_t{mapping.host_id()} + mapping.length() > UINT32_MAX) {
    return Invalid(where + "length " + std::to_string(mapping.length()) + " is not supported");
  }
  return std::vector<runtime::IdMapping>{
      {mapping.container_id(), mapping.host_id(), mapping.length()}};
}

// Empty: the node's user namespace.
Result<runtime::IdMappings> PlanUserNamespace(const api::NamespaceOption& options) {
  runtime::IdMappings planned;
  if (!options.has_userns_options()) return planned;
  const api::UserNamespace& user = options.userns_options();
  switch (user.mode()) {
    case api::NODE:
      if (user.uids_size() > 0 || user.gids_size() > 0) {
        return Invalid("user namespace: mode NODE takes no mappings");
      }
      return planned;
    case api::POD: break;
    default: return Invalid("user namespace: must be POD or NODE");
  }
  planned.uids = TRY(PlanIdMappings(user.uids(), "uid"));
  planned.gids = TRY(PlanIdMappings(user.gids(), "gid"));
  if (planned.uids != planned.gids) {
    return Invalid("user namespace: uid and gid mappings must be the same");
  }
  return planned;
}

// The pod's. What a container says of its own must say the same; it need not say anything.
Result<runtime::IdMappings> PlanContainerUserNamespace(const api::NamespaceOption& options,
                                                       const api::PodSandboxConfig& sandbox) {
  auto pods = TRY(PlanUserNamespace(sandbox.linux().security_context().namespace_options()));
  if (!options.has_userns_options()) return pods;
  const auto own = TRY(PlanUserNamespace(options));
  if (own != pods) {
    return Invalid("user namespace: the container's options differ from its pod sandbox's");
  }
  return pods;
}

std::vector<runtime::IdMapping> PlanMountMappings(
    const google::protobuf::RepeatedPtrField<api::IDMapping>& mappings) {
  std::vector<runtime::IdMapping> planned;
  for (const api::IDMapping& mapping : mappings) {
    planned.push_back({mapping.container_id(), mapping.host_id(), mapping.length()});
  }
  return planned;
}

Result<cni::PortMapping> PlanPort(const api::PortMapping& port) {
  cni::PortMapping planned;
  switch (port.protocol()) {
    case api::TCP: planned.protocol = cni::Protocol::kTcp; break;
    case api::UDP: planned.protocol = cni::Protocol::kUdp; break;
    case api::SCTP: planned.protocol = cni::Protocol::kSctp; break;
    default: return Invalid("port mapping: unknown protocol");
  }
  const auto is_port = [](int32_t number) { return number >= 0 && number <= 65535; };
  if (!is_port(port.host_port()) || !is_port(port.container_port())) {
    return Invalid("port mapping: ports are 0 to 65535");
  }
  planned.host_port = static_cast<uint16_t>(port.host_port());
  planned.container_port = static_cast<uint16_t>(port.container_port());
  if (!port.host_ip().empty()) {
    planned.host_ip = TRY(net::IpAddress::Parse(port.host_ip()).With("port mapping"));
  }
  return planned;
}

// A pod's bandwidth in bits per second, as annotations say it; the bounds are upstream's.
Result<uint64_t> PlanRate(const api::PodSandboxConfig& config, const char* annotation) {
  constexpr int64_t kLeast = 1'000, kMost = 1'000'000'000'000'000;  // 1k, 1P
  auto found = config.annotations().find(annotation);
  if (found == config.annotations().end()) return uint64_t{0};
  const std::string name = std::string("annotation ") + annotation + ": ";
  auto rate = codec::Quantity::Parse(found->second);
  if (!rate.ok()) {
    return Invalid(name + "\"" + found->second +
                   "\" is no quantity of bits per second: " + rate.error().message());
  }
  if (*rate < codec::Quantity::FromValue(kLeast)) {
    return Invalid(name + found->second + " is unreasonably small (< 1k bits per second)");
  }
  if (*rate > codec::Quantity::FromValue(kMost)) {
    return Invalid(name + found->second + " is unreasonably large (> 1P bits per second)");
  }
  return static_cast<uint64_t>(rate->Value());
}

// Those that belong to a namespace of the pod's own (namespaces(7)): all others are the node's.
Result<> CheckSysctl(const std::string& name, const runtime::SandboxSpec& spec) {
  if (name.empty() || name.find_first_of(std::string_view("\0 ", 2)) != std::string::npos ||
      name.find("..") != std::string::npos) {
    return Invalid("sysctl \"" + name + "\": bad name");
  }
  // sysctl(8): in a name with slashes these part the words.
  std::string dotted = name;
  if (name.find('/') < name.find('.')) std::replace(dotted.begin(), dotted.end(), '/', '.');
  constexpr std::string_view kIpc[] = {"kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."};
  const bool ipc = std::any_of(std::begin(kIpc), std::end(kIpc),
                               [&](std::string_view prefix) { return dotted.starts_with(prefix); });
  const bool network = dotted.starts_with("net.");
  // With the node's network the pod has the node's names, too.
  const bool names = dotted == "kernel.domainname";
  if (!ipc && !network && !names) {
    return Invalid("sysctl " + name + " is in no namespace: it would change the node's");
  }
  if (ipc ? spec.ipc == NamespaceMode::kNode : spec.network == NamespaceMode::kNode) {
    return Invalid("sysctl " + name + " would change the node's " + (ipc ? "ipc" : "network"));
  }
  return {};
}

Result<> CheckCgroupParent(const std::string& parent) {
  if (parent.empty()) return {};
  if (!IsAbsolute(parent) || (parent + "/").find("/../") != std::string::npos ||
      parent.ends_with(".slice")) {
    return Invalid("cgroup parent \"" + parent +
                   "\": must be an absolute path (the cgroup driver is cgroupfs)");
  }
  return {};
}

// "NAME=value" list where later settings of a name replace earlier ones in their place.
class Environment {
 public:
  void Set(const std::string& entry) {
    const std::string name = entry.substr(0, entry.find('='));
    for (std::string& known : entries_) {
      if (known.substr(0, known.find('=')) == name) {
        known = entry;
        return;
      }
    }
    entries_.push_back(entry);
  }
  bool Has(std::string_view name) const {
    return std::any_of(entries_.begin(), entries_.end(), [&](const std::string& entry) {
      return entry.substr(0, entry.find('=')) == name;
    });
  }
  std::vector<std::string> Take() { return std::move(entries_); }

 private:
  std::vector<std::string> entries_;
};

Result<std::vector<std::string>> PlanEnvironment(const api::ContainerConfig& config,
                                                 const ContainerContext& context) {
  Environment environment;
  for (const std::string& entry : context.image.config.env) environment.Set(entry);
  for (const api::KeyValue& entry : config.envs()) {
    if (entry.key().empty() ||
        entry.key().find_first_of(std::string_view("=\0", 2)) != std::string::npos ||
        entry.value().find('\0') != std::string::npos) {
      return Invalid("environment: bad name or value of \"" + entry.key() + "\"");
    }
    environment.Set(entry.key() + "=" + entry.value());
  }
  if (!environment.Has("PATH")) environment.Set(std::string(kDefaultPath));
  if (!environment.Has("HOSTNAME") && !context.sandbox.hostname().empty()) {
    environment.Set("HOSTNAME=" + context.sandbox.hostname());
  }
  if (config.tty() && !environment.Has("TERM")) environment.Set("TERM=xterm");
  return environment.Take();
}

Result<runtime::MountPropagation> PlanPropagation(api::MountPropagation propagation) {
  switch (propagation) {
    case api::PROPAGATION_PRIVATE: return runtime::MountPropagation::kPrivate;
    case api::PROPAGATION_HOST_TO_CONTAINER: return runtime::MountPropagation::kSlave;
    case api::PROPAGATION_BIDIRECTIONAL: return runtime::MountPropagation::kShared;
    default: return Invalid("mount: unknown propagation");
  }
}

Result<runtime::MountSpec> PlanMount(const api::Mount& mount,
                                     const std::vector<std::string>& image_layers) {
  const std::string where = "mount at \"" + mount.container_path() + "\": ";
  runtime::MountSpec planned;
  if (mount.container_path().empty()) return Invalid("mount: container path is empty");
  // A relative path is taken from the root, as Docker does.
  planned.target =
      IsAbsolute(mount.container_path()) ? mount.container_path() : "/" + mount.container_path();
  planned.readonly = mount.readonly();
  planned.propagation = TRY(PlanPropagation(mount.propagation()));
  planned.id_mappings = {PlanMountMappings(mount.uidmappings()),
                         PlanMountMappings(mount.gidmappings())};
  if (planned.id_mappings.uids.empty() != planned.id_mappings.gids.empty()) {
    return Invalid(where + "uid and gid mappings go together");
  }
  if (mount.has_image() && !mount.image().image().empty()) {
    if (!mount.host_path().empty()) return Invalid(where + "both an image and a host path");
    planned.type = runtime::MountSpec::Type::kLayers;
    planned.layers = image_layers;
    planned.sub_path = mount.image_sub_path();
    planned.readonly = true;
    planned.no_exec = true;  // as Kubernetes' API has it of image volumes
    return planned;
  }
  if (!mount.image_sub_path().empty()) return Invalid(where + "an image sub-path without an image");
  if (!IsAbsolute(mount.host_path())) {
    return Invalid(where + "host path \"" + mount.host_path() + "\" is not absolute");
  }
  planned.source = mount.host_path();
  if (mount.recursive_read_only()) {
    if (!mount.readonly()) return Invalid(where + "recursive read-only needs readonly");
    if (mount.propagation() != api::PROPAGATION_PRIVATE) {
      return Invalid(where + "recursive read-only needs private propagation");
    }
    planned.recursive_readonly = true;
  }
  return planned;
}

// The configuration's mounts and the sandbox's files where they are not mounted over, parents
// before children.
Result<std::vector<runtime::MountSpec>> PlanMounts(const api::ContainerConfig& config,
                                                   const ContainerContext& context) {
  std::vector<runtime::MountSpec> mounts;
  std::set<std::string> targets;
  for (int i = 0; i < config.mounts_size(); ++i) {
    const auto image = context.image_mounts.find(i);
    mounts.push_back(TRY(PlanMount(config.mounts(i), image == context.image_mounts.end()
                                                         ? std::vector<std::string>()
                                                         : image->second)));
    targets.insert(mounts.back().target);
  }
  const bool readonly = config.linux().security_context().readonly_rootfs();
  const std::array<std::pair<std::string, std::string>, 3> files{
      {{context.files.hostname, "/etc/hostname"},
       {context.files.resolv_conf, "/etc/resolv.conf"},
       {context.files.hosts, "/etc/hosts"}}};
  for (const auto& [source, target] : files) {
    if (source.empty() || targets.contains(target)) continue;
    runtime::MountSpec mount;
    mount.source = source;
    mount.target = target;
    mount.readonly = readonly;
    mounts.push_back(std::move(mount));
  }
  // Writable also where the rootfs is not; what is written goes with the container.
  for (const std::string& path : context.image.config.volumes) {
    runtime::MountSpec volume;
    volume.type = runtime::MountSpec::Type::kOwn;
    volume.target = IsAbsolute(path) ? path : "/" + path;
    while (volume.target.size() > 1 && volume.target.ends_with('/')) volume.target.pop_back();
    if (volume.target == "/" || !targets.insert(volume.target).second) continue;
    mounts.push_back(std::move(volume));
  }
  const auto depth = [](const runtime::MountSpec& mount) {
    return std::count(mount.target.begin(), mount.target.end(), '/');
  };
  std::stable_sort(mounts.begin(), mounts.end(),
                   [&](const auto& a, const auto& b) { return depth(a) < depth(b); });
  return mounts;
}

Result<std::vector<runtime::DeviceSpec>> PlanDevices(const api::ContainerConfig& config) {
  std::vector<runtime::DeviceSpec> devices;
  for (const api::Device& device : config.devices()) {
    runtime::DeviceSpec planned{device.host_path(), device.container_path(), device.permissions()};
    if (planned.container_path.empty()) planned.container_path = planned.host_path;
    if (planned.access.empty()) planned.access = "rwm";
    if (!IsAbsolute(planned.host_path) || !IsAbsolute(planned.container_path) ||
        planned.access.find_first_not_of("rwm") != std::string::npos) {
      return Invalid("device \"" + device.host_path() + "\": bad path or permissions");
    }
    devices.push_back(std::move(planned));
  }
  return devices;
}

std::string LogPath(const api::PodSandboxConfig& sandbox, const api::ContainerConfig& config) {
  if (config.log_path().empty()) return "";
  if (sandbox.log_directory().empty())
    return IsAbsolute(config.log_path()) ? config.log_path() : "";
  return sandbox.log_directory() + "/" + config.log_path();
}

template <class T>
void SetIf(bool condition, std::optional<T>* field, T value) {
  if (condition) *field = value;
}

}  // namespace

Result<SandboxPlan> PlanSandbox(const api::PodSandboxConfig& config, std::string_view handler,
                                const std::string& id) {
  const api::PodSandboxMetadata& metadata = config.metadata();
  if (metadata.name().empty() || metadata.namespace_().empty() || metadata.uid().empty()) {
    return Invalid("sandbox metadata: name, namespace and uid must be set");
  }
  if (config.hostname().size() > kMaxHostname) return Invalid("sandbox hostname is too long");
  const api::LinuxPodSandboxConfig& linux = config.linux();
  const api::NamespaceOption& namespaces = linux.security_context().namespace_options();
  SandboxPlan plan;
  plan.spec.id = id;
  if (handler != kBuiltinHandler) plan.spec.handler = handler;
  plan.spec.hostname = config.hostname();
  plan.spec.network = TRY(PlanSharedNamespace(namespaces.network(), "network"));
  plan.spec.ipc = TRY(PlanSharedNamespace(namespaces.ipc(), "ipc"));
  plan.spec.pid = TRY(PlanNamespace(namespaces.pid(), "pid"));
  if (plan.spec.pid == NamespaceMode::kTarget) {
    return Invalid("pid namespace: TARGET is for containers");
  }
  plan.spec.user_namespace = TRY(PlanUserNamespace(namespaces));
  TRY(CheckCgroupParent(linux.cgroup_parent()));
  plan.spec.cgroup_parent = linux.cgroup_parent();
  for (const auto& [name, value] : linux.sysctls()) {
    TRY(CheckSysctl(name, plan.spec));
    plan.spec.sysctls[name] = value;
  }
  for (const auto* resources : {&linux.overhead(), &linux.resources()})
    TRY(PlanResources(*resources));
  plan.has_network = plan.spec.network == NamespaceMode::kPod;
  plan.network.sandbox_id = id;
  plan.network.pod_namespace = metadata.namespace_();
  plan.network.pod_name = metadata.name();
  plan.network.pod_uid = metadata.uid();
  plan.network.cgroup_path = linux.cgroup_parent();
  const api::DNSConfig& dns = config.dns_config();
  plan.network.dns = {.servers = {dns.servers().begin(), dns.servers().end()},
                      .searches = {dns.searches().begin(), dns.searches().end()},
                      .options = {dns.options().begin(), dns.options().end()}};
  for (const api::PortMapping& port : config.port_mappings()) {
    plan.network.ports.push_back(TRY(PlanPort(port)));
  }
  plan.network.bandwidth.ingress_bits = TRY(PlanRate(config, "kubernetes.io/ingress-bandwidth"));
  plan.network.bandwidth.egress_bits = TRY(PlanRate(config, "kubernetes.io/egress-bandwidth"));
  return plan;
}

std::string RenderResolvConf(const api::DNSConfig& dns) {
  std::string text;
  if (dns.searches_size() > 0) {
    text += "search";
    for (const std::string& domain : dns.searches()) text += " " + domain;
    text += "\n";
  }
  for (const std::string& server : dns.servers()) text += "nameserver " + server + "\n";
  if (dns.options_size() > 0) {
    text += "options";
    for (const std::string& option : dns.options()) text += " " + option;
    text += "\n";
  }
  return text;
}

Result<std::vector<std::string>> PlanCommand(const api::ContainerConfig& config,
                                             const runtime::ImageRunConfig& image) {
  std::vector<std::string> command(config.command().begin(), config.command().end());
  std::vector<std::string> args(config.args().begin(), config.args().end());
  if (command.empty()) {
    command = image.entrypoint;
    if (args.empty()) args = image.command;
  }
  command.insert(command.end(), args.begin(), args.end());
  if (command.empty() || command.front().empty()) {
    return Invalid("no command: neither the container nor its image names one");
  }
  for (const std::string& word : command) {
    if (word.find('\0') != std::string::npos) return Invalid("command: NUL in an argument");
  }
  return command;
}

Result<runtime::ResourceSpec> PlanResources(const api::LinuxContainerResources& resources) {
  runtime::ResourceSpec spec;
  if (resources.cpu_shares() < 0 || resources.cpu_period() < 0) {
    return Invalid("resources: CPU shares and period must not be negative");
  }
  if (resources.oom_score_adj() < -1000 || resources.oom_score_adj() > 1000) {
    return Invalid("resources: oom_score_adj is outside of -1000 to 1000");
  }
  SetIf(resources.cpu_shares() > 0, &spec.cpu_shares,
        static_cast<uint64_t>(std::clamp<int64_t>(resources.cpu_shares(), 2, 262144)));
  SetIf(resources.cpu_quota() != 0, &spec.cpu_quota_us,
        std::max<int64_t>(resources.cpu_quota(), -1));
  SetIf(resources.cpu_period() > 0, &spec.cpu_period_us,
        static_cast<uint64_t>(resources.cpu_period()));
  SetIf(!resources.cpuset_cpus().empty(), &spec.cpuset_cpus, resources.cpuset_cpus());
  SetIf(!resources.cpuset_mems().empty(), &spec.cpuset_mems, resources.cpuset_mems());
  SetIf(resources.memory_limit_in_bytes() != 0, &spec.memory_limit_bytes,
        std::max<int64_t>(resources.memory_limit_in_bytes(), -1));
  SetIf(resources.memory_swap_limit_in_bytes() != 0, &spec.memory_swap_limit_bytes,
        std::max<int64_t>(resources.memory_swap_limit_in_bytes(), -1));
  if (spec.memory_swap_limit_bytes.value_or(-1) >= 0 && spec.memory_limit_bytes.value_or(-1) >= 0 &&
      *spec.memory_swap_limit_bytes < *spec.memory_limit_bytes) {
    return Invalid("resources: the swap limit counts memory too and must not be below it");
  }
  for (const api::HugepageLimit& limit : resources.hugepage_limits()) {
    if (limit.page_size().find('/') != std::string::npos) return Invalid("resources: page size");
    spec.hugepage_limits_bytes[limit.page_size()] = limit.limit();
  }
  for (const auto& [file, value] : resources.unified()) {
    if (file.empty() || file.find('/') != std::string::npos || file.front() == '.') {
      return Invalid("resources: \"" + file + "\" is no cgroup file");
    }
    spec.unified[file] = value;
    if (file == "pids.max") {
      spec.pids_limit = value == "max" ? -1 : std::strtoll(value.c_str(), nullptr, 10);
    }
  }
  return spec;
}

Result<runtime::ContainerSpec> PlanContainer(const api::ContainerConfig& config,
                                             const ContainerContext& context) {
  const api::LinuxContainerSecurityContext& security = config.linux().security_context();
  runtime::ContainerSpec spec;
  spec.id = context.id;
  spec.sandbox_id = context.sandbox_id;
  spec.rootfs.lower_dirs = context.overlay.lower_dirs;
  spec.rootfs.writable_dir = context.overlay.writable_dir;
  spec.rootfs.readonly = security.readonly_rootfs();
  spec.argv = TRY(PlanCommand(config, context.image.config));
  spec.env = TRY(PlanEnvironment(config, context));
  spec.cwd =
      config.working_dir().empty() ? context.image.config.working_directory : config.working_dir();
  if (!spec.cwd.empty() && !IsAbsolute(spec.cwd)) spec.cwd = "/" + spec.cwd;
  spec.terminal = config.tty();
  spec.stdin_open = config.stdin();
  spec.stdin_once = config.stdin_once();
  spec.log.path = LogPath(context.sandbox, config);
  const auto user_namespace =
      TRY(PlanContainerUserNamespace(security.namespace_options(), context.sandbox));
  spec.mounts = TRY(PlanMounts(config, context));
  spec.devices = TRY(PlanDevices(config));
  TRY(PlanSecurity(security, context.sandbox, context.image.config, &spec));
  ApplyCdiEdits(context.devices, &spec);
  spec.pid = TRY(PlanNamespace(security.namespace_options().pid(), "pid"));
  spec.target_id = context.target_id;
  if (spec.pid == NamespaceMode::kTarget && spec.target_id.empty()) {
    return Invalid("pid namespace: TARGET without a target id");
  }
  // The node's cgroup namespace could not be mounted by the pod's root.
  spec.host_cgroup_namespace = security.privileged() && user_namespace.empty();
  spec.resources = TRY(PlanResources(config.linux().resources()));
  if (config.linux().has_resources()) {
    spec.oom_score_adj = static_cast<int>(config.linux().resources().oom_score_adj());
  }
  spec.stop_signal = SIGTERM;
  if (config.stop_signal() != api::RUNTIME_DEFAULT) {
    spec.stop_signal = TRY(ParseSignal(api::Signal_Name(config.stop_signal())));
  } else if (!context.image.config.stop_signal.empty()) {
    spec.stop_signal = TRY(ParseSignal(context.image.config.stop_signal));
  }
  return spec;
}

Result<int> ParseSignal(std::string_view name) {
  const Error unknown = Invalid("unknown signal \"" + std::string(name.substr(0, 40)) + "\"");
  const auto number_in = [](std::string_view text, int low, int high) {
    int number = 0;
    if (text.empty() || text.size() > 3) return -1;
    for (const char c : text) {
      if (c < '0' || c > '9') return -1;
      number = number * 10 + (c - '0');
    }
    return number >= low && number <= high ? number : -1;
  };
  if (const int number = number_in(name, 1, SIGRTMAX); number > 0) return number;
  if (name.starts_with("SIG")) name.remove_prefix(3);
  constexpr std::pair<std::string_view, int> kOthers[] = {
      {"CLD", SIGCHLD}, {"IOT", SIGABRT}, {"POLL", SIGIO}, {"IO", SIGIO}};
  for (const auto& [alias, number] : kOthers) {
    if (name == alias) return number;
  }
  for (int number = 1; number < 32; ++number) {
    const char* known = sigabbrev_np(number);
    if (known != nullptr && name == known) return number;
  }
  // "RTMIN+3" as in images, "RTMINPLUS3" as in CRI.
  const bool from_min = name.starts_with("RTMIN");
  if (!from_min && !name.starts_with("RTMAX")) return unknown;
  const int base = from_min ? SIGRTMIN : SIGRTMAX;
  name.remove_prefix(5);
  if (name.empty()) return base;
  for (const std::string_view sign : {from_min ? "PLUS" : "MINUS", from_min ? "+" : "-"}) {
    if (!name.starts_with(sign)) continue;
    const int offset = number_in(name.substr(sign.size()), 0, SIGRTMAX - SIGRTMIN);
    if (offset >= 0) return from_min ? base + offset : base - offset;
  }
  return unknown;
}

api::Signal SignalToApi(int number) {
  const google::protobuf::EnumDescriptor* descriptor = api::Signal_descriptor();
  for (int i = 0; i < descriptor->value_count(); ++i) {
    const auto parsed = ParseSignal(descriptor->value(i)->name());
    if (parsed.ok() && *parsed == number) {
      return static_cast<api::Signal>(descriptor->value(i)->number());
    }
  }
  return api::RUNTIME_DEFAULT;
}

}  // namespace skiff::cri
