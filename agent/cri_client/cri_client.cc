#include "agent/cri_client/cri_client.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <charconv>
#include <mutex>
#include <set>

#include "agent/cri_client/stubs.h"
#include "base/grpc/status.h"

namespace skiff::agent {
namespace {

namespace cri = ::runtime::v1;
using std::chrono::minutes;
using std::chrono::seconds;

// As kubelet's --runtime-request-timeout; sandboxes get four minutes (image pull of the network's
// set-up included).
constexpr seconds kDeadline{120};
constexpr seconds kSandboxDeadline{240};
// Of one pull attempt; progress is the runtime's business.
constexpr minutes kPullDeadline{60};

// One unary call with its deadline.
template <class Response, class Stub, class Request>
Result<Response> Call(Stub& stub,
                      grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                      const Request& request, std::chrono::milliseconds deadline = kDeadline) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + deadline);
  Response response;
  grpc::Status status = (stub.*method)(&context, request, &response);
  if (!status.ok()) return FromGrpcStatus(status);
  return response;
}

template <class T>
Result<> GoneIsFine(const Result<T>& result) {
  if (result.ok() || result.error().code() == Code::kNotFound) return {};
  return result.error();
}

WallTime TimeOf(int64_t nanoseconds) {
  return WallTime(std::chrono::duration_cast<WallTime::duration>(
      std::chrono::nanoseconds(std::max<int64_t>(nanoseconds, 0))));
}

template <class Map>
std::string Lookup(const Map& map, const char* key) {
  auto found = map.find(key);
  return found == map.end() ? std::string() : found->second;
}

ContainerPhase PhaseOf(cri::ContainerState state) {
  switch (state) {
    case cri::CONTAINER_CREATED: return ContainerPhase::kCreated;
    case cri::CONTAINER_RUNNING: return ContainerPhase::kRunning;
    case cri::CONTAINER_EXITED: return ContainerPhase::kExited;
    default: return ContainerPhase::kUnknown;
  }
}

ObservedContainer Translate(const cri::ContainerStatus& status, const std::string& sandbox_id) {
  ObservedContainer container;
  container.id = status.id();
  container.sandbox_id = sandbox_id;
  container.name = status.metadata().name();
  container.attempt = status.metadata().attempt();
  container.phase = PhaseOf(status.state());
  container.exit_code = status.exit_code();
  container.reason = status.reason();
  container.message = status.message();
  container.created_at = TimeOf(status.created_at());
  container.started_at = TimeOf(status.started_at());
  container.finished_at = TimeOf(status.finished_at());
  container.image = status.image().user_specified_image().empty()
                        ? status.image().image()
                        : status.image().user_specified_image();
  container.image_ref = status.image_ref();
  container.spec_hash = Lookup(status.annotations(), labels::kContainerHash);
  container.log_path = status.log_path();
  container.termination_message_path = Lookup(status.annotations(), labels::kMessagePath);
  container.termination_message_policy = Lookup(status.annotations(), labels::kMessagePolicy);
  return container;
}

ObservedSandbox Translate(const cri::PodSandboxStatus& status) {
  ObservedSandbox sandbox;
  sandbox.id = status.id();
  sandbox.attempt = status.metadata().attempt();
  sandbox.ready = status.state() == cri::SANDBOX_READY;
  sandbox.created_at = TimeOf(status.created_at());
  if (!status.network().ip().empty()) sandbox.ips.push_back(status.network().ip());
  for (const auto& ip : status.network().additional_ips()) sandbox.ips.push_back(ip.ip());
  return sandbox;
}

ImageInfo Translate(const cri::Image& image) {
  ImageInfo info;
  info.id = image.id();
  info.size_bytes = image.size();
  if (image.has_uid()) info.uid = image.uid().value();
  info.username = image.username();
  info.names.assign(image.repo_digests().begin(), image.repo_digests().end());
  info.names.insert(info.names.end(), image.repo_tags().begin(), image.repo_tags().end());
  return info;
}

cri::AuthConfig Translate(const RegistryAuth& auth) {
  cri::AuthConfig config;
  config.set_username(auth.username);
  config.set_password(auth.password);
  config.set_auth(auth.auth);
  config.set_server_address(auth.server_address);
  config.set_identity_token(auth.identity_token);
  config.set_registry_token(auth.registry_token);
  return config;
}

}  // namespace

struct CriClient::State {
  using Runtime = cri::RuntimeService::StubInterface;
  using Images = cri::ImageService::StubInterface;
  std::shared_ptr<CriStubs> stubs;
  std::mutex mutex;
  grpc::ClientContext* watch = nullptr;  // of the running WatchEvents
  bool watch_cancelled = false;

  Runtime& runtime() { return *stubs->runtime; }
  Images& images() { return *stubs->images; }
};

std::shared_ptr<CriStubs> DialCri(const std::string& endpoint) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(16 << 20);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  auto channel = grpc::CreateCustomChannel(endpoint, grpc::InsecureChannelCredentials(), arguments);
  auto stubs = std::make_shared<CriStubs>();
  stubs->runtime = cri::RuntimeService::NewStub(channel);
  stubs->images = cri::ImageService::NewStub(channel);
  return stubs;
}

CriClient::CriClient(std::shared_ptr<CriStubs> stubs) : state_(std::make_unique<State>()) {
  state_->stubs = std::move(stubs);
}
CriClient::~CriClient() = default;

Result<RuntimeVersion> CriClient::Version() {
  cri::VersionRequest request;
  request.set_version("v1");
  auto response = TRY(Call(state_->runtime(), &State::Runtime::Version, request));
  return RuntimeVersion{response.runtime_name(), response.runtime_version()};
}

Result<RuntimeStatus> CriClient::Status() {
  auto response = TRY(Call(state_->runtime(), &State::Runtime::Status, cri::StatusRequest()));
  RuntimeStatus status;
  for (const auto& condition : response.status().conditions()) {
    status.conditions.push_back(
        {condition.type(), condition.status(), condition.reason(), condition.message()});
  }
  for (const auto& handler : response.runtime_handlers()) {
    status.handlers.push_back({handler.name(), handler.features().user_namespaces(),
                               handler.features().recursive_read_only_mounts()});
  }
  status.supplemental_groups_policy = response.features().supplemental_groups_policy();
  return status;
}

Result<std::vector<PodIdentity>> CriClient::ListPods() {
  std::set<PodIdentity> pods;
  auto sandboxes =
      TRY(Call(state_->runtime(), &State::Runtime::ListPodSandbox, cri::ListPodSandboxRequest()));
  for (const auto& sandbox : sandboxes.items()) {
    const auto& metadata = sandbox.metadata();
    // Sandboxes of crictl carry no pod labels: they are not ours to judge.
    if (!sandbox.labels().contains(labels::kPodUid)) continue;
    pods.insert({metadata.uid(), metadata.namespace_(), metadata.name()});
  }
  auto containers =
      TRY(Call(state_->runtime(), &State::Runtime::ListContainers, cri::ListContainersRequest()));
  for (const auto& container : containers.containers()) {
    std::string uid = Lookup(container.labels(), labels::kPodUid);
    if (uid.empty()) continue;
    pods.insert({uid, Lookup(container.labels(), labels::kPodNamespace),
                 Lookup(container.labels(), labels::kPodName)});
  }
  return std::vector<PodIdentity>(pods.begin(), pods.end());
}

Result<ObservedPod> CriClient::Observe(const std::string& pod_uid) {
  ObservedPod pod;
  cri::ListPodSandboxRequest list_sandboxes;
  (*list_sandboxes.mutable_filter()->mutable_label_selector())[labels::kPodUid] = pod_uid;
  auto sandboxes = TRY(Call(state_->runtime(), &State::Runtime::ListPodSandbox, list_sandboxes));
  for (const auto& item : sandboxes.items()) {
    cri::PodSandboxStatusRequest request;
    request.set_pod_sandbox_id(item.id());
    auto status = Call(state_->runtime(), &State::Runtime::PodSandboxStatus, request);
    if (!status.ok() && status.error().code() == Code::kNotFound) continue;  // just removed
    if (!status.ok()) return std::move(status).error();
    pod.sandboxes.push_back(Translate(status->status()));
  }
  cri::ListContainersRequest list_containers;
  (*list_containers.mutable_filter()->mutable_label_selector())[labels::kPodUid] = pod_uid;
  auto containers = TRY(Call(state_->runtime(), &State::Runtime::ListContainers, list_containers));
  for (const auto& item : containers.containers()) {
    cri::ContainerStatusRequest request;
    request.set_container_id(item.id());
    auto status = Call(state_->runtime(), &State::Runtime::ContainerStatus, request);
    if (!status.ok() && status.error().code() == Code::kNotFound) continue;
    if (!status.ok()) return std::move(status).error();
    pod.containers.push_back(Translate(status->status(), item.pod_sandbox_id()));
  }
  std::stable_sort(pod.sandboxes.begin(), pod.sandboxes.end(), [](const auto& a, const auto& b) {
    return std::pair(a.attempt, a.created_at) > std::pair(b.attempt, b.created_at);
  });
  std::stable_sort(pod.containers.begin(), pod.containers.end(), [](const auto& a, const auto& b) {
    return std::pair(a.attempt, a.created_at) > std::pair(b.attempt, b.created_at);
  });
  return pod;
}

Result<std::map<std::string, std::string>> CriClient::Fingerprints() {
  std::map<std::string, std::string> fingerprints;
  auto sandboxes =
      TRY(Call(state_->runtime(), &State::Runtime::ListPodSandbox, cri::ListPodSandboxRequest()));
  for (const auto& sandbox : sandboxes.items()) {
    fingerprints[sandbox.metadata().uid()] +=
        sandbox.id() + "=" + std::to_string(sandbox.state()) + ";";
  }
  auto containers =
      TRY(Call(state_->runtime(), &State::Runtime::ListContainers, cri::ListContainersRequest()));
  for (const auto& container : containers.containers()) {
    fingerprints[Lookup(container.labels(), labels::kPodUid)] +=
        container.id() + "=" + std::to_string(container.state()) + ";";
  }
  return fingerprints;
}

Result<std::string> CriClient::RunSandbox(const cri::PodSandboxConfig& config,
                                          const std::string& handler) {
  cri::RunPodSandboxRequest request;
  *request.mutable_config() = config;
  request.set_runtime_handler(handler);
  auto response =
      TRY(Call(state_->runtime(), &State::Runtime::RunPodSandbox, request, kSandboxDeadline));
  return response.pod_sandbox_id();
}

Result<> CriClient::StopSandbox(const std::string& id) {
  cri::StopPodSandboxRequest request;
  request.set_pod_sandbox_id(id);
  return GoneIsFine(
      Call(state_->runtime(), &State::Runtime::StopPodSandbox, request, kSandboxDeadline));
}

Result<> CriClient::RemoveSandbox(const std::string& id) {
  cri::RemovePodSandboxRequest request;
  request.set_pod_sandbox_id(id);
  return GoneIsFine(Call(state_->runtime(), &State::Runtime::RemovePodSandbox, request));
}

Result<std::string> CriClient::CreateContainer(const std::string& sandbox_id,
                                               const cri::ContainerConfig& config,
                                               const cri::PodSandboxConfig& sandbox_config) {
  cri::CreateContainerRequest request;
  request.set_pod_sandbox_id(sandbox_id);
  *request.mutable_config() = config;
  *request.mutable_sandbox_config() = sandbox_config;
  auto response = TRY(Call(state_->runtime(), &State::Runtime::CreateContainer, request));
  return response.container_id();
}

Result<> CriClient::StartContainer(const std::string& id) {
  cri::StartContainerRequest request;
  request.set_container_id(id);
  (void)TRY(Call(state_->runtime(), &State::Runtime::StartContainer, request));
  return {};
}

Result<> CriClient::StopContainer(const std::string& id, seconds grace) {
  cri::StopContainerRequest request;
  request.set_container_id(id);
  request.set_timeout(grace.count());
  return GoneIsFine(
      Call(state_->runtime(), &State::Runtime::StopContainer, request, grace + kDeadline));
}

Result<> CriClient::RemoveContainer(const std::string& id) {
  cri::RemoveContainerRequest request;
  request.set_container_id(id);
  return GoneIsFine(Call(state_->runtime(), &State::Runtime::RemoveContainer, request));
}

Result<std::optional<ImageInfo>> CriClient::FindImage(const std::string& image) {
  cri::ImageStatusRequest request;
  request.mutable_image()->set_image(image);
  auto response = Call(state_->images(), &State::Images::ImageStatus, request);
  if (!response.ok() && response.error().code() == Code::kNotFound) {
    return std::optional<ImageInfo>();
  }
  if (!response.ok()) return std::move(response).error();
  if (!response->has_image()) return std::optional<ImageInfo>();
  return std::optional<ImageInfo>(Translate(response->image()));
}

Result<std::string> CriClient::PullImage(const std::string& image,
                                         const std::vector<RegistryAuth>& auths,
                                         const cri::PodSandboxConfig& sandbox_config) {
  cri::PullImageRequest request;
  request.mutable_image()->set_image(image);
  request.mutable_image()->set_user_specified_image(image);
  *request.mutable_sandbox_config() = sandbox_config;
  if (auths.empty()) {
    auto response = TRY(Call(state_->images(), &State::Images::PullImage, request, kPullDeadline));
    return response.image_ref();
  }
  std::optional<Error> last;
  for (const RegistryAuth& auth : auths) {
    *request.mutable_auth() = Translate(auth);
    auto response = Call(state_->images(), &State::Images::PullImage, request, kPullDeadline);
    if (response.ok()) return response->image_ref();
    last = std::move(response).error();
  }
  return *std::move(last);
}

Result<std::vector<ImageInfo>> CriClient::ListImages() {
  auto response = TRY(Call(state_->images(), &State::Images::ListImages, cri::ListImagesRequest()));
  std::vector<ImageInfo> images;
  for (const auto& image : response.images()) images.push_back(Translate(image));
  return images;
}

Result<uint64_t> CriClient::ImageBytes() {
  auto response =
      TRY(Call(state_->images(), &State::Images::ImageFsInfo, cri::ImageFsInfoRequest()));
  uint64_t bytes = 0;
  for (const auto& usage : response.image_filesystems()) bytes += usage.used_bytes().value();
  return bytes;
}

Result<ExecOutput> CriClient::ExecSync(const std::string& container_id,
                                       const std::vector<std::string>& command, seconds timeout) {
  cri::ExecSyncRequest request;
  request.set_container_id(container_id);
  request.mutable_cmd()->Add(command.begin(), command.end());
  request.set_timeout(timeout.count());
  // The runtime enforces the timeout; ours only guards against a runtime that does not answer.
  auto response =
      TRY(Call(state_->runtime(), &State::Runtime::ExecSync, request, timeout + seconds(10)));
  return ExecOutput{response.stdout(), response.stderr(), response.exit_code()};
}

Result<std::string> CriClient::StreamingUrl(const ExecWish& wish) {
  if (wish.command.empty()) {
    cri::AttachRequest request;
    request.set_container_id(wish.container_id);
    request.set_stdin(wish.in);
    request.set_stdout(wish.out);
    request.set_stderr(wish.err);
    request.set_tty(wish.tty);
    return TRY(Call(state_->runtime(), &State::Runtime::Attach, request)).url();
  }
  cri::ExecRequest request;
  request.set_container_id(wish.container_id);
  request.mutable_cmd()->Add(wish.command.begin(), wish.command.end());
  request.set_stdin(wish.in);
  request.set_stdout(wish.out);
  request.set_stderr(wish.err);
  request.set_tty(wish.tty);
  return TRY(Call(state_->runtime(), &State::Runtime::Exec, request)).url();
}

Result<std::string> CriClient::PortForwardUrl(const std::string& sandbox_id,
                                              const std::vector<int>& ports) {
  cri::PortForwardRequest request;
  request.set_pod_sandbox_id(sandbox_id);
  for (int port : ports) request.add_port(port);
  return TRY(Call(state_->runtime(), &State::Runtime::PortForward, request)).url();
}

Result<> CriClient::ReopenLog(const std::string& container_id) {
  cri::ReopenContainerLogRequest request;
  request.set_container_id(container_id);
  (void)TRY(Call(state_->runtime(), &State::Runtime::ReopenContainerLog, request));
  return {};
}

Result<> CriClient::WatchEvents(const std::function<void()>& on_open,
                                const std::function<void(const std::string&)>& on_event) {
  grpc::ClientContext context;
  {
    std::lock_guard lock(state_->mutex);
    if (state_->watch_cancelled) return Error(Code::kCancelled, "the watch is cancelled");
    state_->watch = &context;
  }
  auto reader = state_->runtime().GetContainerEvents(&context, cri::GetEventsRequest());
  on_open();
  cri::ContainerEventResponse event;
  while (reader->Read(&event)) {
    const std::string& uid = event.pod_sandbox_status().metadata().uid();
    if (!uid.empty()) on_event(uid);
  }
  grpc::Status status = reader->Finish();
  std::lock_guard lock(state_->mutex);
  state_->watch = nullptr;
  if (!status.ok()) return FromGrpcStatus(status);
  return {};
}

void CriClient::CancelWatch() {
  std::lock_guard lock(state_->mutex);
  state_->watch_cancelled = true;
  if (state_->watch != nullptr) state_->watch->TryCancel();
}

}  // namespace skiff::agent
