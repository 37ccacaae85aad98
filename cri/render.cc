#include "cri/render.h"

#include <nlohmann/json.hpp>

namespace skiff::cri {
namespace {

using Json = nlohmann::json;

api::ContainerState StateOf(const ContainerView& view) {
  switch (view.state) {
    case runtime::ContainerState::kCreated: return api::CONTAINER_CREATED;
    case runtime::ContainerState::kRunning: return api::CONTAINER_RUNNING;
    case runtime::ContainerState::kExited: return api::CONTAINER_EXITED;
  }
  return api::CONTAINER_UNKNOWN;
}

void RenderExit(const runtime::ContainerExit& exit, api::ContainerStatus* status) {
  status->set_finished_at(Nanoseconds(exit.finished));
  status->set_exit_code(exit.status.ShellCode());
  if (!exit.start_error.empty()) {
    status->set_reason("StartError");
    status->set_message(exit.start_error);
  } else if (exit.oom_killed) {
    status->set_reason("OOMKilled");
  } else {
    status->set_reason(exit.status.Success() ? "Completed" : "Error");
  }
}

}  // namespace

int64_t Nanoseconds(WallTime time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

api::PodSandbox RenderSandbox(const Sandbox& sandbox) {
  const SandboxView view = sandbox.view();
  const api::PodSandboxConfig& config = sandbox.request.config();
  api::PodSandbox message;
  message.set_id(sandbox.id);
  *message.mutable_metadata() = config.metadata();
  message.set_state(view.state == runtime::SandboxState::kReady ? api::SANDBOX_READY
                                                                : api::SANDBOX_NOTREADY);
  message.set_created_at(Nanoseconds(view.created));
  *message.mutable_labels() = config.labels();
  *message.mutable_annotations() = config.annotations();
  message.set_runtime_handler(sandbox.request.runtime_handler());
  return message;
}

api::PodSandboxStatus RenderSandboxStatus(const Sandbox& sandbox) {
  const SandboxView view = sandbox.view();
  const api::PodSandboxConfig& config = sandbox.request.config();
  api::PodSandboxStatus status;
  status.set_id(sandbox.id);
  *status.mutable_metadata() = config.metadata();
  status.set_state(view.state == runtime::SandboxState::kReady ? api::SANDBOX_READY
                                                               : api::SANDBOX_NOTREADY);
  status.set_created_at(Nanoseconds(view.created));
  api::PodSandboxNetworkStatus* network = status.mutable_network();
  for (const std::string& address : view.addresses) {
    if (network->ip().empty()) {
      network->set_ip(address);
    } else {
      network->add_additional_ips()->set_ip(address);
    }
  }
  *status.mutable_linux()->mutable_namespaces()->mutable_options() =
      config.linux().security_context().namespace_options();
  *status.mutable_labels() = config.labels();
  *status.mutable_annotations() = config.annotations();
  status.set_runtime_handler(sandbox.request.runtime_handler());
  return status;
}

api::Container RenderContainer(const Container& container) {
  const ContainerView view = container.view();
  const api::ContainerStatus& fixed = container.fixed;
  api::Container message;
  message.set_id(container.id);
  message.set_pod_sandbox_id(container.sandbox_id);
  *message.mutable_metadata() = fixed.metadata();
  *message.mutable_image() = fixed.image();
  message.set_image_ref(fixed.image_ref());
  message.set_image_id(fixed.image_id());
  message.set_state(StateOf(view));
  message.set_created_at(Nanoseconds(view.created));
  *message.mutable_labels() = fixed.labels();
  *message.mutable_annotations() = fixed.annotations();
  return message;
}

api::ContainerStatus RenderContainerStatus(const Container& container) {
  const ContainerView view = container.view();
  api::ContainerStatus status = container.fixed;
  status.set_state(StateOf(view));
  status.set_created_at(Nanoseconds(view.created));
  if (view.started) status.set_started_at(Nanoseconds(*view.started));
  if (view.exit) RenderExit(*view.exit, &status);
  *status.mutable_resources()->mutable_linux() = view.resources;
  if (view.started) {
    api::LinuxContainerUser* user = status.mutable_user()->mutable_linux();
    user->set_uid(view.user.uid);
    user->set_gid(view.user.gid);
    for (const uint32_t group : view.user.groups) user->add_supplemental_groups(group);
  }
  return status;
}

bool HasLabels(const google::protobuf::Map<std::string, std::string>& labels,
               const google::protobuf::Map<std::string, std::string>& selector) {
  for (const auto& [name, value] : selector) {
    const auto it = labels.find(name);
    if (it == labels.end() || it->second != value) return false;
  }
  return true;
}

bool Matches(const api::PodSandboxFilter& filter, const api::PodSandbox& sandbox) {
  return sandbox.id().starts_with(filter.id()) &&
         (!filter.has_state() || filter.state().state() == sandbox.state()) &&
         HasLabels(sandbox.labels(), filter.label_selector());
}

bool Matches(const api::ContainerFilter& filter, const api::Container& container) {
  return container.id().starts_with(filter.id()) &&
         container.pod_sandbox_id().starts_with(filter.pod_sandbox_id()) &&
         (!filter.has_state() || filter.state().state() == container.state()) &&
         HasLabels(container.labels(), filter.label_selector());
}

std::string SandboxInfo(const Sandbox& sandbox) {
  const SandboxView view = sandbox.view();
  Json namespaces = Json::array();
  if (!view.netns_path.empty()) {
    namespaces.push_back({{"type", "network"}, {"path", view.netns_path}});
  }
  return Json{{"pid", view.pause_pid},
              {"cgroupPath", view.cgroup_path},
              {"hostInterface", view.host_interface},
              {"runtimeSpec", {{"linux", {{"namespaces", namespaces}}}}}}
      .dump();
}

std::string ContainerInfo(const Container& container) {
  const ContainerView view = container.view();
  return Json{{"sandboxID", container.sandbox_id},
              {"pid", view.pid},
              {"cgroupPath", view.cgroup_path},
              {"snapshotKey", container.id}}
      .dump();
}

}  // namespace skiff::cri
