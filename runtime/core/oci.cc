// What is different about a container that an OCI runtime makes. Its record names the program, so
// that it is removed by the one that made it whatever the configuration says by then.
//
// The limits of its cgroup are set by our own code before and after the runtime's "create": so
// they are the same whichever runtime it is, and the runtime finds a cgroup that fits.

#include <stdlib.h>

#include <algorithm>

#include "base/log.h"
#include "base/os/spawn.h"
#include "runtime/core/runtime_impl.h"
#include "runtime/linux/devices.h"
#include "runtime/linux/seccomp.h"
#include "runtime/oci/config.h"
#include "runtime/oci/log.h"

namespace skiff::runtime {
namespace {

constexpr std::chrono::seconds kCommandPatience{30};

std::string ProcNamespace(pid_t pid, const char* name) {
  return "/proc/" + std::to_string(pid) + "/ns/" + name;
}

// The runtime's command line up to the command's own arguments.
std::vector<std::string> CommandLine(const ContainerRecord& record, const std::string& log,
                                     std::initializer_list<std::string> words) {
  std::vector<std::string> line = record.oci_command;
  line.insert(line.end(), {"--log", log, "--log-format", "json"});
  line.insert(line.end(), words);
  return line;
}

// Runs a command to its end; the runtime's own word where it fails.
Result<> RunCommand(std::vector<std::string> line, const std::string& log) {
  SpawnRequest request{.path = line.front(), .argv = line, .env = {}};
  request.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
  ProgramOutput output = TRY(RunProgram(std::move(request), {}, kCommandPatience));
  if (output.status.Success()) return {};
  std::string message = LastLogMessage(ReadFile(log).value_or(""));
  if (message.empty()) message = "exit status " + std::to_string(output.status.ShellCode());
  return Error(Code::kInternal, "OCI runtime: " + message);
}

}  // namespace

std::vector<HandlerStatus> RuntimeImpl::Handlers() const {
  std::vector<HandlerStatus> list = {{.recursive_read_only_mounts = true}};
  for (const OciRuntime& runtime : handlers_->all()) {
    // Read-only mounts are made by init/oci.cc, whatever the runtime can do; and pods with user
    // namespaces by no runtime yet, also where it could.
    list.push_back({.name = runtime.name,
                    .version = runtime.version,
                    .features = runtime.features ? DescribeFeatures(*runtime.features) : "",
                    .recursive_read_only_mounts = true});
  }
  return list;
}

Result<> RuntimeImpl::NameOciRuntime(const SandboxPtr& sandbox, ContainerRecord& record) const {
  const OciRuntime* runtime = TRY(handlers_->Find(sandbox->record.spec.handler));
  if (runtime == nullptr) return {};
  record.oci_command = runtime->command;
  record.oci_root = runtime->root;
  if (record.apparmor_profile.empty() || !runtime->features || runtime->features->apparmor) {
    return {};
  }
  // It would run the container unconfined, or fail with words of its own.
  if (record.spec.apparmor.kind != AppArmorSpec::Kind::kNodeDefault) {
    return Error(Code::kInvalidArgument,
                 "runtime handler \"" + runtime->name + "\" has no AppArmor");
  }
  record.apparmor_profile.clear();
  return {};
}

Result<> RuntimeImpl::AddOciLaunch(const ContainerRecord& record, const SandboxPtr& sandbox,
                                   LaunchSpec& launch) {
  const ContainerSpec& spec = record.spec;
  OciLaunch& oci = launch.oci;
  launch.kind = LaunchKind::kOci;
  launch.seccomp_filter.clear();
  TRY(MakeDirectories(OciRootfsPath(paths_.Bundle(spec.id)), 0700));
  // runc takes no path with a symlink in it.
  char* real = ::realpath(paths_.Bundle(spec.id).c_str(), nullptr);
  if (real == nullptr) return Error::Sys(errno, "realpath", paths_.Bundle(spec.id));
  oci.bundle = real;
  ::free(real);
  // Not the container's directory: what is mounted there would hide the bundle.
  launch.scratch_dir = OciRootfsPath(oci.bundle);
  oci.id = spec.id;
  oci.command =
      CommandLine(record, OciLogPath(oci.bundle),
                  {"create", "--bundle", oci.bundle, "--pid-file", OciPidPath(oci.bundle)});
  oci.cgroups_path = record.cgroup_path;
  oci.resources = OciResourcesOf(spec, spec.resources, record.cgroup_path);
  oci.seccomp = TRY(OciSeccompFor(spec.seccomp, spec.capabilities.bounding));

  pid_t pause = 0;
  pid_t target = 0;
  {
    std::lock_guard lock(mutex_);
    pause = sandbox->pause_pid;
    auto found = containers_.find(spec.target_id);
    if (found != containers_.end()) target = found->second->pid;
  }
  const SandboxSpec& pod = sandbox->record.spec;
  oci.namespaces.push_back({.type = "mount"});
  if (!spec.host_cgroup_namespace) oci.namespaces.push_back({.type = "cgroup"});
  if (pod.network != NamespaceMode::kNode) {
    oci.namespaces.push_back({"network", sandbox->record.netns_path});
    oci.namespaces.push_back({"uts", ProcNamespace(pause, "uts")});
  }
  if (pod.ipc != NamespaceMode::kNode) {
    oci.namespaces.push_back({"ipc", ProcNamespace(pause, "ipc")});
  }
  switch (spec.pid) {
    case NamespaceMode::kContainer: oci.namespaces.push_back({.type = "pid"}); break;
    case NamespaceMode::kPod: oci.namespaces.push_back({"pid", ProcNamespace(pause, "pid")}); break;
    case NamespaceMode::kTarget:
      oci.namespaces.push_back({"pid", ProcNamespace(target, "pid")});
      break;
    case NamespaceMode::kNode: break;
  }
  return {};
}

// Without the limits for which this machine has no controller: runtimes take them for errors.
std::string RuntimeImpl::OciResourcesOf(const ContainerSpec& spec, const ResourceSpec& limits,
                                        const std::string& cgroup) const {
  ResourceSpec known = limits;
  if (!cgroups_->Has("cpu")) {
    known.cpu_shares.reset();
    known.cpu_quota_us.reset();
    known.cpu_period_us.reset();
  }
  if (!cgroups_->Has("cpuset")) {
    known.cpuset_cpus.reset();
    known.cpuset_mems.reset();
  }
  if (!cgroups_->Has("memory")) known.memory_limit_bytes.reset();
  if (!cgroups_->Has("pids")) known.pids_limit.reset();
  if (!cgroups_->Has("hugetlb")) known.hugepage_limits_bytes.clear();
  // Swap is not accounted for on every kernel.
  std::string folder = cgroups_->Files(cgroup).oom_counter;
  folder.resize(folder.empty() ? 0 : folder.rfind('/'));
  if (!PathExists(folder + "/memory.memsw.limit_in_bytes") &&
      !PathExists(folder + "/memory.swap.max")) {
    known.memory_swap_limit_bytes.reset();
  }
  std::vector<DeviceRule> rules = {{'a', -1, -1, "rwm"}};
  if (!spec.privileged) rules = DeviceRules(spec.devices).value_or(std::move(rules));
  return OciResources(known, rules, cgroups_->v2());
}

// The container is made and not started: the last word on its cgroup is ours.
Result<> RuntimeImpl::FinishOciCreate(const ContainerRecord& record, pid_t pid) {
  if (!cgroups_->v2()) {
    // Beside version 1 not every runtime joins the empty tree of version 2, where we kill.
    const std::string unified = cgroups_->Files(record.cgroup_path).unified;
    const std::string own = TRY(ReadFile("/proc/" + std::to_string(pid) + "/cgroup"));
    if (!unified.empty() && own.find("0::" + record.cgroup_path + "\n") == std::string::npos) {
      TRY(WriteControlFile(unified + "/cgroup.procs", std::to_string(pid)));
    }
  }
  return cgroups_->Update(record.cgroup_path, record.spec.resources);
}

Result<UniqueFd> RuntimeImpl::OciStartSpec(const ContainerRecord& record) const {
  LaunchSpec launch;
  launch.kind = LaunchKind::kOci;
  launch.oci.command = CommandLine(record, OciLogPath(paths_.Bundle(record.spec.id)), {"start"});
  launch.oci.id = record.spec.id;
  return SealBytes("skiff-launch", Encode(launch));
}

Result<> RuntimeImpl::UpdateOci(const ContainerRecord& record, const ResourceSpec& limits) const {
  if (record.oci_command.empty()) return {};
  const std::string bundle = paths_.Bundle(record.spec.id);
  const std::string file = bundle + "/resources.json";
  TRY(WriteFileAtomic(file, OciResourcesOf(record.spec, limits, record.cgroup_path),
                      Durability::kNone, 0600));
  return RunCommand(
      CommandLine(record, OciLogPath(bundle), {"update", "--resources", file, record.spec.id}),
      OciLogPath(bundle));
}

// Lets the runtime forget the container, whose processes are dead. Nothing to do where it never
// heard of it.
Result<> RuntimeImpl::ReleaseOci(const ContainerRecord& record) {
  if (record.oci_command.empty()) return {};
  const std::string& id = record.spec.id;
  const std::string state = record.oci_root + "/" + id;
  // Of another boot: a runtime would look for processes that are others' by now.
  if (record.boot_id == boot_id_) {
    const std::string log = OciLogPath(paths_.Bundle(id));
    (void)RemoveFile(log);  // what failed before is no news
    Result<> deleted = RunCommand(CommandLine(record, log, {"delete", "--force", id}), log);
    if (!deleted.ok() && PathExists(state) && PathExists(record.oci_command.front())) {
      return deleted;
    }
    if (!deleted.ok() && PathExists(state)) {
      log::Warning("the OCI runtime of a container is not there to delete it; its state is removed",
                   {{"container", id}, {"error", deleted.error()}});
    }
  }
  TRY(RemoveTree(state));
  cgroups_->RemoveElsewhere(record.cgroup_path);
  return {};
}

}  // namespace skiff::runtime
