// One HTTP exchange with a registry, over libcurl.
//
// Follows redirects (never carrying the Authorization header to another host), honours the proxy
// environment variables save for loopback hosts, and hands a good answer's body to a sink as it
// comes. Blocks; thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runtime/image/registry_settings.h"

namespace skiff::runtime {

// Takes the next bytes; an error ends the transfer and is its outcome.
using ByteSink = std::function<Result<>(std::string_view)>;

struct HttpExchange {
  enum class Method { kGet, kHead, kPost };
  Method method = Method::kGet;
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  std::string body;                  // kPost
  uint64_t offset = 0;               // ask for the bytes from here on; the sink gets only those
  RegistryTls tls;
  ByteSink sink;  // unset: the body goes to HttpAnswer::body
  const std::atomic<bool>* cancelled = nullptr;
};

struct HttpAnswer {
  int status = 0;
  std::multimap<std::string, std::string> headers;  // names in lower case
  std::string body;  // at most 4 MiB, and without a sink; with one: an error answer's, 64 KiB
  // The first header of that name, or "".
  std::string Header(const std::string& name) const;
};

class HttpTransfers {
 public:
  HttpTransfers();
  ~HttpTransfers();
  HttpTransfers(const HttpTransfers&) = delete;
  HttpTransfers& operator=(const HttpTransfers&) = delete;

  // Any status is a success. Unavailable: no answer, or it broke off. PermissionDenied: the
  // server's certificate is not trusted. Cancelled. The sink's own error. not_tls, where given,
  // tells that the server does not speak TLS.
  Result<HttpAnswer> Run(const HttpExchange& exchange, bool* not_tls = nullptr);

 private:
  struct Pool;  // idle handles, with their connections
  std::unique_ptr<Pool> pool_;
};

}  // namespace skiff::runtime
