// The container half of RuntimeService.
#include <algorithm>

#include "base/log.h"
#include "base/os/files.h"
#include "base/random.h"
#include "cri/render.h"
#include "cri/runtime_service.h"
#include "cri/translate.h"
#include "runtime/image/digest.h"

namespace skiff::cri {
namespace {

// Of both outputs of ExecSync together: gRPC clients of CRI take messages of 16 MiB. What is longer
// is cut off at the end, first from stderr; the command runs on and its exit code is told.
constexpr size_t kExecOutputBytes = (16 << 20) - (64 << 10);
// A container's stop is given up this long after its grace period: the kernel does not let it go.
constexpr int64_t kMaxGraceSeconds = 365 * 24 * 3600;

// The image by the name that the user gave, for the status.
std::string UserImage(const api::ContainerConfig& config) {
  return config.image().user_specified_image().empty() ? config.image().image()
                                                       : config.image().user_specified_image();
}

api::ContainerStatus FixedStatus(const api::ContainerConfig& config,
                                 const runtime::ContainerSpec& spec, const runtime::Image& image) {
  api::ContainerStatus status;
  status.set_id(spec.id);
  *status.mutable_metadata() = config.metadata();
  *status.mutable_image() = config.image();
  status.mutable_image()->set_image(UserImage(config));
  status.set_image_ref(image.repo_digests.empty() ? image.id.text() : image.repo_digests.front());
  status.set_image_id(image.id.text());
  *status.mutable_labels() = config.labels();
  *status.mutable_annotations() = config.annotations();
  *status.mutable_mounts() = config.mounts();
  status.set_log_path(spec.log.path);
  status.set_stop_signal(SignalToApi(spec.stop_signal));
  return status;
}

}  // namespace

void RuntimeService::Observe(Container& container) {
  container.UpdateView([&](ContainerView& view) {
    auto status = deps_.runtime->Container(container.id);
    if (!status.ok()) return;  // removed: the last view stays
    view.state = status->state;
    view.created = status->created;
    view.started = status->started;
    view.exit = status->exit;
    view.user = status->user;
    view.pid = status->pid;
    view.cgroup_path = status->cgroup_path;
  });
}

Result<ContainerPtr> RuntimeService::FindRunning(const std::string& id) const {
  ContainerPtr container = TRY(table_.FindContainer(id));
  if (container->view().state != runtime::ContainerState::kRunning) {
    return Error(Code::kFailedPrecondition, "container " + container->id + " is not running");
  }
  return container;
}

// By a name that tells whose it is (recover.cc).
std::string RuntimeService::VolumeSnapshot(const std::string& id, int index) {
  return id + "-" + std::to_string(index);
}

// The layers that each image mount shows. They are held by snapshots that nobody writes to: the
// image may be removed while the container uses it.
Result<std::map<int, std::vector<std::string>>> RuntimeService::ResolveImageMounts(
    const api::ContainerConfig& config, const std::string& id) {
  std::map<int, std::vector<std::string>> sources;
  for (int i = 0; i < config.mounts_size(); ++i) {
    const std::string& name = config.mounts(i).image().image();
    if (name.empty()) continue;
    const auto image = deps_.images->Find(name);
    if (image == nullptr) return Error(Code::kNotFound, "image volume: no image " + name);
    auto snapshot = TRY(deps_.images->CreateSnapshot(VolumeSnapshot(id, i), image->id));
    sources[i] = std::move(snapshot.lower_dirs);
  }
  return sources;
}

Result<> RuntimeService::DeleteSnapshots(
    const std::string& id, const google::protobuf::RepeatedPtrField<api::Mount>& mounts) {
  for (int i = 0; i < mounts.size(); ++i) {
    if (mounts[i].image().image().empty()) continue;
    TRY(deps_.images->DeleteSnapshot(VolumeSnapshot(id, i)));
  }
  return deps_.images->DeleteSnapshot(id);
}

// Plans the container and takes a writable layer for it; nothing else is made yet.
Result<ContainerPtr> RuntimeService::Assemble(const api::CreateContainerRequest& request,
                                              const SandboxPtr& sandbox, const std::string& id,
                                              runtime::ContainerSpec* spec) {
  const api::ContainerConfig& config = request.config();
  const auto image = deps_.images->Find(config.image().image());
  if (image == nullptr) {
    return Error(Code::kNotFound, "no image \"" + config.image().image() + "\" on this node");
  }
  const std::string files = SandboxDirectory(sandbox->id);
  ContainerContext context{id, sandbox->id, sandbox->request.config(), *image, {}, {}, "", {}, {}};
  context.files = {files + "/resolv.conf", files + "/hostname", files + "/hosts"};
  const api::NamespaceOption& namespaces = config.linux().security_context().namespace_options();
  if (namespaces.pid() == api::TARGET) {
    context.target_id = TRY(table_.FindContainer(namespaces.target_id()))->id;
  }
  context.image_mounts = TRY(ResolveImageMounts(config, id));
  std::vector<std::string> devices;
  for (const api::CDIDevice& device : config.cdi_devices()) devices.push_back(device.name());
  context.devices = TRY(ResolveCdiDevices(devices, deps_.cdi_dirs));
  context.overlay = TRY(deps_.images->CreateSnapshot(id, image->id));
  *spec = TRY(PlanContainer(config, context));
  spec->log.rotate_bytes = deps_.logs.rotate_bytes;
  spec->log.keep_files = deps_.logs.keep_files;

  auto container = std::make_shared<Container>();
  container->id = id;
  container->sandbox_id = sandbox->id;
  container->fixed = FixedStatus(config, *spec, *image);
  container->config_digest = runtime::Digest::OfBytes(config.SerializeAsString()).text();
  container->terminal = spec->terminal;
  container->stdin_open = spec->stdin_open;
  container->writable_dir = context.overlay.writable_dir;
  container->UpdateView([&](ContainerView& view) { view.resources = config.linux().resources(); });
  // What Recover reads.
  api::ContainerStatusResponse record;
  *record.mutable_status() = container->fixed;
  *record.mutable_status()->mutable_resources()->mutable_linux() = config.linux().resources();
  (*record.mutable_info())["configDigest"] = container->config_digest;
  spec->client_data = record.SerializeAsString();
  return container;
}

Result<> RuntimeService::CreateContainer(const api::CreateContainerRequest& request,
                                         api::CreateContainerResponse* response) {
  const SandboxPtr sandbox = TRY(table_.FindSandbox(request.pod_sandbox_id()));
  const api::ContainerMetadata& metadata = request.config().metadata();
  if (metadata.name().empty()) {
    return Error(Code::kInvalidArgument, "container metadata: the name must be set");
  }
  const std::string id = RandomHex(kIdBytes);
  const std::string key = ContainerKey(sandbox->id, metadata);
  if (auto reserved = table_.Reserve(key, id); !reserved.ok()) {
    const auto holder = table_.FindContainer(table_.Holder(key));
    if (holder.ok() && (*holder)->view().state == runtime::ContainerState::kCreated &&
        (*holder)->config_digest ==
            runtime::Digest::OfBytes(request.config().SerializeAsString()).text()) {
      response->set_container_id((*holder)->id);
      return {};
    }
    return std::move(reserved).error();
  }
  auto created = [&]() -> Result<ContainerPtr> {
    if (sandbox->view().state != runtime::SandboxState::kReady) {
      return Error(Code::kFailedPrecondition, "pod sandbox " + sandbox->id + " is not ready");
    }
    runtime::ContainerSpec spec;
    ContainerPtr container = TRY(Assemble(request, sandbox, id, &spec));
    if (const size_t slash = spec.log.path.rfind('/'); slash != std::string::npos && slash > 0) {
      TRY(MakeDirectories(spec.log.path.substr(0, slash), 0755));
    }
    for (const api::Mount& mount : request.config().mounts()) {
      // As Docker does: what is mounted and does not exist becomes a directory.
      const std::string& path = mount.host_path();
      if (!path.empty() && !PathExists(path)) TRY(MakeDirectories(path, 0755));
    }
    TRY(deps_.runtime->CreateContainer(spec));
    return container;
  }();
  if (!created.ok()) {
    (void)deps_.runtime->RemoveContainer(id);  // Recover removes what is left
    (void)DeleteSnapshots(id, request.config().mounts());
    table_.Release(key);
    return std::move(created).error();
  }
  Observe(**created);
  table_.Add(*created);
  Tell(*created, api::CONTAINER_CREATED_EVENT);
  if (!table_.FindSandbox(sandbox->id).ok()) {
    const std::lock_guard operation((*created)->operation);
    TRY(Discard(*created));
    return Error(Code::kNotFound, "pod sandbox " + sandbox->id + " was removed meanwhile");
  }
  response->set_container_id(id);
  return {};
}

Result<> RuntimeService::StartContainer(const api::StartContainerRequest& request,
                                        api::StartContainerResponse*) {
  const ContainerPtr container = TRY(table_.FindContainer(request.container_id()));
  std::unique_lock operation(container->operation);
  const auto state = container->view().state;
  if (state == runtime::ContainerState::kRunning) return {};
  if (state == runtime::ContainerState::kExited) {
    return Error(Code::kFailedPrecondition, "container " + container->id + " has exited");
  }
  auto started = deps_.runtime->StartContainer(container->id);
  Observe(*container);
  operation.unlock();
  if (started.ok()) Tell(container, api::CONTAINER_STARTED_EVENT);
  return started;
}

Result<> RuntimeService::StopContainer(const api::StopContainerRequest& request,
                                       api::StopContainerResponse*) {
  const auto found = table_.FindContainer(request.container_id());
  if (!found.ok()) {
    if (found.error().code() == Code::kNotFound) return {};
    return found.error();
  }
  // Not under the operation lock: a second call with a shorter grace must not wait for the first.
  const auto grace =
      std::chrono::seconds(std::clamp<int64_t>(request.timeout(), 0, kMaxGraceSeconds));
  TRY(deps_.runtime->StopContainer((*found)->id, grace));
  Observe(**found);
  // It may have ended because its pod was lost: who lists next sees that too.
  const auto sandbox = table_.FindSandbox((*found)->sandbox_id);
  if (sandbox.ok()) Observe(**sandbox);
  return {};
}

// Everything of the container. The caller holds its operation lock.
Result<> RuntimeService::Discard(const ContainerPtr& container) {
  if (!table_.FindContainer(container->id).ok()) return {};
  TRY(deps_.runtime->RemoveContainer(container->id));
  TRY(DeleteSnapshots(container->id, container->fixed.mounts()));
  stats_.Forget(container->id);
  container->UpdateView([](ContainerView& view) { view.state = runtime::ContainerState::kExited; });
  table_.RemoveContainer(container->id);
  Tell(container, api::CONTAINER_DELETED_EVENT);
  return {};
}

Result<> RuntimeService::RemoveContainer(const api::RemoveContainerRequest& request,
                                         api::RemoveContainerResponse*) {
  const auto found = table_.FindContainer(request.container_id());
  if (!found.ok()) {
    if (found.error().code() == Code::kNotFound) return {};
    return found.error();
  }
  const std::lock_guard operation((*found)->operation);
  return Discard(*found);
}

Result<> RuntimeService::ListContainers(const api::ListContainersRequest& request,
                                        api::ListContainersResponse* response) {
  for (const ContainerPtr& container : table_.Containers()) {
    api::Container item = RenderContainer(*container);
    if (Matches(request.filter(), item)) *response->add_containers() = std::move(item);
  }
  return {};
}

Result<> RuntimeService::ContainerStatus(const api::ContainerStatusRequest& request,
                                         api::ContainerStatusResponse* response) {
  const ContainerPtr container = TRY(table_.FindContainer(request.container_id()));
  *response->mutable_status() = RenderContainerStatus(*container);
  if (request.verbose()) (*response->mutable_info())["info"] = ContainerInfo(*container);
  return {};
}

Result<> RuntimeService::UpdateContainerResources(
    const api::UpdateContainerResourcesRequest& request, api::UpdateContainerResourcesResponse*) {
  const ContainerPtr container = TRY(table_.FindContainer(request.container_id()));
  const runtime::ResourceSpec resources = TRY(PlanResources(request.linux()));
  const std::lock_guard operation(container->operation);
  if (container->view().state == runtime::ContainerState::kExited) {
    return Error(Code::kFailedPrecondition, "container " + container->id + " has exited");
  }
  TRY(deps_.runtime->UpdateResources(container->id, resources));
  // 0 is what a caller says who has no opinion.
  if (const int64_t score = request.linux().oom_score_adj(); score != 0) {
    if (score < -1000 || score > 1000) {
      return Error(Code::kInvalidArgument, "resources: bad oom_score_adj");
    }
    TRY(deps_.runtime->SetOomScore(container->id, static_cast<int>(score)));
  }
  container->UpdateView([&](ContainerView& view) { view.resources.MergeFrom(request.linux()); });
  return {};
}

Result<> RuntimeService::ReopenContainerLog(const api::ReopenContainerLogRequest& request,
                                            api::ReopenContainerLogResponse*) {
  const ContainerPtr container = TRY(FindRunning(request.container_id()));
  return deps_.runtime->ReopenLog(container->id);
}

Result<> RuntimeService::CheckpointContainer(const api::CheckpointContainerRequest&,
                                             api::CheckpointContainerResponse*) {
  return Error(Code::kUnimplemented, "checkpointing needs criu, which this runtime does not use");
}

Result<> RuntimeService::ExecSync(const api::ExecSyncRequest& request,
                                  api::ExecSyncResponse* response, std::stop_token stop) {
  const ContainerPtr container = TRY(FindRunning(request.container_id()));
  if (request.cmd_size() == 0) return Error(Code::kInvalidArgument, "exec: no command");
  runtime::ExecSpec spec;
  spec.container_id = container->id;
  spec.argv.assign(request.cmd().begin(), request.cmd().end());
  const auto timeout =
      std::chrono::seconds(std::clamp<int64_t>(request.timeout(), 0, kMaxGraceSeconds));
  runtime::ExecOutput output = TRY(deps_.runtime->ExecSync(
      spec, {.timeout = timeout, .limit_bytes = kExecOutputBytes, .stop = std::move(stop)}));
  if (output.out.size() + output.err.size() > kExecOutputBytes) {
    output.err.resize(kExecOutputBytes - output.out.size());
  }
  response->set_stdout(std::move(output.out));
  response->set_stderr(std::move(output.err));
  response->set_exit_code(output.status.ShellCode());
  return {};
}

Result<> RuntimeService::Exec(const api::ExecRequest& request, api::ExecResponse* response) {
  const ContainerPtr container = TRY(FindRunning(request.container_id()));
  if (request.cmd_size() == 0) return Error(Code::kInvalidArgument, "exec: no command");
  if (request.tty() && request.stderr()) {
    return Error(Code::kInvalidArgument, "exec: with a terminal there is no stderr");
  }
  if (!request.stdin() && !request.stdout() && !request.stderr()) {
    return Error(Code::kInvalidArgument, "exec: one of stdin, stdout, stderr must be set");
  }
  runtime::ExecSpec spec;
  spec.container_id = container->id;
  spec.argv.assign(request.cmd().begin(), request.cmd().end());
  spec.terminal = request.tty();
  response->set_url(deps_.streaming->OfferExec(
      std::move(spec), {request.stdin(), request.stdout(), request.stderr(), request.tty()}));
  return {};
}

Result<> RuntimeService::Attach(const api::AttachRequest& request, api::AttachResponse* response) {
  const ContainerPtr container = TRY(FindRunning(request.container_id()));
  if (request.tty() && request.stderr()) {
    return Error(Code::kInvalidArgument, "attach: with a terminal there is no stderr");
  }
  if (!request.stdin() && !request.stdout() && !request.stderr()) {
    return Error(Code::kInvalidArgument, "attach: one of stdin, stdout, stderr must be set");
  }
  response->set_url(deps_.streaming->OfferAttach(
      container->id, {request.stdin(), request.stdout(), request.stderr(), request.tty()},
      container->stdin_open));
  return {};
}

}  // namespace skiff::cri
