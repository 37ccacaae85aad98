#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "agent/pods/steps.h"
#include "agent/probes/targets.h"
#include "agent/spec/pod_config.h"
#include "agent/spec/resources.h"
#include "agent/spec/shape.h"
#include "agent/spec/user_namespace.h"
#include "base/log.h"
#include "base/os/files.h"
#include "proto/cri/runtime/v1/api.pb.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
using std::chrono::seconds;

DnsConfig HostDns(const NodeContext& node) {
  auto text = ReadFile(node.resolv_conf, 1 << 20);
  return text.ok() ? ParseResolvConf(*text) : DnsConfig();
}

// "1.234s", as kubelet's messages write a duration.
std::string FormatDuration(std::chrono::nanoseconds duration) {
  auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
  if (millis < 1000) return std::to_string(millis) + "ms";
  std::string fraction = std::to_string(millis % 1000);
  fraction.insert(0, 3 - fraction.size(), '0');
  return std::to_string(millis / 1000) + "." + fraction + "s";
}

// A reference as registries accept it; the text is upstream's.
std::optional<StartFailure> CheckImageName(const std::string& image) {
  std::string_view name = image;
  if (size_t digest = name.find('@'); digest != std::string_view::npos) {
    name = name.substr(0, digest);
  }
  bool bad =
      name.empty() || name.size() > 255 ||
      std::any_of(name.begin(), name.end(), [](unsigned char c) {
        return std::isspace(c) || std::iscntrl(c) ||
               std::string_view("\"'\\?#%&=").find(static_cast<char>(c)) != std::string_view::npos;
      });
  std::string why = "invalid reference format";
  if (!bad) {
    // The registry's host and the tag may have capitals, the repository may not.
    size_t slash = name.find('/');
    std::string_view path = name;
    if (slash != std::string_view::npos &&
        name.substr(0, slash).find_first_of(".:") != std::string_view::npos) {
      path = name.substr(slash + 1);
    }
    path = path.substr(0, path.find(':'));
    if (std::any_of(path.begin(), path.end(), [](unsigned char c) { return std::isupper(c); })) {
      bad = true;
      why += ": repository name must be lowercase";
    }
  }
  if (!bad) return std::nullopt;
  return StartFailure{"InvalidImageName", "Failed to apply default image tag \"" + image +
                                              "\": couldn't parse image name \"" + image +
                                              "\": " + why};
}

std::string PolicyOf(const core::Container& container) {
  if (!container.image_pull_policy().empty()) return container.image_pull_policy();
  const std::string& image = container.image();
  size_t tag = image.rfind(':');
  bool tagged = tag != std::string::npos && image.find('/', tag) == std::string::npos;
  bool latest = !tagged || image.substr(tag + 1) == "latest";
  return latest && image.find('@') == std::string::npos ? "Always" : "IfNotPresent";
}

// "registry.example.com:5000" of an image, or docker.io's names.
std::string RegistryOf(const std::string& image) {
  size_t slash = image.find('/');
  if (slash == std::string::npos) return "docker.io";
  std::string host = image.substr(0, slash);
  if (host.find_first_of(".:") == std::string::npos && host != "localhost") return "docker.io";
  return host;
}

// Whether a docker config's key ("https://index.docker.io/v1/", "registry:5000", "*.example.com")
// is about the registry.
bool KeyMatches(std::string key, const std::string& registry) {
  for (const char* scheme : {"https://", "http://"}) {
    if (key.starts_with(scheme)) key.erase(0, std::string_view(scheme).size());
  }
  key = key.substr(0, key.find('/'));
  if (registry == "docker.io") return key == "docker.io" || key == "index.docker.io";
  if (key.starts_with("*.")) return registry.ends_with(key.substr(1));
  return key == registry;
}

// Credentials from the pod's imagePullSecrets that are meant for the image's registry.
std::vector<RegistryAuth> FindAuths(const PodDeps& deps, const core::Pod& pod,
                                    const std::string& image) {
  std::vector<RegistryAuth> auths;
  std::string registry = RegistryOf(image);
  auto text = [](const nlohmann::json& object, const char* key) {
    auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  for (const core::LocalObjectReference& reference : pod.spec().image_pull_secrets()) {
    auto secret = deps.objects.FindSecret(pod.metadata().namespace_(), reference.name());
    if (secret == nullptr) continue;
    for (const char* key : {".dockerconfigjson", ".dockercfg"}) {
      auto data = secret->data().find(key);
      if (data == secret->data().end()) continue;
      auto document = nlohmann::json::parse(data->second, nullptr, /*allow_exceptions=*/false);
      if (!document.is_object()) continue;
      const auto& entries = document.contains("auths") ? document["auths"] : document;
      if (!entries.is_object()) continue;
      for (const auto& [server, entry] : entries.items()) {
        if (!entry.is_object() || !KeyMatches(server, registry)) continue;
        auths.push_back({text(entry, "username"), text(entry, "password"), text(entry, "auth"),
                         server, text(entry, "identitytoken"), text(entry, "registrytoken")});
      }
    }
  }
  return auths;
}

Result<ResolvedMount> MakeTerminationFile(const std::string& pod_dir,
                                          const core::Container& container, uint32_t attempt) {
  ResolvedMount mount;
  mount.host_path = TerminationMessageFile(pod_dir, container.name(), attempt);
  mount.container_path = container.termination_message_path();
  TRY(MakeDirectories(mount.host_path.substr(0, mount.host_path.rfind('/')), 0755));
  (void)TRY(OpenFile(mount.host_path, O_WRONLY | O_CREAT | O_TRUNC, 0666));
  // Whoever the container runs as may write it; the umask must not say otherwise.
  if (::chmod(mount.host_path.c_str(), 0666) != 0) {
    return Error::Sys(errno, "chmod", mount.host_path);
  }
  return mount;
}

bool Mounts(const core::Container& container, std::string_view path) {
  return std::any_of(container.volume_mounts().begin(), container.volume_mounts().end(),
                     [&](const auto& mount) { return mount.mount_path() == path; });
}

// The files that every container gets beside its volumes.
Result<> AddOwnFiles(const core::Pod& pod, const core::Container& container,
                     const ContainerStep& step, const NodeContext& node,
                     std::vector<ResolvedMount>* mounts) {
  std::string pod_dir = node.PodDir(pod.metadata().uid());
  TRY(MakeDirectories(pod_dir, 0750));
  if (!Mounts(container, "/etc/hosts")) {
    auto host_file = ReadFile(node.hosts_file, 1 << 20);
    std::string path = pod_dir + "/etc-hosts";
    // Written in place: containers that run already have this very file mounted.
    TRY(WriteFileInPlace(
        path, HostsFile(pod, node, step.sandbox.ips, host_file.ok() ? *host_file : std::string()),
        0644));
    mounts->push_back({path, "/etc/hosts", false, false, ""});
  }
  if (!container.termination_message_path().empty()) {
    mounts->push_back(TRY(MakeTerminationFile(pod_dir, container, step.attempt)));
  }
  return {};
}

// /var/log/containers/<pod>_<namespace>_<container>-<id>.log, where log collectors look.
void LinkLog(const PodDeps& deps, const core::Pod& pod, const ContainerStep& step,
             const NodeContext& node, const std::string& id) {
  if (deps.log_links_dir.empty()) return;
  std::string link = deps.log_links_dir + "/" + pod.metadata().name() + "_" +
                     pod.metadata().namespace_() + "_" + step.name + "-" + id + ".log";
  std::string target =
      node.log_dir + "/" + LogDirectoryName(pod) + "/" + LogPath(step.name, step.attempt);
  (void)MakeDirectories(deps.log_links_dir);
  if (::symlink(target.c_str(), link.c_str()) != 0 && errno != EEXIST) {
    log::Warning("cannot link a container's log; collectors will miss it",
                 {{"link", link}, {"error", ErrnoText(errno)}});
  }
}

// Runs a postStart hook. An error is the FailedPostStartHook event's message.
Result<> RunPostStart(const PodDeps& deps, const core::Container& container, const std::string& id,
                      const std::string& pod_ip) {
  const auto& hook = container.lifecycle().post_start();
  // Upstream gives hooks no deadline of their own; a start must end some time.
  constexpr seconds kHookDeadline{600};
  if (hook.has_exec()) {
    auto output = TRY(deps.cri.ExecSync(
        id, {hook.exec().command().begin(), hook.exec().command().end()}, kHookDeadline));
    if (output.exit_code == 0) return {};
    return Error(Code::kFailedPrecondition, "exec command exited with " +
                                                std::to_string(output.exit_code) + ": " +
                                                (output.out + output.err).substr(0, 512));
  }
  if (hook.has_http_get()) {
    auto target = TRY(HttpTargetOf(hook.http_get(), container, pod_ip));
    std::promise<ProbeOutcome> promise;
    deps.probes.Run(target, seconds(30),
                    [&promise](ProbeOutcome outcome) { promise.set_value(std::move(outcome)); });
    ProbeOutcome outcome = promise.get_future().get();
    if (outcome.kind == ProbeOutcome::Kind::kSuccess) return {};
    return Error(Code::kFailedPrecondition, outcome.output);
  }
  if (hook.has_sleep())
    std::this_thread::sleep_for(seconds(hook.sleep().seconds()));  // tidy: the hook asks for it
  return {};
}

Result<> CheckHandlerMapsUsers(const PodDeps& deps, const std::string& handler) {
  const RuntimeStatus status = TRY(deps.cri.Status());
  const bool can = std::any_of(
      status.handlers.begin(), status.handlers.end(),
      [&](const auto& known) { return known.name == handler && known.user_namespaces; });
  if (can) return {};
  // In kubelet's words.
  return Error(Code::kUnimplemented,
               handler.empty()
                   ? "can't set `spec.hostUsers: false`, runtime does not support user namespaces"
                   : "can't set `spec.hostUsers: false`, RuntimeClass handler \"" + handler +
                         "\" does not support user namespaces");
}

// Adds the pod's user namespace, where it has one of its own, to the configuration of the sandbox
// and, unless it is null, of a container.
Result<> AddUserNamespace(const PodDeps& deps, const core::Pod& pod,
                          ::runtime::v1::PodSandboxConfig* sandbox,
                          ::runtime::v1::ContainerConfig* container) {
  if (!HasUserNamespace(pod)) return {};
  const uint32_t first =
      TRY(deps.id_ranges.Acquire(deps.node().state_dir + "/pods", pod.metadata().uid()));
  SetUserNamespace(first, IdRanges::kLength, sandbox);
  if (container != nullptr) SetUserNamespace(first, IdRanges::kLength, container);
  return {};
}

// Of the RuntimeClass that the pod names. It was there when the pod was made, and a pod that runs
// outlives it; a new sandbox does not come up without it.
Result<std::string> HandlerOf(const PodDeps& deps, const core::Pod& pod) {
  const std::string& name = pod.spec().runtime_class_name();
  if (name.empty()) return std::string();
  std::optional<std::string> handler = deps.objects.FindRuntimeHandler(name);
  if (handler) return *std::move(handler);
  // In kubelet's words.
  return Error(Code::kNotFound, "runtimeclass.node.k8s.io \"" + name + "\" not found");
}

}  // namespace

SandboxResult RunSandboxStep(const PodDeps& deps, const SandboxStep& step) {
  SandboxResult result;
  const core::Pod& pod = *step.pod;
  NodeContext node = deps.node();
  auto fail = [&](const char* event, std::string message) {
    deps.events.Warning(SubjectOf(pod), event, message);
    result.failure = StartFailure{event, std::move(message)};
    return result;
  };
  for (const std::string& id : step.replaces) {
    auto stopped = deps.cri.StopSandbox(id);
    if (!stopped.ok()) {
      return fail("FailedKillPod", "error killing pod: " + stopped.error().message());
    }
  }
  auto volumes = deps.volumes.SetUp(pod, {&deps.objects, node, {}});
  if (!volumes.ok()) return fail("FailedMount", volumes.error().message());
  result.volumes = *std::move(volumes);
  Result<std::string> handler = HandlerOf(deps, pod);
  if (!handler.ok()) {
    return fail("FailedCreatePodSandBox",
                "Failed to create pod sandbox: " + handler.error().message());
  }
  ::runtime::v1::PodSandboxConfig config;
  auto filled = FillSandboxConfig(pod, step.attempt, node, HostDns(node), &config);
  if (filled.ok() && HasUserNamespace(pod)) filled = CheckHandlerMapsUsers(deps, *handler);
  if (filled.ok()) filled = AddUserNamespace(deps, pod, &config, nullptr);
  if (filled.ok()) filled = MakeDirectories(config.log_directory(), 0755);
  if (filled.ok()) {
    ::runtime::v1::LinuxContainerResources limits;
    FillPodResources(pod, WithOverhead::kYes, &limits);
    filled = deps.cgroups.Create(
        config.linux().cgroup_parent(),
        {limits.cpu_shares(), limits.cpu_quota(), limits.memory_limit_in_bytes()});
  }
  Result<std::string> id = std::string();
  if (filled.ok()) {
    id = deps.cri.RunSandbox(config, *handler);
  }
  if (!filled.ok() || !id.ok()) {
    const Error& error = filled.ok() ? id.error() : filled.error();
    return fail("FailedCreatePodSandBox", "Failed to create pod sandbox: " + error.message());
  }
  return result;
}

ImageDecision DecideImage(const PodDeps& deps, const ContainerStep& step) {
  ImageDecision decision;
  const core::Container& container = *FindContainer(*step.pod, step.name);
  const std::string& image = container.image();
  EventSubject subject = SubjectOf(*step.pod, FieldPath(*step.pod, step.name));
  decision.failure = CheckImageName(image);
  if (decision.failure) {
    deps.events.Warning(subject, "InspectFailed", decision.failure->message);
    return decision;
  }
  auto present = deps.cri.FindImage(image);
  if (!present.ok()) {
    decision.failure = StartFailure{"ImageInspectError", "Failed to inspect image \"" + image +
                                                             "\": " + present.error().message()};
    deps.events.Warning(subject, "InspectFailed", decision.failure->message);
    return decision;
  }
  decision.present = *std::move(present);
  std::string policy = PolicyOf(container);
  if (policy == "Never" && !decision.present) {
    decision.failure =
        StartFailure{"ErrImageNeverPull",
                     "Container image \"" + image + "\" is not present with pull policy of Never"};
    deps.events.Warning(subject, "ErrImageNeverPull", decision.failure->message);
  } else if (policy == "Always" || !decision.present) {
    decision.pull = true;
  } else {
    deps.events.Normal(subject, "Pulled",
                       "Container image \"" + image + "\" already present on machine");
  }
  return decision;
}

Result<ImageInfo> PullImageStep(const PodDeps& deps, const ContainerStep& step) {
  const core::Container& container = *FindContainer(*step.pod, step.name);
  const std::string& image = container.image();
  EventSubject subject = SubjectOf(*step.pod, FieldPath(*step.pod, step.name));
  deps.events.Normal(subject, "Pulling", "Pulling image \"" + image + "\"");
  SteadyTime start = deps.executor.clock().Now();
  NodeContext node = deps.node();
  ::runtime::v1::PodSandboxConfig config;
  auto pulled = FillSandboxConfig(*step.pod, step.sandbox.attempt, node, DnsConfig(), &config);
  Result<std::string> reference = std::string();
  if (pulled.ok()) {
    reference = deps.cri.PullImage(image, FindAuths(deps, *step.pod, image), config);
    if (!reference.ok()) pulled = reference.error();
  }
  Result<std::optional<ImageInfo>> info = std::optional<ImageInfo>();
  if (pulled.ok()) {
    info = deps.cri.FindImage(image);
    if (info.ok() && !*info) info = deps.cri.FindImage(*reference);
    if (!info.ok()) pulled = info.error();
  }
  if (pulled.ok() && !*info) pulled = Error(Code::kNotFound, "the pulled image is not there");
  if (!pulled.ok()) {
    deps.events.Warning(subject, "Failed",
                        "Failed to pull image \"" + image + "\": " + pulled.error().message());
    return std::move(pulled).error();
  }
  std::string took = FormatDuration(deps.executor.clock().Now() - start);
  deps.events.Normal(subject, "Pulled",
                     "Successfully pulled image \"" + image + "\" in " + took + " (" + took +
                         " including waiting). Image size: " + std::to_string((*info)->size_bytes) +
                         " bytes.");
  return **info;
}

ContainerResult RunContainerStep(const PodDeps& deps, const ContainerStep& step,
                                 const ImageInfo& image) {
  ContainerResult result;
  const core::Pod& pod = *step.pod;
  const core::Container& container = *FindContainer(pod, step.name);
  NodeContext node = deps.node();
  EventSubject subject = SubjectOf(pod, FieldPath(pod, step.name));
  auto fail = [&](const char* reason, const std::string& message) {
    deps.events.Warning(subject, "Failed", "Error: " + message);
    result.failure = StartFailure{reason, message};
    return result;
  };
  if (step.volumes) {
    result.volumes = *step.volumes;
  } else {
    auto volumes = deps.volumes.SetUp(pod, {&deps.objects, node, step.sandbox.ips});
    if (!volumes.ok()) {
      deps.events.Warning(SubjectOf(pod), "FailedMount", volumes.error().message());
      result.failure = StartFailure{"FailedMount", volumes.error().message()};
      return result;
    }
    result.volumes = *std::move(volumes);
  }
  ContainerInputs inputs;
  inputs.attempt = step.attempt;
  inputs.image = &image;
  auto env = MakeEnvironment(pod, container, deps.objects, node, step.sandbox.ips);
  if (!env.ok()) return fail("CreateContainerConfigError", env.error().message());
  inputs.env = *std::move(env);
  auto mounts = deps.volumes.ResolveMounts(pod, container, result.volumes, inputs.env, node);
  if (!mounts.ok()) return fail("CreateContainerConfigError", mounts.error().message());
  inputs.mounts = *std::move(mounts);
  auto own = AddOwnFiles(pod, container, step, node, &inputs.mounts);
  if (!own.ok()) return fail("CreateContainerConfigError", own.error().message());
  ::runtime::v1::PodSandboxConfig sandbox_config;
  ::runtime::v1::ContainerConfig config;
  auto filled = FillSandboxConfig(pod, step.sandbox.attempt, node, HostDns(node), &sandbox_config);
  if (filled.ok()) filled = FillContainerConfig(pod, container, inputs, node, &config);
  if (filled.ok()) filled = AddUserNamespace(deps, pod, &sandbox_config, &config);
  if (filled.ok()) filled = MakeDirectories(sandbox_config.log_directory() + "/" + step.name, 0755);
  if (!filled.ok()) return fail("CreateContainerConfigError", filled.error().message());

  auto id = deps.cri.CreateContainer(step.sandbox.id, config, sandbox_config);
  if (!id.ok()) return fail("CreateContainerError", id.error().message());
  deps.events.Normal(subject, "Created", "Created container: " + step.name);
  LinkLog(deps, pod, step, node, *id);
  auto started = deps.cri.StartContainer(*id);
  if (!started.ok()) {
    fail("RunContainerError", started.error().message());
    result.failure->created = true;
    return result;
  }
  deps.events.Normal(subject, "Started", "Started container " + step.name);
  std::string pod_ip = step.sandbox.ips.empty()
                           ? (node.host_ips.empty() ? std::string() : node.host_ips.front())
                           : step.sandbox.ips.front();
  auto hook = RunPostStart(deps, container, *id, pod_ip);
  if (!hook.ok()) {
    deps.events.Warning(subject, "FailedPostStartHook",
                        "PostStartHook failed: " + hook.error().message());
    deps.events.Normal(subject, "Killing", "FailedPostStartHook");
    (void)deps.cri.StopContainer(*id, GracePeriod(pod));  // what is left shows in the next look
    result.failure = StartFailure{"PostStartHookError", hook.error().message(), true};
  }
  return result;
}

}  // namespace skiff::agent
