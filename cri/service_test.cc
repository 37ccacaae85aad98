// RuntimeService over a runtime and a network that touch nothing, and a real image store.

// clang-format off: first, since <signal.h> has macros named as CRI's signals.
#include "cri/runtime_service.h"
// clang-format on

#include <gtest/gtest.h>

#include <latch>
#include <set>
#include <thread>

#include "base/os/files.h"
#include "cni/fake_network.h"
#include "cri/image_service.h"
#include "cri/testing/fake_runtime.h"
#include "runtime/image/testing/fake_registry.h"

namespace skiff::cri {
namespace {

using runtime::testing::BuildImage;
using runtime::testing::TarBuilder;

class NoStreaming : public StreamingServer {
 public:
  std::string OfferExec(runtime::ExecSpec, streaming::ExecStreams) override { return "exec"; }
  std::string OfferAttach(std::string, streaming::ExecStreams, bool) override { return "attach"; }
  std::string OfferPortForward(std::string, std::vector<uint16_t>) override { return "forward"; }
};

class ServiceTest : public ::testing::Test {
 protected:
  ServiceTest() {
    registry_.Add("app", "v1",
                  BuildImage({TarBuilder().File("bin/app", "x").Finish()},
                             runtime::testing::Packing::kGzip, "1000"));
    runtime::ImageStore::Options options;
    options.root = directory_.path() + "/images";
    images_ = *runtime::ImageStore::Open(options);
    image_service_ = std::make_unique<ImageService>(*images_);
    Restart();
  }
  // A new service over what the old one left in the runtime.
  void Restart() {
    service_ = std::make_unique<RuntimeService>(
        RuntimeService::Deps{&runtime_, images_.get(), &network_, &streaming_, &blocking_,
                             directory_.path() + "/cri", "1.0"});
    ASSERT_TRUE(service_->Recover().ok());
  }

  std::string Pull() {
    api::PullImageRequest request;
    request.mutable_image()->set_image(registry_.host() + "/app:v1");
    api::PullImageResponse response;
    auto pulled = image_service_->PullImage(request, &response);
    EXPECT_TRUE(pulled.ok()) << pulled.error().message();
    return response.image_ref();
  }
  api::RunPodSandboxRequest SandboxRequest(uint32_t attempt = 0) const {
    api::RunPodSandboxRequest request;
    auto* config = request.mutable_config();
    config->mutable_metadata()->set_name("web");
    config->mutable_metadata()->set_namespace_("default");
    config->mutable_metadata()->set_uid("u1");
    config->mutable_metadata()->set_attempt(attempt);
    config->set_hostname("web-0");
    config->set_log_directory(directory_.path() + "/logs");
    (*config->mutable_labels())["app"] = "web";
    return request;
  }
  Result<std::string> RunSandbox(const api::RunPodSandboxRequest& request) {
    api::RunPodSandboxResponse response;
    TRY(service_->RunPodSandbox(request, &response));
    return response.pod_sandbox_id();
  }
  Result<std::string> CreateContainer(const std::string& sandbox, const std::string& image,
                                      const std::string& name = "main") {
    api::CreateContainerRequest request;
    request.set_pod_sandbox_id(sandbox);
    request.mutable_config()->mutable_metadata()->set_name(name);
    request.mutable_config()->mutable_image()->set_image(image);
    request.mutable_config()->set_log_path("main/0.log");
    api::CreateContainerResponse response;
    TRY(service_->CreateContainer(request, &response));
    return response.container_id();
  }
  template <class Request, class Response>
  Result<> OnContainer(Result<> (RuntimeService::*method)(const Request&, Response*),
                       const std::string& id) {
    Request request;
    request.set_container_id(id);
    Response response;
    return ((*service_).*method)(request, &response);
  }
  Result<> StopSandbox(const std::string& id) {
    api::StopPodSandboxRequest request;
    request.set_pod_sandbox_id(id);
    api::StopPodSandboxResponse response;
    return service_->StopPodSandbox(request, &response);
  }
  Result<> RemoveSandbox(const std::string& id) {
    api::RemovePodSandboxRequest request;
    request.set_pod_sandbox_id(id);
    api::RemovePodSandboxResponse response;
    return service_->RemovePodSandbox(request, &response);
  }
  api::ContainerStatus StatusOf(const std::string& id) {
    api::ContainerStatusRequest request;
    request.set_container_id(id);
    api::ContainerStatusResponse response;
    auto answered = service_->ContainerStatus(request, &response);
    EXPECT_TRUE(answered.ok());
    return response.status();
  }
  api::PodSandboxStatusResponse SandboxStatus(const std::string& id) {
    api::PodSandboxStatusRequest request;
    request.set_pod_sandbox_id(id);
    api::PodSandboxStatusResponse response;
    EXPECT_TRUE(service_->PodSandboxStatus(request, &response).ok());
    return response;
  }

  TempDir directory_ = *TempDir::Make();
  runtime::testing::FakeRegistry registry_;
  testing::FakeRuntime runtime_;
  cni::FakePodNetwork network_;
  NoStreaming streaming_;
  ThreadPool blocking_{"blocking", 2};
  std::unique_ptr<runtime::ImageStore> images_;
  std::unique_ptr<ImageService> image_service_;
  std::unique_ptr<RuntimeService> service_;
};

TEST_F(ServiceTest, LifeOfAPod) {
  const std::string image = Pull();
  const auto sandbox = RunSandbox(SandboxRequest());
  ASSERT_TRUE(sandbox.ok()) << sandbox.error().message();
  EXPECT_EQ(SandboxStatus(*sandbox).status().network().ip(), "10.244.0.2");
  EXPECT_EQ(SandboxStatus(*sandbox).status().state(), api::SANDBOX_READY);
  const std::string hosts = *ReadFile(directory_.path() + "/cri/sandboxes/" + *sandbox + "/hosts");
  EXPECT_NE(hosts.find("10.244.0.2\tweb-0"), std::string::npos);

  const auto container = CreateContainer(*sandbox, registry_.host() + "/app:v1");
  ASSERT_TRUE(container.ok()) << container.error().message();
  EXPECT_EQ(StatusOf(*container).state(), api::CONTAINER_CREATED);
  EXPECT_EQ(StatusOf(*container).image_id(), image);
  EXPECT_EQ(StatusOf(*container).log_path(), directory_.path() + "/logs/main/0.log");
  EXPECT_EQ(runtime_.Container(*container)->spec.user.user, "1000");
  ASSERT_TRUE(OnContainer(&RuntimeService::StartContainer, *container).ok());
  EXPECT_EQ(StatusOf(*container).state(), api::CONTAINER_RUNNING);
  service_->OnExit(runtime_.Exit(*container, 3));
  EXPECT_EQ(StatusOf(*container).exit_code(), 3);
  EXPECT_EQ(StatusOf(*container).reason(), "Error");

  ASSERT_TRUE(StopSandbox(*sandbox).ok());
  EXPECT_EQ(SandboxStatus(*sandbox).status().state(), api::SANDBOX_NOTREADY);
  EXPECT_EQ(network_.attached(), 0u);
  ASSERT_TRUE(RemoveSandbox(*sandbox).ok());
  EXPECT_TRUE(runtime_.Sandboxes().empty());
  EXPECT_TRUE(images_->ListSnapshots().empty());
  EXPECT_TRUE(ListDirectory(directory_.path() + "/cri/sandboxes")->empty());
}

TEST_F(ServiceTest, StopAndRemoveSucceedForWhatIsGone) {
  const auto sandbox = *RunSandbox(SandboxRequest());
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(StopSandbox(sandbox).ok());
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(RemoveSandbox(sandbox).ok());
  EXPECT_TRUE(StopSandbox("unknown").ok());
  EXPECT_TRUE(OnContainer(&RuntimeService::StopContainer, "unknown").ok());
  EXPECT_TRUE(OnContainer(&RuntimeService::RemoveContainer, "unknown").ok());
  // Everything else says that it is not there.
  EXPECT_EQ(OnContainer(&RuntimeService::StartContainer, "unknown").error().code(),
            Code::kNotFound);
  EXPECT_EQ(OnContainer(&RuntimeService::ContainerStatus, "unknown").error().code(),
            Code::kNotFound);
}

TEST_F(ServiceTest, TheSameRequestAgainIsAnsweredAgain) {
  const std::string image = Pull();
  const auto sandbox = *RunSandbox(SandboxRequest());
  EXPECT_EQ(*RunSandbox(SandboxRequest()), sandbox);
  api::RunPodSandboxRequest other = SandboxRequest();
  other.mutable_config()->set_hostname("other");
  EXPECT_EQ(RunSandbox(other).error().code(), Code::kAlreadyExists);
  EXPECT_NE(*RunSandbox(SandboxRequest(1)), sandbox);
  const auto container = *CreateContainer(sandbox, image);
  EXPECT_EQ(*CreateContainer(sandbox, image), container);
  ASSERT_TRUE(OnContainer(&RuntimeService::StartContainer, container).ok());
  EXPECT_EQ(CreateContainer(sandbox, image).error().code(), Code::kAlreadyExists);
}

TEST_F(ServiceTest, FailuresLeaveNothingBehind) {
  const std::string image = Pull();
  for (const char* call : {"CreateSandbox", "StartSandbox"}) {
    runtime_.FailNext(call);
    EXPECT_EQ(RunSandbox(SandboxRequest()).error().code(), Code::kInternal) << call;
    EXPECT_TRUE(runtime_.Sandboxes().empty()) << call;
    EXPECT_EQ(network_.attached(), 0u) << call;
  }
  network_.FailNextAttach(Error(Code::kResourceExhausted, "no address"));
  EXPECT_EQ(RunSandbox(SandboxRequest()).error().code(), Code::kResourceExhausted);
  EXPECT_TRUE(runtime_.Sandboxes().empty());
  EXPECT_TRUE(ListDirectory(directory_.path() + "/cri/sandboxes")->empty());
  // And the same request succeeds afterwards.
  const auto sandbox = RunSandbox(SandboxRequest());
  ASSERT_TRUE(sandbox.ok());
  runtime_.FailNext("CreateContainer");
  EXPECT_FALSE(CreateContainer(*sandbox, image).ok());
  EXPECT_TRUE(images_->ListSnapshots().empty());
  EXPECT_EQ(CreateContainer(*sandbox, "absent").error().code(), Code::kNotFound);
  EXPECT_TRUE(CreateContainer(*sandbox, image).ok());
}

TEST_F(ServiceTest, RuntimeHandlers) {
  api::StatusResponse status;
  ASSERT_TRUE(service_->Status({}, &status).ok());
  std::vector<std::string> names;
  for (const auto& handler : status.runtime_handlers()) names.push_back(handler.name());
  EXPECT_EQ(names, (std::vector<std::string>{"", "skiff", "crun"}));
  api::RunPodSandboxRequest request = SandboxRequest();
  request.set_runtime_handler("kata");
  EXPECT_EQ(RunSandbox(request).error().code(), Code::kNotFound);
  request.set_runtime_handler("crun");  // the name is free again
  const std::string sandbox = *RunSandbox(request);
  EXPECT_EQ(SandboxStatus(sandbox).status().runtime_handler(), "crun");
  EXPECT_EQ(runtime_.Sandbox(sandbox)->spec.handler, "crun");
}

TEST_F(ServiceTest, ATornNetworkIsToldUntilItIsGone) {
  const auto sandbox = *RunSandbox(SandboxRequest());
  network_.FailNextDetach(Error(Code::kInternal, "busy"));
  EXPECT_FALSE(StopSandbox(sandbox).ok());  // kubelet asks again
  EXPECT_EQ(SandboxStatus(sandbox).status().state(), api::SANDBOX_NOTREADY);
  network_.FailNextDetach(Error(Code::kInternal, "busy"));
  EXPECT_FALSE(RemoveSandbox(sandbox).ok());
  EXPECT_TRUE(RemoveSandbox(sandbox).ok());
  EXPECT_TRUE(runtime_.Sandboxes().empty());
}

TEST_F(ServiceTest, WhatDidNotComeUpIsRemovedWhenItsNameIsWantedAgain) {
  auto listed = [this] {
    api::ListPodSandboxResponse list;
    EXPECT_TRUE(service_->ListPodSandbox({}, &list).ok());
    return list;
  };
  runtime_.FailNext("StartSandbox");
  network_.FailNextDetach(Error(Code::kInternal, "busy"));
  EXPECT_FALSE(RunSandbox(SandboxRequest()).ok());
  ASSERT_EQ(listed().items_size(), 1);
  const std::string left = listed().items(0).id();
  EXPECT_EQ(listed().items(0).state(), api::SANDBOX_NOTREADY);
  network_.FailNextDetach(Error(Code::kInternal, "still busy"));
  EXPECT_EQ(RunSandbox(SandboxRequest()).error().code(), Code::kInternal);
  EXPECT_EQ(listed().items(0).id(), left);
  const std::string sandbox = *RunSandbox(SandboxRequest());
  EXPECT_NE(sandbox, left);
  ASSERT_EQ(listed().items_size(), 1);
  EXPECT_EQ(listed().items(0).id(), sandbox);
  EXPECT_EQ(runtime_.Sandboxes().size(), 1u);
}

TEST_F(ServiceTest, WhoStopsAContainerOfALostPodSeesThatItIsLost) {
  const auto sandbox = *RunSandbox(SandboxRequest());
  const auto container = *CreateContainer(sandbox, Pull());
  ASSERT_TRUE(runtime_.StopSandbox(sandbox).ok());  // nobody has told of it yet
  api::StopContainerRequest request;
  request.set_container_id(container);
  api::StopContainerResponse response;
  ASSERT_TRUE(service_->StopContainer(request, &response).ok());
  EXPECT_EQ(SandboxStatus(sandbox).status().state(), api::SANDBOX_NOTREADY);
}

// Who started it and who heard of its end both look, and the one who looked first may write last.
TEST_F(ServiceTest, AnEndAtTheStartIsNotForgotten) {
  const std::string image = Pull();
  const auto sandbox = *RunSandbox(SandboxRequest());
  for (int round = 0; round < 50; ++round) {
    const auto container = *CreateContainer(sandbox, image);
    std::thread ender([&] {
      while (runtime_.Container(container)->state != runtime::ContainerState::kRunning) {
        std::this_thread::yield();
      }
      service_->OnExit(runtime_.Exit(container, 0));
    });
    EXPECT_TRUE(OnContainer(&RuntimeService::StartContainer, container).ok());
    ender.join();
    ASSERT_EQ(StatusOf(container).state(), api::CONTAINER_EXITED);
    ASSERT_TRUE(OnContainer(&RuntimeService::RemoveContainer, container).ok());
  }
}

TEST_F(ServiceTest, TheSameRequestsAtOnceAreOne) {
  std::vector<std::thread> clients;
  std::vector<Result<std::string>> answers(8, Error(Code::kInternal, "none"));
  for (auto& answer : answers) {
    clients.emplace_back([&] { answer = RunSandbox(SandboxRequest()); });
  }
  for (std::thread& client : clients) client.join();
  for (const auto& answer : answers) EXPECT_EQ(*answer, *answers[0]);
  EXPECT_EQ(runtime_.Sandboxes().size(), 1U);
}

TEST_F(ServiceTest, ASandboxNeedsNoSecondThread) {
  // Both of the pool's threads make sandboxes: the network waits for none but its own.
  std::vector<std::string> ids(6);
  std::latch done(static_cast<ptrdiff_t>(ids.size()));
  for (size_t i = 0; i < ids.size(); ++i) {
    blocking_.Post([&, i] {
      ids[i] = RunSandbox(SandboxRequest(static_cast<uint32_t>(i))).value_or("");
      done.count_down();
    });
  }
  done.wait();
  EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), ids.size());
  EXPECT_EQ(network_.attached(), ids.size());
}

TEST_F(ServiceTest, RestartFindsEverythingAgain) {
  const std::string image = Pull();
  const auto sandbox = *RunSandbox(SandboxRequest());
  const auto container = *CreateContainer(sandbox, image);
  ASSERT_TRUE(OnContainer(&RuntimeService::StartContainer, container).ok());
  const auto before = StatusOf(container).SerializeAsString();
  // What a kill in the middle of RunPodSandbox leaves.
  runtime::SandboxSpec half;
  half.id = "half";
  ASSERT_TRUE(runtime_.CreateSandbox(half).ok());
  ASSERT_TRUE(images_->CreateSnapshot("orphan", *runtime::Digest::Parse(image)).ok());
  Restart();
  EXPECT_EQ(StatusOf(container).SerializeAsString(), before);
  EXPECT_EQ(SandboxStatus(sandbox).status().network().ip(), "10.244.0.2");
  EXPECT_EQ(runtime_.Sandboxes().size(), 1u);
  EXPECT_EQ(images_->ListSnapshots(), std::vector<std::string>{container});
  EXPECT_EQ(*RunSandbox(SandboxRequest()), sandbox);
}

TEST_F(ServiceTest, ListsFilterAndIdsMayBeShort) {
  const std::string image = Pull();
  const auto sandbox = *RunSandbox(SandboxRequest());
  const auto container = *CreateContainer(sandbox, image);
  const auto count = [&](const std::function<void(api::ContainerFilter*)>& change) {
    api::ListContainersRequest request;
    change(request.mutable_filter());
    api::ListContainersResponse response;
    EXPECT_TRUE(service_->ListContainers(request, &response).ok());
    return response.containers_size();
  };
  EXPECT_EQ(count([](auto*) {}), 1);
  EXPECT_EQ(count([&](auto* f) { f->set_id(container.substr(0, 10)); }), 1);
  EXPECT_EQ(count([](auto* f) { f->set_id("x"); }), 0);
  EXPECT_EQ(count([](auto* f) { f->mutable_state()->set_state(api::CONTAINER_RUNNING); }), 0);
  EXPECT_EQ(count([](auto* f) { (*f->mutable_label_selector())["a"] = "b"; }), 0);
  EXPECT_TRUE(OnContainer(&RuntimeService::StartContainer, container.substr(0, 12)).ok());
  // Statistics of what does not run are there, without figures.
  api::ListContainerStatsRequest stats_request;
  api::ListContainerStatsResponse stats;
  ASSERT_TRUE(service_->ListContainerStats(stats_request, &stats).ok());
  ASSERT_EQ(stats.stats_size(), 1);
  EXPECT_EQ(stats.stats(0).memory().usage_bytes().value(), 7u);
  service_->OnExit(runtime_.Exit(container, 137, /*oom_killed=*/true));
  EXPECT_EQ(StatusOf(container).reason(), "OOMKilled");
  stats.Clear();
  ASSERT_TRUE(service_->ListContainerStats(stats_request, &stats).ok());
  EXPECT_FALSE(stats.stats(0).has_memory());
}

TEST_F(ServiceTest, ExecChecksItsArguments) {
  const std::string image = Pull();
  const auto sandbox = *RunSandbox(SandboxRequest());
  const auto container = *CreateContainer(sandbox, image);
  api::ExecSyncRequest request;
  request.set_container_id(container);
  request.add_cmd("true");
  api::ExecSyncResponse response;
  EXPECT_EQ(service_->ExecSync(request, &response).error().code(), Code::kFailedPrecondition);
  ASSERT_TRUE(OnContainer(&RuntimeService::StartContainer, container).ok());
  EXPECT_TRUE(service_->ExecSync(request, &response).ok());
  EXPECT_EQ(response.stdout(), "true");
  request.set_cmd(0, "hang");
  EXPECT_EQ(service_->ExecSync(request, &response).error().code(), Code::kDeadlineExceeded);
  api::ExecRequest exec;
  exec.set_container_id(container);
  exec.add_cmd("sh");
  api::ExecResponse url;
  EXPECT_EQ(service_->Exec(exec, &url).error().code(), Code::kInvalidArgument);
  exec.set_tty(true);
  exec.set_stdout(true);
  exec.set_stderr(true);
  EXPECT_EQ(service_->Exec(exec, &url).error().code(), Code::kInvalidArgument);
  exec.set_stderr(false);
  EXPECT_TRUE(service_->Exec(exec, &url).ok());
}

TEST_F(ServiceTest, EventsAreOneOrderedLog) {
  std::atomic<int> wakes = 0;
  auto follower = service_->events().Follow([&] { ++wakes; });
  EXPECT_EQ(*follower->Next(), nullptr);
  const std::string image = Pull();
  const auto sandbox = *RunSandbox(SandboxRequest());
  EXPECT_EQ(wakes, 1);
  const auto container = *CreateContainer(sandbox, image);
  ASSERT_TRUE(OnContainer(&RuntimeService::StartContainer, container).ok());
  service_->OnExit(runtime_.Exit(container, 0));
  ASSERT_TRUE(RemoveSandbox(sandbox).ok());
  std::vector<std::string> seen;
  while (const auto event = *follower->Next()) {
    seen.push_back(api::ContainerEventType_Name(event->container_event_type()).substr(10) +
                   (event->container_id() == container ? " c" : " s"));
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"CREATED_EVENT s", "STARTED_EVENT s", "CREATED_EVENT c",
                                            "STARTED_EVENT c", "STOPPED_EVENT c", "DELETED_EVENT c",
                                            "STOPPED_EVENT s", "DELETED_EVENT s"}));
}

TEST_F(ServiceTest, EventsLeaveOutNothingHoweverFastTheContainer) {
  auto follower = service_->events().Follow([] {});
  const std::string image = Pull();
  const auto sandbox = *RunSandbox(SandboxRequest());
  const auto container = *CreateContainer(sandbox, image);
  ASSERT_TRUE(OnContainer(&RuntimeService::StartContainer, container).ok());
  const auto exit = runtime_.Exit(container, 0);
  // Removed before the service hears of the exit.
  ASSERT_TRUE(OnContainer(&RuntimeService::RemoveContainer, container).ok());
  service_->OnExit(exit);
  std::vector<std::string> seen;
  EventLog::Event last;
  while (const auto event = *follower->Next()) {
    if (event->container_id() != container) continue;
    seen.push_back(api::ContainerEventType_Name(event->container_event_type()).substr(10));
    last = event;
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"CREATED_EVENT", "STARTED_EVENT", "STOPPED_EVENT",
                                            "DELETED_EVENT"}));
  EXPECT_EQ(last->pod_sandbox_status().id(), sandbox);
  EXPECT_EQ(last->containers_statuses_size(), 0) << "it is gone from the lists by then";
}

TEST_F(ServiceTest, EventsOfAContainerThatNeverRanTellOfNoStart) {
  auto follower = service_->events().Follow([] {});
  const std::string image = Pull();
  const auto container = *CreateContainer(*RunSandbox(SandboxRequest()), image);
  ASSERT_TRUE(OnContainer(&RuntimeService::RemoveContainer, container).ok());
  std::vector<api::ContainerEventType> seen;
  while (const auto event = *follower->Next()) {
    if (event->container_id() == container) seen.push_back(event->container_event_type());
  }
  EXPECT_EQ(seen, (std::vector<api::ContainerEventType>{api::CONTAINER_CREATED_EVENT,
                                                        api::CONTAINER_DELETED_EVENT}));
}

api::ContainerEventResponse EventOf(const std::string& id) {
  api::ContainerEventResponse event;
  event.set_container_id(id);
  return event;
}

TEST(EventLog, FollowersReadAtTheirOwnPace) {
  EventLog log;
  int wakes = 0;
  auto early = log.Follow([&] { ++wakes; });
  EXPECT_EQ(*early->Next(), nullptr);
  log.Append(EventOf("1"));
  auto late = log.Follow([] {});
  log.Append(EventOf("2"));
  EXPECT_EQ(wakes, 1) << "woken once until it has asked again";
  EXPECT_EQ((*early->Next())->container_id(), "1");
  EXPECT_EQ((*early->Next())->container_id(), "2");
  EXPECT_EQ(*early->Next(), nullptr);
  EXPECT_EQ((*late->Next())->container_id(), "2") << "what was before it followed is not told";
}

TEST(EventLog, WhoIsTooSlowIsToldSo) {
  EventLog few({.events = 2, .bytes = 1 << 20});
  auto slow = few.Follow([] {});
  for (int i = 0; i < 3; ++i) few.Append(EventOf("x"));
  EXPECT_EQ(slow->Next().error().code(), Code::kDataLoss);
  EventLog small({.events = 100, .bytes = 1000});
  auto greedy = small.Follow([] {});
  for (int i = 0; i < 3; ++i) small.Append(EventOf(std::string(600, 'x')));
  EXPECT_EQ(greedy->Next().error().code(), Code::kDataLoss);
}

TEST(EventLog, KeepsNothingForNobody) {
  EventLog log;
  EXPECT_FALSE(log.followed());
  auto follower = log.Follow([] {});
  EXPECT_TRUE(log.followed());
  log.Append(EventOf("1"));
  follower.reset();
  EXPECT_FALSE(log.followed());
  auto next = log.Follow([] {});
  EXPECT_EQ(*next->Next(), nullptr);
  log.Append(EventOf("2"));
  EXPECT_EQ((*next->Next())->container_id(), "2");
}

TEST(EventLogTest, KeepsWhatSomeFollowerHasNotHad) {
  EventLog log;
  auto quick = log.Follow([] {});
  auto slow = log.Follow([] {});
  EXPECT_EQ(*quick->Next(), nullptr);
  log.Append({});
  log.Append({});
  std::weak_ptr<const api::ContainerEventResponse> first = *quick->Next();
  EXPECT_FALSE(first.expired());
  EXPECT_EQ(*slow->Next(), first.lock());
  EXPECT_TRUE(first.expired());
  std::weak_ptr<const api::ContainerEventResponse> second = *quick->Next();
  EXPECT_FALSE(second.expired());
  slow.reset();
  EXPECT_TRUE(second.expired());
}

TEST_F(ServiceTest, ImageCalls) {
  const std::string id = Pull();
  api::ImageStatusRequest request;
  request.mutable_image()->set_image(registry_.host() + "/app:v1");
  api::ImageStatusResponse response;
  ASSERT_TRUE(image_service_->ImageStatus(request, &response).ok());
  EXPECT_EQ(response.image().id(), id);
  EXPECT_EQ(response.image().uid().value(), 1000);
  api::RemoveImageRequest remove;
  remove.mutable_image()->set_image(id);
  api::RemoveImageResponse removed;
  ASSERT_TRUE(image_service_->RemoveImage(remove, &removed).ok());
  ASSERT_TRUE(image_service_->RemoveImage(remove, &removed).ok());
  response.Clear();
  ASSERT_TRUE(image_service_->ImageStatus(request, &response).ok());
  EXPECT_FALSE(response.has_image());
  api::PullImageRequest pull;
  api::PullImageResponse pulled;
  pull.mutable_image()->set_image(registry_.host() + "/app:absent");
  EXPECT_EQ(image_service_->PullImage(pull, &pulled).error().code(), Code::kNotFound);
  pull.mutable_image()->set_image("127.0.0.1:1/app");
  const auto away = image_service_->PullImage(pull, &pulled);
  EXPECT_EQ(away.error().code(), Code::kUnavailable);
  EXPECT_TRUE(away.error().message().starts_with("RegistryUnavailable"));
}

}  // namespace
}  // namespace skiff::cri
