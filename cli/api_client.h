// ApiClient: the few API calls that the command line makes, over HTTPS (libcurl).
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "cli/kubeconfig.h"

namespace skiff::cli {

// Blocking; not to be shared between threads.
class ApiClient {
 public:
  explicit ApiClient(Kubeconfig config) : config_(std::move(config)) {}

  // The response body. Errors carry the server's own message: NotFound (404), AlreadyExists or
  // Conflict (409), PermissionDenied (403), Unauthenticated (401), InvalidArgument (400, 422),
  // Unavailable (no connection, 5xx).
  Result<std::string> Get(const std::string& path) { return Call("GET", path, {}); }
  Result<std::string> Post(const std::string& path, std::string_view json) {
    return Call("POST", path, json);
  }
  Result<std::string> Delete(const std::string& path) { return Call("DELETE", path, {}); }

  const Kubeconfig& config() const { return config_; }

 private:
  Result<std::string> Call(const char* method, const std::string& path, std::string_view json);
  Kubeconfig config_;
};

}  // namespace skiff::cli
