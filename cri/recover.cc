// What RuntimeService does at its start, when containers end, and when the node is taken down.
#include <algorithm>
#include <set>

#include "base/log.h"
#include "base/os/files.h"
#include "cri/render.h"
#include "cri/runtime_service.h"

namespace skiff::cri {
namespace {

// What keeps nobody from living without it must not keep the daemon from starting.
void WarnOf(const Result<>& removed, const char* kind, const std::string& id) {
  if (removed.ok()) return;
  log::Warning("cannot remove what no record names; trying again at the next start",
               {{"kind", kind}, {"name", id}, {"error", removed.error()}});
}

}  // namespace

Result<> RuntimeService::Recover() {
  TRY(RecoverSandboxes());
  TRY(RecoverContainers());
  return DropOrphans();
}

Result<> RuntimeService::RecoverSandboxes() {
  std::vector<std::string> on_network;
  std::vector<std::string> half_made;
  for (const runtime::SandboxStatus& status : deps_.runtime->Sandboxes()) {
    auto sandbox = std::make_shared<Sandbox>();
    sandbox->id = status.spec.id;
    // One that did not come up whole was never told to anybody, whatever of it runs.
    if (!PathExists(SandboxDirectory(sandbox->id) + "/" + kLastSandboxFile) ||
        !sandbox->request.ParseFromString(status.spec.client_data)) {
      half_made.push_back(status.spec.id);
      continue;
    }
    sandbox->has_network = status.spec.network == runtime::NamespaceMode::kPod;
    if (sandbox->has_network && status.state == runtime::SandboxState::kReady) {
      on_network.push_back(sandbox->id);
    }
    table_.Add(std::move(sandbox));
  }
  // Frees the addresses of all others.
  TRY(deps_.network->Recover(on_network));
  for (const std::string& id : half_made) {
    if (auto removed = deps_.runtime->RemoveSandbox(id); !removed.ok()) {
      log::Warning("a half-made sandbox is left to the next start",
                   {{"sandbox", id}, {"error", removed.error()}});
    }
  }
  for (const SandboxPtr& sandbox : table_.Sandboxes()) {
    Observe(*sandbox);
    sandbox->told = sandbox->view().state == runtime::SandboxState::kReady
                        ? api::CONTAINER_STARTED_EVENT
                        : api::CONTAINER_STOPPED_EVENT;
  }
  return {};
}

Result<> RuntimeService::RecoverContainers() {
  for (const runtime::ContainerStatus& status : deps_.runtime->Containers()) {
    api::ContainerStatusResponse record;
    if (!record.ParseFromString(status.spec.client_data)) {
      log::Warning("removing a container whose record cannot be read",
                   {{"container", status.spec.id}});
      TRY(deps_.runtime->RemoveContainer(status.spec.id));
      continue;
    }
    auto container = std::make_shared<Container>();
    container->id = status.spec.id;
    container->sandbox_id = status.spec.sandbox_id;
    container->fixed = record.status();
    container->fixed.clear_resources();
    container->config_digest =
        record.info().count("configDigest") > 0 ? record.info().at("configDigest") : std::string();
    container->terminal = status.spec.terminal;
    container->stdin_open = status.spec.stdin_open;
    container->writable_dir = status.spec.rootfs.writable_dir;
    container->UpdateView(
        [&](ContainerView& view) { view.resources = record.status().resources().linux(); });
    Observe(*container);
    container->told = container->view().exit      ? api::CONTAINER_STOPPED_EVENT
                      : container->view().started ? api::CONTAINER_STARTED_EVENT
                                                  : api::CONTAINER_CREATED_EVENT;
    table_.Add(std::move(container));
  }
  return {};
}

// Writable layers and shared files that no record names.
Result<> RuntimeService::DropOrphans() {
  for (const std::string& id : deps_.images->ListSnapshots()) {
    // Its writable layer, or one of its image volumes (VolumeSnapshot).
    if (table_.FindContainer(id.substr(0, id.find('-'))).ok()) continue;
    WarnOf(deps_.images->DeleteSnapshot(id), "snapshot", id);
  }
  const std::string directory = deps_.state_dir + "/sandboxes";
  TRY(MakeDirectories(directory, 0711));
  for (const std::string& id : TRY(ListDirectory(directory))) {
    if (table_.FindSandbox(id).ok()) continue;
    WarnOf(RemoveTree(directory + "/" + id), "directory", id);
  }
  return {};
}

void RuntimeService::OnExit(const runtime::ExitEvent& event) {
  if (event.container_id.empty()) {
    const auto sandbox = table_.FindSandbox(event.sandbox_id);
    if (!sandbox.ok()) return;
    Observe(**sandbox);
    if ((*sandbox)->view().state != runtime::SandboxState::kReady) {
      Tell(*sandbox, api::CONTAINER_STOPPED_EVENT);
    }
    return;
  }
  const auto container = table_.FindContainer(event.container_id);
  if (!container.ok()) return;  // removed meanwhile, which told of its end too
  Observe(**container);
  Tell(*container, api::CONTAINER_STOPPED_EVENT);
}

void RuntimeService::Append(api::ContainerEventType type, const std::string& id,
                            const Sandbox* sandbox) {
  if (!events_.followed()) return;  // whoever comes later lists first
  api::ContainerEventResponse event;
  event.set_container_id(id);
  event.set_container_event_type(type);
  event.set_created_at(Nanoseconds(Clock::Real().WallNow()));
  if (sandbox != nullptr) {
    *event.mutable_pod_sandbox_status() = RenderSandboxStatus(*sandbox);
    for (const ContainerPtr& container : table_.ContainersOf(sandbox->id)) {
      *event.add_containers_statuses() = RenderContainerStatus(*container);
    }
  }
  events_.Append(std::move(event));
}

void RuntimeService::Tell(const ContainerPtr& container, api::ContainerEventType type) {
  const auto sandbox = table_.FindSandbox(container->sandbox_id);
  const std::lock_guard lock(telling_);
  const bool ran = container->view().started.has_value();
  while (container->told < type) {
    ++container->told;
    // One that never ran was neither started nor, where it is removed, stopped.
    if (container->told != type && container->told != api::CONTAINER_CREATED_EVENT && !ran)
      continue;
    Append(static_cast<api::ContainerEventType>(container->told), container->id,
           sandbox.ok() ? sandbox->get() : nullptr);
  }
}

void RuntimeService::Tell(const SandboxPtr& sandbox, api::ContainerEventType type) {
  const std::lock_guard lock(telling_);
  while (sandbox->told < type) {
    ++sandbox->told;
    Append(static_cast<api::ContainerEventType>(sandbox->told), sandbox->id, sandbox.get());
  }
}

Result<> RuntimeService::RemoveAll() {
  Result<> first;
  for (const SandboxPtr& sandbox : table_.Sandboxes()) {
    api::RemovePodSandboxRequest request;
    request.set_pod_sandbox_id(sandbox->id);
    api::RemovePodSandboxResponse response;
    auto removed = RemovePodSandbox(request, &response);
    if (!removed.ok() && first.ok()) first = std::move(removed);
  }
  return first;
}

}  // namespace skiff::cri
