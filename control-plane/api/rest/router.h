// Router: from an HTTP request to its answer: who asks, what for, whether they may, and who does
// it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "control-plane/api/rest/call.h"
#include "control-plane/api/rest/metrics.h"

namespace skiff::cp {

struct RouterOptions {
  std::string server_address;  // "10.0.0.1:6443", as discovery tells it
  std::string skiff_version;
  int max_inflight = 400;
  std::function<std::optional<http::Response>(const http::Request& request)> openapi;
};

// Thread-safe.
class Router {
 public:
  Router(RestDeps deps, RouterOptions options)
      : deps_(std::move(deps)), options_(std::move(options)) {}

  void Handle(http::Request request, std::shared_ptr<http::ResponseWriter> writer);
  void BeginShutdown() { shutting_down_ = true; }

 private:
  Answer Serve(Call& call);
  Answer ServeResource(Call& call);
  Answer ServePath(Call& call);
  http::Response ServeHealth(const http::Request& request) const;
  http::Response ServeVersion() const;
  http::Response ServeMetrics() const;

  const RestDeps deps_;
  const RouterOptions options_;
  RequestMetrics metrics_;
  std::atomic<int> inflight_{0};
  std::atomic<bool> shutting_down_{false};
};

}  // namespace skiff::cp
