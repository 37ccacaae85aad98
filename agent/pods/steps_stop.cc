#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <future>
#include <set>
#include <thread>

#include "agent/pods/steps.h"
#include "agent/probes/targets.h"
#include "agent/spec/pod_config.h"
#include "agent/spec/resources.h"
#include "agent/spec/shape.h"
#include "base/log.h"
#include "base/os/files.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
using std::chrono::seconds;

// https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
constexpr size_t kMaxMessageBytes = 4096;
constexpr size_t kMaxLogTailBytes = 2048;
constexpr int kMaxLogTailLines = 80;

// At most the last `bytes` of a file; empty when it cannot be read.
std::string Tail(const std::string& path, size_t bytes) {
  auto fd = OpenFile(path, O_RDONLY | O_NOFOLLOW);
  struct stat status;
  if (!fd.ok() || ::fstat(fd->get(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
  auto size = static_cast<size_t>(status.st_size);
  std::string text(std::min(size, bytes), '\0');
  ssize_t got =
      ::pread(fd->get(), text.data(), text.size(), static_cast<off_t>(size - text.size()));
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return text;
}

// The last lines of a CRI log, without its "time stream tag" prefix.
std::string LogTail(const std::string& path) {
  std::string raw = Tail(path, 4 * kMaxLogTailBytes);
  std::vector<std::string> lines;
  for (size_t start = 0; start < raw.size();) {
    size_t end = std::min(raw.find('\n', start), raw.size());
    std::string_view line = std::string_view(raw).substr(start, end - start);
    start = end + 1;
    size_t skip = 0;
    for (int field = 0; field < 3 && skip != std::string_view::npos; ++field) {
      skip = line.find(' ', skip);
      if (skip != std::string_view::npos) ++skip;
    }
    if (skip != std::string_view::npos) lines.emplace_back(line.substr(skip));
  }
  std::string text;
  size_t first = lines.size() > kMaxLogTailLines ? lines.size() - kMaxLogTailLines : 0;
  for (size_t i = first; i < lines.size(); ++i) text += lines[i] + "\n";
  return text.size() > kMaxLogTailBytes ? text.substr(text.size() - kMaxLogTailBytes) : text;
}

std::string ReadTerminationMessage(const NodeContext& node, const std::string& uid,
                                   const std::string& log_directory,
                                   const ObservedContainer& container) {
  if (!container.termination_message_path.empty()) {
    std::string message =
        Tail(TerminationMessageFile(node.PodDir(uid), container.name, container.attempt),
             kMaxMessageBytes);
    if (!message.empty()) return message;
  }
  if (container.termination_message_policy != "FallbackToLogsOnError" || container.exit_code == 0) {
    return {};
  }
  std::string path =
      container.log_path.starts_with('/')
          ? container.log_path
          : node.log_dir + "/" + log_directory + "/" + LogPath(container.name, container.attempt);
  return LogTail(path);
}

// Runs a preStop hook for at most the grace. Failures are told in an event and change nothing.
void RunPreStop(const PodDeps& deps, const core::Pod& pod, const core::Container& container,
                const StopStep& step) {
  const auto& hook = container.lifecycle().pre_stop();
  Result<> result;
  if (hook.has_exec()) {
    auto output =
        deps.cri.ExecSync(step.container.id,
                          {hook.exec().command().begin(), hook.exec().command().end()}, step.grace);
    if (!output.ok()) {
      result = output.error();
    } else if (output->exit_code != 0) {
      result = Error(Code::kFailedPrecondition, "exec command exited with " +
                                                    std::to_string(output->exit_code) + ": " +
                                                    (output->out + output->err).substr(0, 512));
    }
  } else if (hook.has_http_get()) {
    auto target = HttpTargetOf(hook.http_get(), container, step.pod_ip);
    if (!target.ok()) {
      result = target.error();
    } else {
      std::promise<ProbeOutcome> promise;
      deps.probes.Run(*target, step.grace,
                      [&promise](ProbeOutcome outcome) { promise.set_value(std::move(outcome)); });
      ProbeOutcome outcome = promise.get_future().get();
      if (outcome.kind != ProbeOutcome::Kind::kSuccess) {
        result = Error(Code::kFailedPrecondition, outcome.output);
      }
    }
  } else if (hook.has_sleep()) {
    std::this_thread::sleep_for(
        std::min(seconds(hook.sleep().seconds()), step.grace));  // tidy: the hook asks for it
  }
  if (!result.ok()) {
    deps.events.Warning(SubjectOf(pod, FieldPath(pod, container.name())), "FailedPreStopHook",
                        "PreStopHook failed: " + result.error().message());
  }
}

void RemoveDeadLogLinks(const PodDeps& deps) {
  if (deps.log_links_dir.empty()) return;
  auto names = ListDirectory(deps.log_links_dir);
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    std::string link = deps.log_links_dir + "/" + name;
    struct stat status;
    // Links whose log is gone are nobody's.
    if (::lstat(link.c_str(), &status) == 0 && S_ISLNK(status.st_mode) &&
        ::stat(link.c_str(), &status) != 0) {
      (void)RemoveFile(link);
    }
  }
}

// Of an orphan only the uid is known: it is in one of the three.
Result<> RemovePodCgroups(const PodDeps& deps, const std::string& uid) {
  NodeContext node = deps.node();
  for (QosClass qos : {QosClass::kGuaranteed, QosClass::kBurstable, QosClass::kBestEffort}) {
    TRY(deps.cgroups.Remove(QosCgroup(qos, node) + "/pod" + uid));
  }
  return {};
}

// One more than the highest number of a log <number>.log[.<suffix>]. The kubelet counts the runs of
// containers without a record this way too, so that restartCount never goes back.
uint32_t LoggedRuns(const std::string& directory) {
  auto names = ListDirectory(directory);
  if (!names.ok()) return 0;
  uint32_t runs = 0;
  for (const std::string& name : *names) {
    uint32_t number = 0;
    auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error == std::errc() && std::string_view(end).starts_with(".log")) {
      runs = std::max(runs, number + 1);
    }
  }
  return runs;
}

}  // namespace

Result<ObservedPod> ObservePod(const PodDeps& deps, const std::string& uid,
                               const std::string& log_directory,
                               const std::map<std::string, std::string>& known) {
  ObservedPod observed = TRY(deps.cri.Observe(uid));
  NodeContext node = deps.node();
  for (ObservedContainer& container : observed.containers) {
    if (container.phase != ContainerPhase::kExited) continue;
    auto found = known.find(container.id);
    std::string message = found != known.end()
                              ? found->second
                              : ReadTerminationMessage(node, uid, log_directory, container);
    if (!message.empty()) container.message = message;
  }
  std::string logs = node.log_dir + "/" + log_directory;
  auto names = ListDirectory(logs);
  if (!names.ok()) return observed;  // none yet
  for (const std::string& name : *names) {
    if (observed.Newest(name) == nullptr)
      observed.logged_runs[name] = LoggedRuns(logs + "/" + name);
  }
  return observed;
}

Result<> StopContainerStep(const PodDeps& deps, const StopStep& step) {
  SteadyTime start = deps.executor.clock().Now();
  const core::Container* container =
      step.pod == nullptr ? nullptr : FindContainer(*step.pod, step.container.name);
  if (container != nullptr) {
    deps.events.Normal(SubjectOf(*step.pod, FieldPath(*step.pod, container->name())), "Killing",
                       step.message);
    if (step.run_pre_stop && container->lifecycle().has_pre_stop() && step.grace > seconds(0)) {
      RunPreStop(deps, *step.pod, *container, step);
    }
  }
  auto spent = std::chrono::duration_cast<seconds>(deps.executor.clock().Now() - start);
  // However long the hook took, the process gets a moment to answer SIGTERM.
  seconds least = step.grace < seconds(2) ? std::max(step.grace, seconds(0)) : seconds(2);
  return deps.cri.StopContainer(step.container.id, std::max(step.grace - spent, least));
}

Result<> StopSandboxStep(const PodDeps& deps, const std::string& uid, const std::string& id) {
  TRY(deps.cri.StopSandbox(id));
  return RemovePodCgroups(deps, uid);
}

std::vector<std::string> FindLeftovers(const PodDeps& deps) {
  NodeContext node = deps.node();
  std::set<std::string> uids;
  if (auto names = ListDirectory(node.state_dir + "/pods"); names.ok()) {
    uids.insert(names->begin(), names->end());
  }
  for (QosClass qos : {QosClass::kGuaranteed, QosClass::kBurstable, QosClass::kBestEffort}) {
    for (const std::string& name : deps.cgroups.Children(QosCgroup(qos, node))) {
      if (name.starts_with("pod")) uids.insert(name.substr(3));
    }
  }
  return {uids.begin(), uids.end()};
}

Result<> ReleasePodStep(const PodDeps& deps, const std::string& uid,
                        const std::string& log_directory) {
  ObservedPod observed = TRY(deps.cri.Observe(uid));
  for (const ObservedContainer& container : observed.containers) {
    TRY(deps.cri.RemoveContainer(container.id));
  }
  for (const ObservedSandbox& sandbox : observed.sandboxes) {
    TRY(deps.cri.StopSandbox(sandbox.id));
    TRY(deps.cri.RemoveSandbox(sandbox.id));
  }
  TRY(RemovePodCgroups(deps, uid));
  NodeContext node = deps.node();
  TRY(deps.volumes.Release(node.PodDir(uid)));
  if (!log_directory.empty()) TRY(RemoveTree(node.log_dir + "/" + log_directory));
  RemoveDeadLogLinks(deps);
  return {};
}

}  // namespace skiff::agent
