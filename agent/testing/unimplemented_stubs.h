// CRI stubs that answer UNIMPLEMENTED to everything: what fakes are derived from.
#pragma once

#include "proto/cri/runtime/v1/api.grpc.pb.h"

namespace skiff::agent::testing {

namespace internal {
template <class T>
class EmptyReader : public grpc::ClientReaderInterface<T> {
 public:
  bool NextMessageSize(uint32_t*) override { return false; }
  bool Read(T*) override { return false; }
  void WaitForInitialMetadata() override {}
  grpc::Status Finish() override { return grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "fake"); }
};
}  // namespace internal

// NOLINTBEGIN: the shape is the generator's.
#define SKIFF_UNARY(Method)                                                                      \
  grpc::Status Method(grpc::ClientContext*, const ::runtime::v1::Method##Request&,               \
                      ::runtime::v1::Method##Response*) override {                               \
    return grpc::Status(grpc::StatusCode::UNIMPLEMENTED, #Method);                               \
  }                                                                                              \
  grpc::ClientAsyncResponseReaderInterface<::runtime::v1::Method##Response>* Async##Method##Raw( \
      grpc::ClientContext*, const ::runtime::v1::Method##Request&, grpc::CompletionQueue*)       \
      override {                                                                                 \
    return nullptr;                                                                              \
  }                                                                                              \
  grpc::ClientAsyncResponseReaderInterface<::runtime::v1::Method##Response>*                     \
      PrepareAsync##Method##Raw(grpc::ClientContext*, const ::runtime::v1::Method##Request&,     \
                                grpc::CompletionQueue*) override {                               \
    return nullptr;                                                                              \
  }
#define SKIFF_STREAM(Method, Request, Response)                                               \
  grpc::ClientReaderInterface<::runtime::v1::Response>* Method##Raw(                          \
      grpc::ClientContext*, const ::runtime::v1::Request&) override {                         \
    return new internal::EmptyReader<::runtime::v1::Response>();                              \
  }                                                                                           \
  grpc::ClientAsyncReaderInterface<::runtime::v1::Response>* Async##Method##Raw(              \
      grpc::ClientContext*, const ::runtime::v1::Request&, grpc::CompletionQueue*, void*)     \
      override {                                                                              \
    return nullptr;                                                                           \
  }                                                                                           \
  grpc::ClientAsyncReaderInterface<::runtime::v1::Response>* PrepareAsync##Method##Raw(       \
      grpc::ClientContext*, const ::runtime::v1::Request&, grpc::CompletionQueue*) override { \
    return nullptr;                                                                           \
  }

class UnimplementedRuntimeStub : public ::runtime::v1::RuntimeService::StubInterface {
 public:
  SKIFF_UNARY(Version)
  SKIFF_UNARY(RunPodSandbox)
  SKIFF_UNARY(StopPodSandbox)
  SKIFF_UNARY(RemovePodSandbox)
  SKIFF_UNARY(PodSandboxStatus)
  SKIFF_UNARY(ListPodSandbox)
  SKIFF_STREAM(StreamPodSandboxes, StreamPodSandboxesRequest, StreamPodSandboxesResponse)
  SKIFF_UNARY(CreateContainer)
  SKIFF_UNARY(StartContainer)
  SKIFF_UNARY(StopContainer)
  SKIFF_UNARY(RemoveContainer)
  SKIFF_UNARY(ListContainers)
  SKIFF_STREAM(StreamContainers, StreamContainersRequest, StreamContainersResponse)
  SKIFF_UNARY(ContainerStatus)
  SKIFF_UNARY(UpdateContainerResources)
  SKIFF_UNARY(ReopenContainerLog)
  SKIFF_UNARY(ExecSync)
  SKIFF_UNARY(Exec)
  SKIFF_UNARY(Attach)
  SKIFF_UNARY(PortForward)
  SKIFF_UNARY(ContainerStats)
  SKIFF_UNARY(ListContainerStats)
  SKIFF_STREAM(StreamContainerStats, StreamContainerStatsRequest, StreamContainerStatsResponse)
  SKIFF_UNARY(PodSandboxStats)
  SKIFF_UNARY(ListPodSandboxStats)
  SKIFF_STREAM(StreamPodSandboxStats, StreamPodSandboxStatsRequest, StreamPodSandboxStatsResponse)
  SKIFF_UNARY(UpdateRuntimeConfig)
  SKIFF_UNARY(Status)
  SKIFF_UNARY(CheckpointContainer)
  SKIFF_STREAM(GetContainerEvents, GetEventsRequest, ContainerEventResponse)
  SKIFF_UNARY(ListMetricDescriptors)
  SKIFF_UNARY(ListPodSandboxMetrics)
  SKIFF_STREAM(StreamPodSandboxMetrics, StreamPodSandboxMetricsRequest,
               StreamPodSandboxMetricsResponse)
  SKIFF_UNARY(RuntimeConfig)
  SKIFF_UNARY(UpdatePodSandboxResources)
};

class UnimplementedImageStub : public ::runtime::v1::ImageService::StubInterface {
 public:
  SKIFF_UNARY(ListImages)
  SKIFF_STREAM(StreamImages, StreamImagesRequest, StreamImagesResponse)
  SKIFF_UNARY(ImageStatus)
  SKIFF_UNARY(PullImage)
  SKIFF_UNARY(RemoveImage)
  SKIFF_UNARY(ImageFsInfo)
};

#undef SKIFF_UNARY
#undef SKIFF_STREAM
// NOLINTEND

}  // namespace skiff::agent::testing
