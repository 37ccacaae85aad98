#include "tests/bench/cri_pods.h"

#include <mutex>
#include <utility>

#include "base/random.h"
#include "proto/cri/runtime/v1/api.pb.h"
#include "tests/bench/light_client.h"

namespace skiff::bench {
namespace {

namespace v1 = runtime::v1;
using Clock = std::chrono::steady_clock;

constexpr const char* kRuntime = "/runtime.v1.RuntimeService/";
constexpr const char* kImages = "/runtime.v1.ImageService/";
constexpr const char* kLabel = "skiff-cri-bench";

double Since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

}  // namespace

class CriPods::Impl {
 public:
  explicit Impl(CriPodsOptions options) : options_(std::move(options)) {}

  Result<> Prepare() {
    v1::ImageStatusRequest status;
    status.mutable_image()->set_image(options_.image);
    v1::ImageStatusResponse known;
    TRY(Call(kImages, "ImageStatus", status, &known));
    if (!known.has_image()) {
      v1::PullImageRequest pull;
      pull.mutable_image()->set_image(options_.image);
      v1::PullImageResponse pulled;
      TRY(Call(kImages, "PullImage", pull, &pulled));
    }
    v1::ListPodSandboxRequest list;
    (*list.mutable_filter()->mutable_label_selector())[kLabel] = "true";
    v1::ListPodSandboxResponse left;
    TRY(Call(kRuntime, "ListPodSandbox", list, &left));
    Times times;
    for (const v1::PodSandbox& pod : left.items()) TRY(RemoveSandbox(pod.id(), times));
    return {};
  }

  Result<Pod> Up(Times& times) {
    const v1::PodSandboxConfig config = SandboxConfig();
    const auto start = Clock::now();
    v1::RunPodSandboxRequest request;
    *request.mutable_config() = config;
    request.set_runtime_handler(options_.runtime_handler);
    v1::RunPodSandboxResponse response;
    TRY(Timed(times, "RunPodSandbox", request, &response));
    Pod pod{response.pod_sandbox_id(), ""};
    Result<> started = StartContainer(config, pod, times);
    times["pod up"] = Since(start);
    if (!started.ok()) {
      Times ignored;
      (void)RemoveSandbox(pod.sandbox, ignored);  // the first failure is the one to tell
      return std::move(started).error();
    }
    return pod;
  }

  Result<> Exec(const Pod& pod, Times& times) {
    v1::ExecSyncRequest request;
    request.set_container_id(pod.container);
    request.add_cmd("true");
    request.set_timeout(30);
    v1::ExecSyncResponse response;
    TRY(Timed(times, "ExecSync", request, &response));
    if (response.exit_code() == 0) return {};
    return Error(Code::kInternal, "ExecSync: exit code " + std::to_string(response.exit_code()));
  }

  Result<> Down(const Pod& pod, Times& times) {
    const auto start = Clock::now();
    v1::StopContainerRequest request;
    request.set_container_id(pod.container);
    v1::StopContainerResponse response;
    TRY(Timed(times, "StopContainer", request, &response));
    TRY(RemoveSandbox(pod.sandbox, times));
    times["pod down"] = Since(start);
    return {};
  }

 private:
  using Message = google::protobuf::MessageLite;

  // By a connection that no other call uses now, or a new one.
  Result<> Call(const char* service, const std::string& name, const Message& request,
                Message* response) {
    auto client = TRY(TakeClient());
    Result<> done = client->Call(service + name, request, response);
    if (!done.ok()) return Error(done.error().code(), name + ": " + done.error().message());
    std::lock_guard lock(mutex_);
    idle_.push_back(std::move(client));
    return {};
  }

  Result<std::unique_ptr<LightClient>> TakeClient() {
    {
      std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        auto client = std::move(idle_.back());
        idle_.pop_back();
        return client;
      }
    }
    return LightClient::Connect(options_.endpoint);
  }

  Result<> Timed(Times& times, const char* name, const Message& request, Message* response) {
    const auto start = Clock::now();
    TRY(Call(kRuntime, name, request, response));
    times[name] = Since(start);
    return {};
  }

  v1::PodSandboxConfig SandboxConfig() const {
    v1::PodSandboxConfig config;
    std::string name = "bench-" + RandomHex(6);
    auto& metadata = *config.mutable_metadata();
    metadata.set_name(name);
    metadata.set_namespace_("bench");
    metadata.set_uid(RandomUuid());
    (*config.mutable_labels())[kLabel] = "true";
    config.set_log_directory(options_.log_directory + "/" + name);
    auto& linux_config = *config.mutable_linux();
    linux_config.set_cgroup_parent(options_.cgroup_parent);
    if (options_.host_network) {
      linux_config.mutable_security_context()->mutable_namespace_options()->set_network(v1::NODE);
    } else {
      config.set_hostname(name);
    }
    return config;
  }

  Result<> StartContainer(const v1::PodSandboxConfig& sandbox_config, Pod& pod, Times& times) {
    v1::CreateContainerRequest create;
    create.set_pod_sandbox_id(pod.sandbox);
    *create.mutable_sandbox_config() = sandbox_config;
    auto& config = *create.mutable_config();
    config.mutable_metadata()->set_name("main");
    config.mutable_image()->set_image(options_.image);
    for (const std::string& word : options_.command) config.add_command(word);
    config.set_log_path("main.log");
    config.mutable_linux();
    v1::CreateContainerResponse created;
    TRY(Timed(times, "CreateContainer", create, &created));
    pod.container = created.container_id();

    v1::StartContainerRequest request;
    request.set_container_id(pod.container);
    v1::StartContainerResponse response;
    TRY(Timed(times, "StartContainer", request, &response));
    v1::ContainerStatusRequest ask;
    ask.set_container_id(pod.container);
    v1::ContainerStatusResponse status;
    TRY(Timed(times, "ContainerStatus", ask, &status));
    if (status.status().state() == v1::CONTAINER_RUNNING) return {};
    return Error(Code::kInternal, "container is not running after StartContainer: " +
                                      v1::ContainerState_Name(status.status().state()) + " " +
                                      status.status().reason() + " " + status.status().message());
  }

  Result<> RemoveSandbox(const std::string& sandbox, Times& times) {
    v1::StopPodSandboxRequest stop;
    stop.set_pod_sandbox_id(sandbox);
    v1::StopPodSandboxResponse stopped;
    TRY(Timed(times, "StopPodSandbox", stop, &stopped));
    v1::RemovePodSandboxRequest remove;
    remove.set_pod_sandbox_id(sandbox);
    v1::RemovePodSandboxResponse removed;
    return Timed(times, "RemovePodSandbox", remove, &removed);
  }

  const CriPodsOptions options_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<LightClient>> idle_;
};

CriPods::CriPods(CriPodsOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
CriPods::~CriPods() = default;

Result<> CriPods::Prepare() { return impl_->Prepare(); }
Result<CriPods::Pod> CriPods::Up(Times& times) { return impl_->Up(times); }
Result<> CriPods::Exec(const Pod& pod, Times& times) { return impl_->Exec(pod, times); }
Result<> CriPods::Down(const Pod& pod, Times& times) { return impl_->Down(pod, times); }

}  // namespace skiff::bench
