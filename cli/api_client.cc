#include "cli/api_client.h"

#include <curl/curl.h>

#include <memory>
#include <nlohmann/json.hpp>

namespace skiff::cli {

namespace {

constexpr size_t kMaxBodyBytes = 16 << 20;
constexpr long kConnectSeconds = 10;
constexpr long kTotalSeconds = 60;

struct CurlDeleter {
  void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

size_t Collect(char* data, size_t size, size_t count, void* target) {
  auto* body = static_cast<std::string*>(target);
  if (body->size() + size * count > kMaxBodyBytes) return 0;
  body->append(data, size * count);
  return size * count;
}

void SetBlob(CURL* curl, CURLoption option, const std::string& pem) {
  if (pem.empty()) return;
  curl_blob blob{const_cast<char*>(pem.data()), pem.size(), CURL_BLOB_NOCOPY};
  curl_easy_setopt(curl, option, &blob);
}

Code CodeOf(long status) {
  switch (status) {
    case 400:
    case 422: return Code::kInvalidArgument;
    case 401: return Code::kUnauthenticated;
    case 403: return Code::kPermissionDenied;
    case 404: return Code::kNotFound;
    case 409: return Code::kAlreadyExists;
    case 429: return Code::kResourceExhausted;
    default: return status >= 500 ? Code::kUnavailable : Code::kInternal;
  }
}

// The message of a v1.Status, or the status code.
std::string MessageOf(const std::string& body, long status) {
  nlohmann::json json = nlohmann::json::parse(body, nullptr, false);
  if (json.is_object() && json.contains("message") && json["message"].is_string()) {
    return json["message"].get<std::string>();
  }
  return "HTTP status " + std::to_string(status);
}

}  // namespace

Result<std::string> ApiClient::Call(const char* method, const std::string& path,
                                    std::string_view json) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  std::unique_ptr<CURL, CurlDeleter> owner(ready == CURLE_OK ? curl_easy_init() : nullptr);
  CURL* curl = owner.get();
  if (curl == nullptr) return Error(Code::kInternal, "libcurl does not start");
  std::string body, url = config_.server + path;
  char problem[CURL_ERROR_SIZE] = "";
  curl_slist* list = curl_slist_append(nullptr, "Accept: application/json");
  list = curl_slist_append(list, "Content-Type: application/json");
  if (!config_.token.empty()) {
    list = curl_slist_append(list, ("Authorization: Bearer " + config_.token).c_str());
  }
  std::unique_ptr<curl_slist, CurlDeleter> headers(list);
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT, kTotalSeconds);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "skiff");
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, problem);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, Collect);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
  SetBlob(curl, CURLOPT_CAINFO_BLOB, config_.ca_pem);
  SetBlob(curl, CURLOPT_SSLCERT_BLOB, config_.certificate_pem);
  SetBlob(curl, CURLOPT_SSLKEY_BLOB, config_.key_pem);
  if (!json.empty()) {
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, json.data());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, static_cast<long>(json.size()));
  }
  if (CURLcode code = curl_easy_perform(curl); code != CURLE_OK) {
    return Error(Code::kUnavailable, "cannot reach the control plane at " + config_.server + ": " +
                                         (problem[0] != 0 ? problem : curl_easy_strerror(code)));
  }
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  if (status >= 300) return Error(CodeOf(status), MessageOf(body, status));
  return body;
}

}  // namespace skiff::cli
