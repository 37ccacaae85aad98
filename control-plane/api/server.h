// ApiServer: the Kubernetes API over a Store: REST for clients outside, a Client for the rest of
// the control plane.
//
//   auto api = TRY(ApiServer::Open({store, kinds, workers, tunnels}, options));
//   auto http = TRY(http::Server::Start(http_options, api->handler(), workers));
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/async/executor.h"
#include "base/clock.h"
#include "base/http/server.h"
#include "base/result.h"
#include "control-plane/api/client.h"
#include "control-plane/api/kind.h"
#include "control-plane/api/node_tunnels.h"
#include "control-plane/store/store.h"

namespace skiff::cp {

struct ApiServerOptions {
  // One, or one of each family; the first one's family is Services' default.
  std::vector<std::string> service_cidrs = {"10.96.0.0/16"};
  std::vector<std::string> dns_addresses;  // of the kube-dns Service; empty: none
  int first_node_port = 30000;
  int last_node_port = 32767;
  // Where clients and pods reach this server: the endpoint of the kubernetes Service.
  std::string advertise_address = "127.0.0.1";
  int advertise_port = 6443;
  std::string skiff_version = "0.1.0";
  // Requests at once, watches apart; more are answered 429.
  int max_inflight = 400;
  // How long superseded versions stay readable: continue tokens and old watches live that long.
  std::chrono::seconds compact_after{300};
};

// Thread-safe.
class ApiServer {
 public:
  struct Deps {
    Store& store;
    const Kinds& kinds;
    // For handlers, which block on the store, and for encoding watches.
    Executor& workers;
    NodeTunnels* tunnels = nullptr;
    const Clock& clock = Clock::Real();
    // Answers /openapi/v2 and /openapi/v3/...; nothing for paths it does not know.
    std::function<std::optional<http::Response>(const http::Request& request)> openapi;
  };
  // Loads the watch cache, repairs allocations, and makes the objects every cluster has. All of
  // Deps must outlive the server.
  static Result<std::unique_ptr<ApiServer>> Open(Deps deps, ApiServerOptions options);
  virtual ~ApiServer() = default;

  virtual Client& client() = 0;
  // Valid as long as this; gives an answer to each request.
  virtual http::Handler handler() = 0;
  // For http::ServerOptions::error_response.
  static http::Response ErrorResponse(int status, std::string_view detail);
  // From now on /readyz says no: before the HTTP server stops.
  virtual void BeginShutdown() = 0;
};

}  // namespace skiff::cp
