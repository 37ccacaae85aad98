#include "control-plane/api/server.h"

#include <google/protobuf/message.h>

#include "control-plane/api/bootstrap.h"
#include "control-plane/api/cache/watch_cache.h"
#include "control-plane/api/compactor.h"
#include "control-plane/api/local_client.h"
#include "control-plane/api/registry/registry.h"
#include "control-plane/api/rest/router.h"
#include "proto/k8s/core/v1/service.pb.h"

namespace skiff::cp {
namespace {

std::string ServerAddress(const ApiServerOptions& options) {
  const std::string& host = options.advertise_address;
  const bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(options.advertise_port);
}

// Owns the parts in the order in which they use one another.
class ApiServerHere final : public ApiServer {
 public:
  ApiServerHere(const Deps& deps, std::unique_ptr<WatchCache> cache,
                std::unique_ptr<ServiceAllocator> services, const ApiServerOptions& options)
      : cache_(std::move(cache)),
        services_(std::move(services)),
        registry_({deps.store, deps.kinds, *cache_, *services_, deps.clock}),
        client_(MakeLocalClient(registry_, deps.kinds)),
        router_(std::make_shared<Router>(
            RestDeps{registry_, deps.kinds, deps.workers, deps.tunnels, deps.clock},
            RouterOptions{ServerAddress(options), options.skiff_version, options.max_inflight,
                          deps.openapi})),
        compactor_(deps.store, deps.workers, options.compact_after) {}

  Client& client() override { return *client_; }
  http::Handler handler() override {
    return [router = router_](http::Request request, std::shared_ptr<http::ResponseWriter> writer) {
      router->Handle(std::move(request), std::move(writer));
    };
  }
  void BeginShutdown() override { router_->BeginShutdown(); }

  ServiceAllocator& services() { return *services_; }
  WatchCache& cache() { return *cache_; }

 private:
  const std::unique_ptr<WatchCache> cache_;
  const std::unique_ptr<ServiceAllocator> services_;
  Registry registry_;
  const std::unique_ptr<Client> client_;
  const std::shared_ptr<Router> router_;
  Compactor compactor_;
};

Result<void> RepairServices(ApiServerHere& server, const Kinds& kinds) {
  const KindInfo* services = kinds.FindResource("", "v1", "services");
  if (services == nullptr) return {};
  CacheSnapshot snapshot = server.cache().List(*services, "");
  std::vector<const k8s::core::v1::Service*> stored;
  for (const auto& object : snapshot.objects) {
    stored.push_back(static_cast<const k8s::core::v1::Service*>(object->object.get()));
  }
  return server.services().Repair(stored);
}

}  // namespace

Result<std::unique_ptr<ApiServer>> ApiServer::Open(Deps deps, ApiServerOptions options) {
  auto cache = TRY(WatchCache::Start(deps.store, deps.kinds));
  auto services = TRY(ServiceAllocator::Open(
      deps.store, {options.service_cidrs, options.first_node_port, options.last_node_port}));
  auto server =
      std::make_unique<ApiServerHere>(deps, std::move(cache), std::move(services), options);
  TRY(RepairServices(*server, deps.kinds));
  TRY(Bootstrap(server->client(), {server->services().FirstAddress(), options.advertise_address,
                                   options.advertise_port, options.dns_addresses})
          .With("make the objects of the cluster"));
  return std::unique_ptr<ApiServer>(std::move(server));
}

http::Response ApiServer::ErrorResponse(int status, std::string_view detail) {
  ApiError error = status == 413 ? ApiError::TooLarge(detail) : ApiError::BadRequest(detail);
  if (status == 408) error.reason = "Timeout";
  if (status == 431) error.reason = "RequestHeaderFieldsTooLarge";
  if (status == 500) error = ApiError::Internal(detail);
  error.http_code = status;
  return AnswerError(error, Format::kJson);
}

}  // namespace skiff::cp
