#include "cri/in_process.h"

#include <grpcpp/grpcpp.h>

#include "base/grpc/status.h"
#include "cri/grpc_front.h"
#include "cri/image_service.h"
#include "cri/runtime_service.h"

namespace skiff::cri {
namespace {

namespace pb = ::runtime::v1;

// NOLINTBEGIN: the shape is the generator's.
// A call that goes to the service itself; its asynchronous forms go over the channel.
#define SKIFF_DIRECT(Method)                                                    \
  grpc::Status Method(grpc::ClientContext*, const pb::Method##Request& request, \
                      pb::Method##Response* response) override {                \
    return ToGrpcStatus(service_.Method(request, response));                    \
  }                                                                             \
  SKIFF_ASYNC(Method)
#define SKIFF_ASYNC(Method)                                                                  \
  grpc::ClientAsyncResponseReaderInterface<pb::Method##Response>* Async##Method##Raw(        \
      grpc::ClientContext* context, const pb::Method##Request& request,                      \
      grpc::CompletionQueue* queue) override {                                               \
    return channel_->Async##Method(context, request, queue).release();                       \
  }                                                                                          \
  grpc::ClientAsyncResponseReaderInterface<pb::Method##Response>* PrepareAsync##Method##Raw( \
      grpc::ClientContext* context, const pb::Method##Request& request,                      \
      grpc::CompletionQueue* queue) override {                                               \
    return channel_->PrepareAsync##Method(context, request, queue).release();                \
  }
#define SKIFF_STREAM(Method, Request, Response)                                                 \
  grpc::ClientReaderInterface<pb::Response>* Method##Raw(grpc::ClientContext* context,          \
                                                         const pb::Request& request) override { \
    return channel_->Method(context, request).release();                                        \
  }                                                                                             \
  grpc::ClientAsyncReaderInterface<pb::Response>* Async##Method##Raw(                           \
      grpc::ClientContext* context, const pb::Request& request, grpc::CompletionQueue* queue,   \
      void* tag) override {                                                                     \
    return channel_->Async##Method(context, request, queue, tag).release();                     \
  }                                                                                             \
  grpc::ClientAsyncReaderInterface<pb::Response>* PrepareAsync##Method##Raw(                    \
      grpc::ClientContext* context, const pb::Request& request, grpc::CompletionQueue* queue)   \
      override {                                                                                \
    return channel_->PrepareAsync##Method(context, request, queue).release();                   \
  }

class RuntimeStub : public pb::RuntimeService::StubInterface {
 public:
  RuntimeStub(RuntimeService& service, const std::shared_ptr<grpc::Channel>& channel)
      : service_(service), channel_(pb::RuntimeService::NewStub(channel)) {}

  SKIFF_DIRECT(Version)
  SKIFF_DIRECT(RunPodSandbox)
  SKIFF_DIRECT(StopPodSandbox)
  SKIFF_DIRECT(RemovePodSandbox)
  SKIFF_DIRECT(PodSandboxStatus)
  SKIFF_DIRECT(ListPodSandbox)
  SKIFF_STREAM(StreamPodSandboxes, StreamPodSandboxesRequest, StreamPodSandboxesResponse)
  SKIFF_DIRECT(CreateContainer)
  SKIFF_DIRECT(StartContainer)
  SKIFF_DIRECT(StopContainer)
  SKIFF_DIRECT(RemoveContainer)
  SKIFF_DIRECT(ListContainers)
  SKIFF_STREAM(StreamContainers, StreamContainersRequest, StreamContainersResponse)
  SKIFF_DIRECT(ContainerStatus)
  SKIFF_DIRECT(UpdateContainerResources)
  SKIFF_DIRECT(ReopenContainerLog)
  SKIFF_DIRECT(ExecSync)
  SKIFF_DIRECT(Exec)
  SKIFF_DIRECT(Attach)
  SKIFF_DIRECT(PortForward)
  SKIFF_DIRECT(ContainerStats)
  SKIFF_DIRECT(ListContainerStats)
  SKIFF_STREAM(StreamContainerStats, StreamContainerStatsRequest, StreamContainerStatsResponse)
  SKIFF_DIRECT(PodSandboxStats)
  SKIFF_DIRECT(ListPodSandboxStats)
  SKIFF_STREAM(StreamPodSandboxStats, StreamPodSandboxStatsRequest, StreamPodSandboxStatsResponse)
  SKIFF_DIRECT(UpdateRuntimeConfig)
  SKIFF_DIRECT(Status)
  SKIFF_DIRECT(CheckpointContainer)
  SKIFF_STREAM(GetContainerEvents, GetEventsRequest, ContainerEventResponse)
  SKIFF_DIRECT(ListMetricDescriptors)
  SKIFF_DIRECT(ListPodSandboxMetrics)
  SKIFF_STREAM(StreamPodSandboxMetrics, StreamPodSandboxMetricsRequest,
               StreamPodSandboxMetricsResponse)
  SKIFF_DIRECT(RuntimeConfig)
  SKIFF_DIRECT(UpdatePodSandboxResources)

 private:
  RuntimeService& service_;
  std::unique_ptr<pb::RuntimeService::Stub> channel_;
};

class ImageStub : public pb::ImageService::StubInterface {
 public:
  ImageStub(ImageService& service, const std::shared_ptr<grpc::Channel>& channel)
      : service_(service), channel_(pb::ImageService::NewStub(channel)) {}

  SKIFF_DIRECT(ListImages)
  SKIFF_STREAM(StreamImages, StreamImagesRequest, StreamImagesResponse)
  SKIFF_DIRECT(ImageStatus)
  SKIFF_DIRECT(PullImage)
  SKIFF_DIRECT(RemoveImage)
  SKIFF_DIRECT(ImageFsInfo)

 private:
  ImageService& service_;
  std::unique_ptr<pb::ImageService::Stub> channel_;
};
#undef SKIFF_DIRECT
#undef SKIFF_ASYNC
#undef SKIFF_STREAM
// NOLINTEND

}  // namespace

std::shared_ptr<pb::RuntimeService::StubInterface> InProcessRuntimeStub(CriServer& server) {
  return std::make_shared<RuntimeStub>(server.runtime_service(), server.front().InProcessChannel());
}

std::shared_ptr<pb::ImageService::StubInterface> InProcessImageStub(CriServer& server) {
  return std::make_shared<ImageStub>(server.image_service(), server.front().InProcessChannel());
}

}  // namespace skiff::cri
