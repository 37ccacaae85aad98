#include "agent/testing/fake_cri.h"

#include <algorithm>
#include <cstdlib>

#include "agent/testing/unimplemented_stubs.h"

namespace skiff::agent::testing {
namespace {

namespace cri = ::runtime::v1;

template <class Filter, class Labels>
bool Matches(const Filter& filter, const Labels& labels) {
  for (const auto& [key, value] : filter.label_selector()) {
    auto found = labels.find(key);
    if (found == labels.end() || found->second != value) return false;
  }
  return true;
}

grpc::Status NotFound(const std::string& what) {
  return grpc::Status(grpc::StatusCode::NOT_FOUND, what + " not found");
}

}  // namespace

class FakeRuntimeStub : public UnimplementedRuntimeStub {
 public:
  explicit FakeRuntimeStub(FakeCri& fake) : fake_(fake) {}

  grpc::Status Version(grpc::ClientContext*, const cri::VersionRequest&,
                       cri::VersionResponse* response) override {
    response->set_runtime_name("fake");
    response->set_runtime_version("1.0.0");
    response->set_runtime_api_version("v1");
    return grpc::Status::OK;
  }

  grpc::Status Status(grpc::ClientContext*, const cri::StatusRequest&,
                      cri::StatusResponse* response) override {
    for (const char* type : {"RuntimeReady", "NetworkReady"}) {
      auto* condition = response->mutable_status()->add_conditions();
      condition->set_type(type);
      condition->set_status(true);
    }
    for (const char* name : {"", "mapping"}) {
      auto* handler = response->add_runtime_handlers();
      handler->set_name(name);
      handler->mutable_features()->set_user_namespaces(*name != '\0');
    }
    return grpc::Status::OK;
  }

  grpc::Status RunPodSandbox(grpc::ClientContext*, const cri::RunPodSandboxRequest& request,
                             cri::RunPodSandboxResponse* response) override {
    const auto& config = request.config();
    grpc::Status status = fake_.Enter("RunPodSandbox", config.metadata().name());
    if (!status.ok()) return status;
    {
      std::lock_guard lock(fake_.mutex_);
      for (const auto& sandbox : fake_.sandboxes_) {
        const auto& metadata = sandbox.config.metadata();
        if (metadata.uid() == config.metadata().uid() &&
            metadata.attempt() == config.metadata().attempt()) {
          return grpc::Status(grpc::StatusCode::ALREADY_EXISTS, "name is reserved");
        }
      }
      int number = fake_.next_id_++;
      FakeCri::Sandbox sandbox;
      sandbox.id = "sandbox" + std::to_string(number);
      sandbox.config = config;
      sandbox.handler = request.runtime_handler();
      sandbox.created_at = fake_.NowNanos();
      const auto& options = config.linux().security_context().namespace_options();
      if (options.network() != cri::NODE) sandbox.ip = "10.88.0." + std::to_string(number + 1);
      response->set_pod_sandbox_id(sandbox.id);
      fake_.sandboxes_.push_back(std::move(sandbox));
    }
    fake_.Changed(response->pod_sandbox_id());
    return grpc::Status::OK;
  }

  grpc::Status StopPodSandbox(grpc::ClientContext*, const cri::StopPodSandboxRequest& request,
                              cri::StopPodSandboxResponse*) override {
    grpc::Status status = fake_.Enter("StopPodSandbox", request.pod_sandbox_id());
    if (!status.ok()) return status;
    {
      std::lock_guard lock(fake_.mutex_);
      FakeCri::Sandbox* sandbox = fake_.FindSandbox(request.pod_sandbox_id());
      if (sandbox == nullptr) return grpc::Status::OK;
      for (auto& container : fake_.containers_) {
        if (container.sandbox_id == sandbox->id) fake_.StopLocked(container, 137, "Error");
      }
      sandbox->ready = false;
      sandbox->ip.clear();
    }
    fake_.Changed(request.pod_sandbox_id());
    return grpc::Status::OK;
  }

  grpc::Status RemovePodSandbox(grpc::ClientContext*, const cri::RemovePodSandboxRequest& request,
                                cri::RemovePodSandboxResponse*) override {
    grpc::Status status = fake_.Enter("RemovePodSandbox", request.pod_sandbox_id());
    if (!status.ok()) return status;
    std::lock_guard lock(fake_.mutex_);
    const std::string& id = request.pod_sandbox_id();
    std::erase_if(fake_.containers_, [&](const auto& c) { return c.sandbox_id == id; });
    std::erase_if(fake_.sandboxes_, [&](const auto& s) { return s.id == id; });
    return grpc::Status::OK;
  }

  grpc::Status PodSandboxStatus(grpc::ClientContext*, const cri::PodSandboxStatusRequest& request,
                                cri::PodSandboxStatusResponse* response) override {
    std::lock_guard lock(fake_.mutex_);
    const FakeCri::Sandbox* sandbox = fake_.FindSandbox(request.pod_sandbox_id());
    if (sandbox == nullptr) return NotFound(request.pod_sandbox_id());
    *response->mutable_status() = fake_.StatusOf(*sandbox);
    return grpc::Status::OK;
  }

  grpc::Status ListPodSandbox(grpc::ClientContext*, const cri::ListPodSandboxRequest& request,
                              cri::ListPodSandboxResponse* response) override {
    grpc::Status status = fake_.Enter("ListPodSandbox", "");
    if (!status.ok()) return status;
    std::lock_guard lock(fake_.mutex_);
    for (const auto& sandbox : fake_.sandboxes_) {
      if (!Matches(request.filter(), sandbox.config.labels())) continue;
      auto* item = response->add_items();
      item->set_id(sandbox.id);
      *item->mutable_metadata() = sandbox.config.metadata();
      *item->mutable_labels() = sandbox.config.labels();
      item->set_state(sandbox.ready ? cri::SANDBOX_READY : cri::SANDBOX_NOTREADY);
      item->set_created_at(sandbox.created_at);
    }
    return grpc::Status::OK;
  }

  grpc::Status CreateContainer(grpc::ClientContext*, const cri::CreateContainerRequest& request,
                               cri::CreateContainerResponse* response) override {
    const auto& config = request.config();
    grpc::Status status = fake_.Enter("CreateContainer", config.metadata().name());
    if (!status.ok()) return status;
    {
      std::lock_guard lock(fake_.mutex_);
      const FakeCri::Sandbox* sandbox = fake_.FindSandbox(request.pod_sandbox_id());
      if (sandbox == nullptr) return NotFound(request.pod_sandbox_id());
      if (!sandbox->ready) {
        return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "sandbox is not ready");
      }
      for (const auto& other : fake_.containers_) {
        if (other.sandbox_id == sandbox->id &&
            other.config.metadata().name() == config.metadata().name() &&
            other.config.metadata().attempt() == config.metadata().attempt()) {
          return grpc::Status(grpc::StatusCode::ALREADY_EXISTS, "name is reserved");
        }
      }
      auto image = std::find_if(fake_.images_.begin(), fake_.images_.end(), [&](const auto& entry) {
        return entry.first == config.image().image() || entry.second.id() == config.image().image();
      });
      if (image == fake_.images_.end()) return NotFound("image " + config.image().image());
      FakeCri::Container container;
      container.id = "container" + std::to_string(fake_.next_id_++);
      container.sandbox_id = sandbox->id;
      container.config = config;
      container.created_at = fake_.NowNanos();
      container.image_ref = image->second.id();
      response->set_container_id(container.id);
      fake_.containers_.push_back(std::move(container));
    }
    fake_.Changed(request.pod_sandbox_id());
    return grpc::Status::OK;
  }

  grpc::Status StartContainer(grpc::ClientContext*, const cri::StartContainerRequest& request,
                              cri::StartContainerResponse*) override {
    std::string sandbox_id;
    std::string name;
    {
      std::lock_guard lock(fake_.mutex_);
      FakeCri::Container* container = fake_.FindContainer(request.container_id());
      if (container == nullptr) return NotFound(request.container_id());
      name = container->config.metadata().name();
    }
    grpc::Status status = fake_.Enter("StartContainer", name);
    {
      std::lock_guard lock(fake_.mutex_);
      FakeCri::Container* container = fake_.FindContainer(request.container_id());
      sandbox_id = container->sandbox_id;
      if (!status.ok()) {
        // Runtimes leave a failed start as an exited container.
        container->started_at = fake_.NowNanos();
        container->state = cri::CONTAINER_RUNNING;
        fake_.StopLocked(*container, 128, "StartError");
        container->message = status.error_message();
      } else if (container->state != cri::CONTAINER_CREATED) {
        return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "container is not created");
      } else {
        container->state = cri::CONTAINER_RUNNING;
        container->started_at = fake_.NowNanos();
      }
    }
    fake_.Changed(sandbox_id);
    return status;
  }

  grpc::Status StopContainer(grpc::ClientContext*, const cri::StopContainerRequest& request,
                             cri::StopContainerResponse*) override {
    std::string sandbox_id;
    std::string about = request.container_id();
    {
      std::lock_guard lock(fake_.mutex_);
      FakeCri::Container* container = fake_.FindContainer(request.container_id());
      if (container != nullptr) about = container->config.metadata().name();
    }
    grpc::Status status =
        fake_.Enter("StopContainer", about + " " + std::to_string(request.timeout()));
    if (!status.ok()) return status;
    {
      std::lock_guard lock(fake_.mutex_);
      FakeCri::Container* container = fake_.FindContainer(request.container_id());
      if (container == nullptr) return grpc::Status::OK;
      sandbox_id = container->sandbox_id;
      fake_.StopLocked(*container, request.timeout() > 0 ? 143 : 137, "Error");
    }
    fake_.Changed(sandbox_id);
    return grpc::Status::OK;
  }

  grpc::Status RemoveContainer(grpc::ClientContext*, const cri::RemoveContainerRequest& request,
                               cri::RemoveContainerResponse*) override {
    grpc::Status status = fake_.Enter("RemoveContainer", request.container_id());
    if (!status.ok()) return status;
    std::string sandbox_id;
    {
      std::lock_guard lock(fake_.mutex_);
      FakeCri::Container* container = fake_.FindContainer(request.container_id());
      if (container == nullptr) return grpc::Status::OK;
      sandbox_id = container->sandbox_id;
      std::erase_if(fake_.containers_,
                    [&](const auto& c) { return c.id == request.container_id(); });
    }
    fake_.Changed(sandbox_id);
    return grpc::Status::OK;
  }

  grpc::Status ListContainers(grpc::ClientContext*, const cri::ListContainersRequest& request,
                              cri::ListContainersResponse* response) override {
    std::lock_guard lock(fake_.mutex_);
    for (const auto& container : fake_.containers_) {
      if (!Matches(request.filter(), container.config.labels())) continue;
      auto* item = response->add_containers();
      item->set_id(container.id);
      item->set_pod_sandbox_id(container.sandbox_id);
      *item->mutable_metadata() = container.config.metadata();
      *item->mutable_labels() = container.config.labels();
      item->set_state(container.state);
    }
    return grpc::Status::OK;
  }

  grpc::Status ContainerStatus(grpc::ClientContext*, const cri::ContainerStatusRequest& request,
                               cri::ContainerStatusResponse* response) override {
    std::lock_guard lock(fake_.mutex_);
    const FakeCri::Container* container = fake_.FindContainer(request.container_id());
    if (container == nullptr) return NotFound(request.container_id());
    *response->mutable_status() = fake_.StatusOf(*container);
    return grpc::Status::OK;
  }

  grpc::Status ExecSync(grpc::ClientContext*, const cri::ExecSyncRequest& request,
                        cri::ExecSyncResponse* response) override {
    std::string command;
    for (const auto& word : request.cmd()) command += " " + word;
    grpc::Status status = fake_.Enter("ExecSync", command.empty() ? command : command.substr(1));
    if (!status.ok()) return status;
    FakeCri::ExecHandler handler;
    {
      std::lock_guard lock(fake_.mutex_);
      handler = fake_.exec_;
    }
    return handler ? handler(request, response) : grpc::Status::OK;
  }

 private:
  FakeCri& fake_;
};

class FakeImageStub : public UnimplementedImageStub {
 public:
  explicit FakeImageStub(FakeCri& fake) : fake_(fake) {}

  grpc::Status ImageStatus(grpc::ClientContext*, const cri::ImageStatusRequest& request,
                           cri::ImageStatusResponse* response) override {
    std::lock_guard lock(fake_.mutex_);
    auto found = fake_.images_.find(request.image().image());
    if (found != fake_.images_.end()) *response->mutable_image() = found->second;
    return grpc::Status::OK;
  }

  grpc::Status PullImage(grpc::ClientContext*, const cri::PullImageRequest& request,
                         cri::PullImageResponse* response) override {
    const std::string& name = request.image().image();
    grpc::Status status = fake_.Enter("PullImage", name);
    if (!status.ok()) return status;
    std::lock_guard lock(fake_.mutex_);
    auto found = fake_.remote_images_.find(name);
    if (found == fake_.remote_images_.end()) return NotFound(name);
    fake_.images_[name] = found->second;
    response->set_image_ref(found->second.id());
    return grpc::Status::OK;
  }

  grpc::Status ListImages(grpc::ClientContext*, const cri::ListImagesRequest&,
                          cri::ListImagesResponse* response) override {
    std::lock_guard lock(fake_.mutex_);
    for (const auto& [name, image] : fake_.images_) *response->add_images() = image;
    return grpc::Status::OK;
  }

 private:
  FakeCri& fake_;
};

FakeCri::FakeCri(const Clock& clock) : clock_(clock) {}
FakeCri::~FakeCri() = default;

std::shared_ptr<CriStubs> FakeCri::stubs() {
  auto stubs = std::make_shared<CriStubs>();
  stubs->runtime = std::make_shared<FakeRuntimeStub>(*this);
  stubs->images = std::make_shared<FakeImageStub>(*this);
  return stubs;
}

void FakeCri::AddRemoteImage(const std::string& name) {
  std::lock_guard lock(mutex_);
  cri::Image image;
  image.set_id("sha256:" + name);
  image.add_repo_tags(name);
  image.set_size(1000);
  remote_images_[name] = image;
}

void FakeCri::AddImage(const std::string& name, std::optional<int64_t> uid,
                       const std::string& username) {
  AddRemoteImage(name);
  std::lock_guard lock(mutex_);
  cri::Image image = remote_images_[name];
  if (uid) image.mutable_uid()->set_value(*uid);
  image.set_username(username);
  images_[name] = image;
}

void FakeCri::Fail(const std::string& method, grpc::Status status, int times) {
  std::lock_guard lock(mutex_);
  auto& planned = failures_[method];
  planned.insert(planned.end(), static_cast<size_t>(times), status);
}

void FakeCri::Exit(const std::string& container_id, int exit_code, const std::string& reason) {
  std::string sandbox_id;
  {
    std::lock_guard lock(mutex_);
    Container* container = FindContainer(container_id);
    if (container == nullptr) return;
    StopLocked(*container, exit_code,
               !reason.empty() ? reason : (exit_code == 0 ? "Completed" : "Error"));
    sandbox_id = container->sandbox_id;
  }
  Changed(sandbox_id);
}

void FakeCri::Reboot() {
  std::lock_guard lock(mutex_);
  for (Sandbox& sandbox : sandboxes_) {
    sandbox.ready = false;
    sandbox.ip.clear();
  }
  for (Container& container : containers_) StopLocked(container, 255, "Unknown");
}

void FakeCri::OnExec(ExecHandler handler) {
  std::lock_guard lock(mutex_);
  exec_ = std::move(handler);
}

void FakeCri::OnChange(std::function<void(const std::string&)> handler) {
  std::lock_guard lock(mutex_);
  on_change_ = std::move(handler);
}

std::vector<FakeCri::Sandbox> FakeCri::sandboxes() const {
  std::lock_guard lock(mutex_);
  return sandboxes_;
}

std::vector<FakeCri::Container> FakeCri::containers() const {
  std::lock_guard lock(mutex_);
  return containers_;
}

FakeCri::Container FakeCri::Newest(const std::string& name) const {
  std::lock_guard lock(mutex_);
  for (auto it = containers_.rbegin(); it != containers_.rend(); ++it) {
    if (it->config.metadata().name() == name) return *it;
  }
  std::abort();
}

size_t FakeCri::CountRunning() const {
  std::lock_guard lock(mutex_);
  return static_cast<size_t>(
      std::count_if(containers_.begin(), containers_.end(),
                    [](const auto& c) { return c.state == cri::CONTAINER_RUNNING; }));
}

std::vector<std::string> FakeCri::calls() const {
  std::lock_guard lock(mutex_);
  return calls_;
}

void FakeCri::ClearCalls() {
  std::lock_guard lock(mutex_);
  calls_.clear();
}

grpc::Status FakeCri::Enter(const std::string& method, const std::string& about) {
  std::lock_guard lock(mutex_);
  // Reads are not worth recording.
  if (!method.starts_with("List")) calls_.push_back(about.empty() ? method : method + " " + about);
  auto& planned = failures_[method];
  if (planned.empty()) return grpc::Status::OK;
  grpc::Status status = planned.front();
  planned.erase(planned.begin());
  return status;
}

int64_t FakeCri::NowNanos() const {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(clock_.WallNow().time_since_epoch())
      .count();
}

FakeCri::Sandbox* FakeCri::FindSandbox(const std::string& id) {
  auto found = std::find_if(sandboxes_.begin(), sandboxes_.end(),
                            [&](const auto& sandbox) { return sandbox.id == id; });
  return found == sandboxes_.end() ? nullptr : &*found;
}

FakeCri::Container* FakeCri::FindContainer(const std::string& id) {
  auto found = std::find_if(containers_.begin(), containers_.end(),
                            [&](const auto& container) { return container.id == id; });
  return found == containers_.end() ? nullptr : &*found;
}

void FakeCri::StopLocked(Container& container, int exit_code, const std::string& reason) {
  if (container.state != cri::CONTAINER_RUNNING) return;
  container.state = cri::CONTAINER_EXITED;
  container.exit_code = exit_code;
  container.reason = reason;
  container.finished_at = NowNanos();
}

void FakeCri::Changed(const std::string& sandbox_id) {
  std::function<void(const std::string&)> handler;
  std::string uid;
  {
    std::lock_guard lock(mutex_);
    const Sandbox* sandbox = FindSandbox(sandbox_id);
    if (sandbox == nullptr || !on_change_) return;
    handler = on_change_;
    uid = sandbox->config.metadata().uid();
  }
  handler(uid);
}

cri::PodSandboxStatus FakeCri::StatusOf(const Sandbox& sandbox) const {
  cri::PodSandboxStatus status;
  status.set_id(sandbox.id);
  *status.mutable_metadata() = sandbox.config.metadata();
  status.set_state(sandbox.ready ? cri::SANDBOX_READY : cri::SANDBOX_NOTREADY);
  status.set_created_at(sandbox.created_at);
  status.mutable_network()->set_ip(sandbox.ip);
  *status.mutable_labels() = sandbox.config.labels();
  *status.mutable_annotations() = sandbox.config.annotations();
  return status;
}

cri::ContainerStatus FakeCri::StatusOf(const Container& container) const {
  cri::ContainerStatus status;
  status.set_id(container.id);
  *status.mutable_metadata() = container.config.metadata();
  status.set_state(container.state);
  status.set_created_at(container.created_at);
  status.set_started_at(container.started_at);
  status.set_finished_at(container.finished_at);
  status.set_exit_code(container.exit_code);
  status.set_reason(container.reason);
  status.set_message(container.message);
  *status.mutable_image() = container.config.image();
  status.set_image_ref(container.image_ref);
  *status.mutable_labels() = container.config.labels();
  *status.mutable_annotations() = container.config.annotations();
  status.set_log_path(container.config.log_path());
  return status;
}

}  // namespace skiff::agent::testing
