#include "cri/server.h"

#include <mutex>

#include "base/async/elastic_pool.h"
#include "base/os/files.h"
#include "cri/grpc_front.h"
#include "cri/image_service.h"
#include "cri/network_upkeep.h"
#include "cri/runtime_service.h"
#include "cri/streaming_server.h"

namespace skiff::cri {
namespace {

// Calls that block at the same time: containers that take their grace to stop, pulls, execs.
constexpr int kMaxBlockingThreads = 256;
// Lists, statuses and figures.
constexpr int kMaxReadingThreads = 8;

}  // namespace

// In the order of making; destroyed the other way round.
struct CriServer::Parts {
  ThreadPool timers{"cri-timers", 1};
  ElasticPool blocking{"cri", kMaxBlockingThreads, timers};
  ElasticPool reading{"cri-read", kMaxReadingThreads, timers};
  Strand exits{blocking};  // keeps exits in their order

  // Exits that the runtime reports while it opens wait for the service.
  std::mutex mutex;
  std::vector<runtime::ExitEvent> early_exits;
  RuntimeService* exit_receiver = nullptr;

  std::unique_ptr<runtime::ImageStore> images;
  std::unique_ptr<runtime::Runtime> runtime;
  std::unique_ptr<StreamingServer> streaming;
  std::unique_ptr<RuntimeService> runtime_service;
  std::unique_ptr<ImageService> image_service;
  std::unique_ptr<GrpcFront> front;
  std::unique_ptr<NetworkUpkeep> upkeep;

  ~Parts() {
    if (front) front->Stop();
    reading.Stop();
    blocking.Stop();  // what runs there uses all of the below
    streaming.reset();
    runtime.reset();
    timers.Stop();
  }

  void OnExit(const runtime::ExitEvent& event) {
    const std::lock_guard lock(mutex);
    if (exit_receiver == nullptr) {
      early_exits.push_back(event);
    } else {
      exits.Post([receiver = exit_receiver, event] { receiver->OnExit(event); });
    }
  }
  void ReleaseExits() {
    const std::lock_guard lock(mutex);
    exit_receiver = runtime_service.get();
    for (const runtime::ExitEvent& event : early_exits) {
      exits.Post([receiver = exit_receiver, event] { receiver->OnExit(event); });
    }
    early_exits.clear();
  }
};

CriServer::CriServer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
CriServer::~CriServer() = default;

Result<std::unique_ptr<CriServer>> CriServer::Start(CriOptions options) {
  CHECK(options.network != nullptr);
  auto parts = std::make_unique<Parts>();
  TRY(MakeDirectories(options.state_dir, 0711));
  parts->images = TRY(runtime::ImageStore::Open(options.images).With("image store"));
  parts->runtime =
      TRY(runtime::Runtime::Open(options.runtime, [parts = parts.get()](const auto& event) {
            parts->OnExit(event);
          }).With("runtime"));
  parts->streaming =
      TRY(StreamingServer::Start(options.streaming_address, *parts->runtime, parts->blocking)
              .With("streaming server"));
  parts->runtime_service = std::make_unique<RuntimeService>(RuntimeService::Deps{
      parts->runtime.get(), parts->images.get(), options.network, parts->streaming.get(),
      &parts->blocking, options.state_dir, options.version, options.logs, options.cdi_dirs});
  TRY(parts->runtime_service->Recover().With("recovery"));
  parts->ReleaseExits();
  parts->image_service = std::make_unique<ImageService>(*parts->images);
  parts->front =
      TRY(GrpcFront::Start(options.socket, *parts->runtime_service, *parts->image_service,
                           *parts->images, CallExecutors{parts->blocking, parts->reading}));
  parts->upkeep = std::make_unique<NetworkUpkeep>(*options.network, parts->blocking);
  return std::unique_ptr<CriServer>(new CriServer(std::move(parts)));
}

Result<> CriServer::RemoveAll() { return parts_->runtime_service->RemoveAll(); }
RuntimeService& CriServer::runtime_service() { return *parts_->runtime_service; }
ImageService& CriServer::image_service() { return *parts_->image_service; }
GrpcFront& CriServer::front() { return *parts_->front; }
runtime::ImageStore& CriServer::images() { return *parts_->images; }

}  // namespace skiff::cri
