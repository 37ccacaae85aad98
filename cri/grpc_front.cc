#include "cri/grpc_front.h"

#include <grpcpp/grpcpp.h>
#include <sys/stat.h>

#include <mutex>
#include <stop_token>

#include "base/grpc/status.h"
#include "base/os/files.h"
#include "cri/archive_service.h"
#include "cri/image_service.h"
#include "cri/runtime_service.h"
#include "proto/cri/runtime/v1/api.grpc.pb.h"

namespace skiff::cri {
namespace {

constexpr int kMaxMessageBytes = 16 << 20;  // as kubelet's and crictl's clients have it
constexpr std::chrono::milliseconds kStopGrace{500};
// What one message of a streamed list holds at most: far below the message limit, also where
// single items are large, and few enough messages.
constexpr int kStreamBatch = 500;
constexpr size_t kStreamBatchBytes = 1 << 20;

// Runs a unary call of a service on the blocking executor.
template <class Service, class Request, class Response>
grpc::ServerUnaryReactor* Unary(grpc::CallbackServerContext* context, Executor& blocking,
                                Service& service,
                                Result<> (Service::*method)(const Request&, Response*),
                                const Request* request, Response* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  blocking.Post([&service, method, request, response, reactor] {
    reactor->Finish(ToGrpcStatus((service.*method)(*request, response)));
  });
  return reactor;
}

// The same for a call that is to end early when its client goes or its deadline is over.
class CancellableReactor : public grpc::ServerUnaryReactor {
 public:
  std::stop_token stop() const { return stop_.get_token(); }
  void OnCancel() override { stop_.request_stop(); }
  void OnDone() override { delete this; }

 private:
  std::stop_source stop_;
};

// Sends the messages of a list, then ends the call.
template <class Message>
class ListReactor : public grpc::ServerWriteReactor<Message> {
 public:
  // Once, from any thread.
  void Begin(std::vector<Message> messages, Result<> outcome) {
    messages_ = std::move(messages);
    outcome_ = std::move(outcome);
    WriteNext();
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return this->Finish(grpc::Status::CANCELLED);
    WriteNext();
  }
  void OnDone() override { delete this; }  // only after Finish

 private:
  void WriteNext() {
    if (next_ == messages_.size()) return this->Finish(ToGrpcStatus(outcome_));
    this->StartWrite(&messages_[next_++]);
  }
  std::vector<Message> messages_;
  Result<> outcome_;
  size_t next_ = 0;
};

// The streamed form of a list: the same items, a batch a message. No items: no message.
template <class Message, class Service, class Request, class Response, class Items, class Add>
grpc::ServerWriteReactor<Message>* Streamed(Executor& reading, Service& service,
                                            Result<> (Service::*method)(const Request&, Response*),
                                            Request request, Items items, Add add) {
  auto* reactor = new ListReactor<Message>();
  reading.Post([&service, method, request = std::move(request), items, add, reactor] {
    Response response;
    auto outcome = (service.*method)(request, &response);
    std::vector<Message> messages;
    int count = 0;
    size_t bytes = 0;
    for (auto& item : *items(response)) {
      const size_t size = item.ByteSizeLong();
      if (messages.empty() || count == kStreamBatch || bytes + size > kStreamBatchBytes) {
        messages.emplace_back();
        count = 0;
        bytes = 0;
      }
      *add(messages.back()) = std::move(item);
      ++count;
      bytes += size;
    }
    if (!outcome.ok()) messages.clear();
    reactor->Begin(std::move(messages), std::move(outcome));
  });
  return reactor;
}

// Follows the event log for one client. The log's wake-ups reach it through a link, which outlives
// it: one may be on its way when the call ends.
class EventReactor : public grpc::ServerWriteReactor<api::ContainerEventResponse> {
 public:
  EventReactor(EventLog& log, Executor& blocking) : link_(std::make_shared<Link>()) {
    link_->reactor = this;
    // The log is locked when it wakes us: another thread takes it from here.
    follower_ = log.Follow([link = link_, &blocking] {
      blocking.Post([link] {
        std::unique_lock lock(link->mutex);
        if (link->reactor != nullptr && !link->reactor->writing_) {
          link->reactor->Step(std::move(lock));
        }
      });
    });
    // The client learns that nothing is missed from here on.
    StartSendInitialMetadata();
  }
  void OnSendInitialMetadataDone(bool ok) override { OnWriteDone(ok); }
  void OnWriteDone(bool ok) override {
    std::unique_lock lock(link_->mutex);
    writing_ = false;
    if (ok || cancelled_) Step(std::move(lock));  // otherwise OnCancel is about to come
  }
  void OnCancel() override {
    std::unique_lock lock(link_->mutex);
    cancelled_ = true;
    if (link_->reactor != nullptr && !writing_) Step(std::move(lock));
  }
  void OnDone() override { delete this; }

 private:
  struct Link {
    std::mutex mutex;  // guards all of the reactor's state
    EventReactor* reactor = nullptr;
  };

  void Step(std::unique_lock<std::mutex> lock) {
    if (cancelled_) return End(std::move(lock), grpc::Status::CANCELLED);
    auto event = follower_->Next();
    if (!event.ok()) return End(std::move(lock), ToGrpcStatus(event.error()));
    if (*event == nullptr) return;  // the log will wake us
    current_ = *std::move(event);
    writing_ = true;
    StartWrite(current_.get());
  }
  void End(std::unique_lock<std::mutex> lock, const grpc::Status& status) {
    link_->reactor = nullptr;
    lock.unlock();
    Finish(status);  // OnDone may delete this at once
  }

  const std::shared_ptr<Link> link_;
  std::unique_ptr<EventLog::Follower> follower_;
  EventLog::Event current_;
  bool writing_ = true;  // the initial metadata
  bool cancelled_ = false;
};

#define SKIFF_CRI_CALL(Method, executor)                                            \
  grpc::ServerUnaryReactor* Method(grpc::CallbackServerContext* context,            \
                                   const api::Method##Request* request,             \
                                   api::Method##Response* response) override {      \
    return Unary(context, executor, service_, &Service::Method, request, response); \
  }
// A call that changes something or talks to a supervisor, and may take its time.
#define SKIFF_CRI_UNARY(Method) SKIFF_CRI_CALL(Method, executors_.blocking)
// A call that is answered from memory and small files. It has threads of its own, so that calls
// which hang on a stuck supervisor never keep it waiting.
#define SKIFF_CRI_READ(Method) SKIFF_CRI_CALL(Method, executors_.reading)
#define SKIFF_CRI_STREAM(Method, Of, items, field, filter)                              \
  grpc::ServerWriteReactor<api::Method##Response>* Method(                              \
      grpc::CallbackServerContext*, const api::Method##Request* request) override {     \
    return Streamed<api::Method##Response>(                                             \
        executors_.reading, service_, &Service::Of, filter<api::Of##Request>(*request), \
        [](api::Of##Response& r) { return r.mutable_##items(); },                       \
        [](api::Method##Response& m) { return m.add_##field(); });                      \
  }

template <class List, class Request>
List WithFilter(const Request& request) {
  List list;
  if (request.has_filter()) *list.mutable_filter() = request.filter();
  return list;
}
template <class List, class Request>
List WithoutFilter(const Request&) {
  return {};
}

class RuntimeFront final : public api::RuntimeService::CallbackService {
 public:
  using Service = RuntimeService;
  RuntimeFront(Service& service, const CallExecutors& executors)
      : service_(service), executors_(executors) {}

  SKIFF_CRI_READ(Version)
  SKIFF_CRI_UNARY(RunPodSandbox)
  SKIFF_CRI_UNARY(StopPodSandbox)
  SKIFF_CRI_UNARY(RemovePodSandbox)
  SKIFF_CRI_READ(PodSandboxStatus)
  SKIFF_CRI_READ(ListPodSandbox)
  SKIFF_CRI_STREAM(StreamPodSandboxes, ListPodSandbox, items, pod_sandboxes, WithFilter)
  SKIFF_CRI_UNARY(CreateContainer)
  SKIFF_CRI_UNARY(StartContainer)
  SKIFF_CRI_UNARY(StopContainer)
  SKIFF_CRI_UNARY(RemoveContainer)
  SKIFF_CRI_READ(ListContainers)
  SKIFF_CRI_STREAM(StreamContainers, ListContainers, containers, containers, WithFilter)
  SKIFF_CRI_READ(ContainerStatus)
  SKIFF_CRI_UNARY(UpdateContainerResources)
  SKIFF_CRI_UNARY(ReopenContainerLog)
  SKIFF_CRI_READ(Exec)
  SKIFF_CRI_READ(Attach)
  SKIFF_CRI_READ(PortForward)
  SKIFF_CRI_READ(ContainerStats)
  SKIFF_CRI_READ(ListContainerStats)
  SKIFF_CRI_STREAM(StreamContainerStats, ListContainerStats, stats, container_stats, WithFilter)
  SKIFF_CRI_READ(PodSandboxStats)
  SKIFF_CRI_READ(ListPodSandboxStats)
  SKIFF_CRI_STREAM(StreamPodSandboxStats, ListPodSandboxStats, stats, pod_sandbox_stats, WithFilter)
  SKIFF_CRI_UNARY(UpdateRuntimeConfig)
  SKIFF_CRI_READ(Status)
  SKIFF_CRI_UNARY(CheckpointContainer)
  SKIFF_CRI_READ(ListMetricDescriptors)
  SKIFF_CRI_READ(ListPodSandboxMetrics)
  SKIFF_CRI_STREAM(StreamPodSandboxMetrics, ListPodSandboxMetrics, pod_metrics, pod_sandbox_metrics,
                   WithoutFilter)
  SKIFF_CRI_READ(RuntimeConfig)
  SKIFF_CRI_UNARY(UpdatePodSandboxResources)

  grpc::ServerWriteReactor<api::ContainerEventResponse>* GetContainerEvents(
      grpc::CallbackServerContext*, const api::GetEventsRequest*) override {
    return new EventReactor(service_.events(), executors_.reading);
  }
  grpc::ServerUnaryReactor* ExecSync(grpc::CallbackServerContext*,
                                     const api::ExecSyncRequest* request,
                                     api::ExecSyncResponse* response) override {
    auto* reactor = new CancellableReactor();
    executors_.blocking.Post([this, request, response, reactor] {
      reactor->Finish(ToGrpcStatus(service_.ExecSync(*request, response, reactor->stop())));
    });
    return reactor;
  }

 private:
  Service& service_;
  const CallExecutors executors_;
};

class ImageFront final : public api::ImageService::CallbackService {
 public:
  using Service = ImageService;
  ImageFront(Service& service, const CallExecutors& executors)
      : service_(service), executors_(executors) {}

  SKIFF_CRI_READ(ListImages)
  SKIFF_CRI_STREAM(StreamImages, ListImages, images, images, WithFilter)
  SKIFF_CRI_READ(ImageStatus)
  SKIFF_CRI_UNARY(PullImage)
  SKIFF_CRI_UNARY(RemoveImage)
  SKIFF_CRI_READ(ImageFsInfo)

 private:
  Service& service_;
  const CallExecutors executors_;
};
#undef SKIFF_CRI_CALL
#undef SKIFF_CRI_UNARY
#undef SKIFF_CRI_READ
#undef SKIFF_CRI_STREAM

class GrpcServerFront : public GrpcFront {
 public:
  GrpcServerFront(RuntimeService& runtime, ImageService& images, runtime::ImageStore& store,
                  const CallExecutors& executors)
      : runtime_(runtime, executors),
        images_(images, executors),
        archives_(MakeArchiveService(store, executors.blocking)) {}
  ~GrpcServerFront() override { GrpcServerFront::Stop(); }

  Result<> Listen(const std::string& socket) {
    grpc::ServerBuilder builder;
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    builder.SetMaxSendMessageSize(kMaxMessageBytes);
    // A socket of this machine has no bandwidth to be probed, and nobody asks for channelz.
    builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0);
    if (!socket.empty()) {
      const size_t slash = socket.rfind('/');
      if (slash != std::string::npos && slash > 0) TRY(MakeDirectories(socket.substr(0, slash)));
      TRY(RemoveFile(socket));  // a dead predecessor's; the state's lock keeps live ones apart
      builder.AddListeningPort("unix:" + socket, grpc::InsecureServerCredentials());
    }
    builder.RegisterService(&runtime_);
    builder.RegisterService(&images_);
    builder.RegisterService(archives_.get());
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) return Error(Code::kUnavailable, "cannot listen on " + socket);
    if (!socket.empty() && chmod(socket.c_str(), 0600) != 0) {
      return Error::Sys(errno, "chmod", socket);
    }
    return {};
  }

  std::shared_ptr<grpc::Channel> InProcessChannel() override {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
    return server_->InProcessChannel(arguments);
  }
  void Stop() override {
    if (!server_) return;
    server_->Shutdown(std::chrono::system_clock::now() + kStopGrace);
    server_->Wait();
    server_.reset();
  }

 private:
  RuntimeFront runtime_;
  ImageFront images_;
  std::unique_ptr<grpc::Service> archives_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace

Result<std::unique_ptr<GrpcFront>> GrpcFront::Start(const std::string& socket,
                                                    RuntimeService& runtime, ImageService& images,
                                                    runtime::ImageStore& store,
                                                    const CallExecutors& executors) {
  auto front = std::make_unique<GrpcServerFront>(runtime, images, store, executors);
  TRY(front->Listen(socket));
  return std::unique_ptr<GrpcFront>(std::move(front));
}

}  // namespace skiff::cri
