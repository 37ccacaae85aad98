#include "runtime/image/http_transfer.h"

#include <curl/curl.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <cctype>
#include <mutex>
#include <optional>

namespace skiff::runtime {
namespace {

constexpr size_t kMaxBody = 4 << 20;
constexpr size_t kMaxErrorBody = 64 << 10;
constexpr size_t kMaxHeaderBytes = 256 << 10;
constexpr long kConnectSeconds = 15;
// Slower than this for this long is a dead peer.
constexpr long kStallBytesPerSecond = 10;
constexpr long kStallSeconds = 45;
constexpr size_t kMaxIdleHandles = 8;

struct HeaderListDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// What the callbacks of one transfer share.
struct Progress {
  const HttpExchange* exchange;
  CURL* handle;
  HttpAnswer answer;
  size_t header_bytes = 0;
  std::optional<Error> sink_error;
  uint64_t to_skip = 0;  // of a whole answer to a request for a part
  bool skip_decided = false;
};

size_t OnHeader(char* data, size_t size, size_t count, void* user) {
  auto* progress = static_cast<Progress*>(user);
  std::string_view line(data, size * count);
  progress->header_bytes += line.size();
  if (progress->header_bytes > kMaxHeaderBytes) return 0;
  if (line.starts_with("HTTP/")) {  // another answer, after a redirect
    progress->answer.headers.clear();
    return size * count;
  }
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return size * count;
  std::string name(line.substr(0, colon));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  line.remove_prefix(colon + 1);
  const size_t first = line.find_first_not_of(" \t");
  const size_t last = line.find_last_not_of(" \t\r\n");
  progress->answer.headers.emplace(
      name, first == std::string_view::npos || last == std::string_view::npos || last < first
                ? ""
                : line.substr(first, last - first + 1));
  return size * count;
}

size_t OnBody(char* data, size_t size, size_t count, void* user) {
  auto* progress = static_cast<Progress*>(user);
  std::string_view bytes(data, size * count);
  long status = 0;
  curl_easy_getinfo(progress->handle, CURLINFO_RESPONSE_CODE, &status);
  const bool good = status == 200 || status == 206;
  if (!progress->exchange->sink || !good) {
    std::string& body = progress->answer.body;
    const size_t limit = good ? kMaxBody : kMaxErrorBody;
    if (body.size() + bytes.size() > limit) {
      if (good) return 0;  // a document too large is refused
      bytes = bytes.substr(0, limit - body.size());
    }
    body.append(bytes);
    return size * count;
  }
  if (!progress->skip_decided) {
    progress->skip_decided = true;
    progress->to_skip = status == 200 ? progress->exchange->offset : 0;
  }
  const uint64_t skipped = std::min<uint64_t>(progress->to_skip, bytes.size());
  progress->to_skip -= skipped;
  bytes.remove_prefix(skipped);
  if (bytes.empty()) return size * count;
  if (auto taken = progress->exchange->sink(bytes); !taken.ok()) {
    progress->sink_error = std::move(taken).error();
    return 0;
  }
  return size * count;
}

int OnProgress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  const auto* cancelled = static_cast<Progress*>(user)->exchange->cancelled;
  return cancelled != nullptr && cancelled->load() ? 1 : 0;
}

// Trusts a further CA file besides the system's.
CURLcode OnTls(CURL*, void* context, void* user) {
  const auto* ca_file = static_cast<const std::string*>(user);
  return SSL_CTX_load_verify_locations(static_cast<SSL_CTX*>(context), ca_file->c_str(), nullptr) ==
                 1
             ? CURLE_OK
             : CURLE_SSL_CACERT_BADFILE;
}

bool IsLoopbackUrl(const std::string& url) {
  const size_t at = url.find("://");
  const std::string_view rest = std::string_view(url).substr(at == std::string::npos ? 0 : at + 3);
  return rest.starts_with("localhost") || rest.starts_with("127.") || rest.starts_with("[::1]");
}

void SetOptions(CURL* handle, const HttpExchange& exchange, Progress* progress,
                const curl_slist* headers) {
  curl_easy_setopt(handle, CURLOPT_URL, exchange.url.c_str());
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  // A redirect must not lead from TLS to plain text.
  curl_easy_setopt(handle, CURLOPT_REDIR_PROTOCOLS_STR,
                   exchange.url.starts_with("https:") ? "https" : "http,https");
  curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(handle, CURLOPT_MAXREDIRS, 10L);
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, kStallBytesPerSecond);
  curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME, kStallSeconds);
  curl_easy_setopt(handle, CURLOPT_USERAGENT, "skiff");
  curl_easy_setopt(handle, CURLOPT_BUFFERSIZE, 256L << 10);
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
  if (IsLoopbackUrl(exchange.url)) curl_easy_setopt(handle, CURLOPT_PROXY, "");
  curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, OnHeader);
  curl_easy_setopt(handle, CURLOPT_HEADERDATA, progress);
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, OnBody);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, progress);
  curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, OnProgress);
  curl_easy_setopt(handle, CURLOPT_XFERINFODATA, progress);
  curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(handle, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  const RegistryTls& tls = exchange.tls;
  if (tls.insecure_skip_verify) {
    curl_easy_setopt(handle, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(handle, CURLOPT_SSL_VERIFYHOST, 0L);
  }
  if (!tls.ca_file.empty()) {
    curl_easy_setopt(handle, CURLOPT_SSL_CTX_FUNCTION, OnTls);
    curl_easy_setopt(handle, CURLOPT_SSL_CTX_DATA, const_cast<std::string*>(&tls.ca_file));
  }
  if (!tls.cert_file.empty()) {
    curl_easy_setopt(handle, CURLOPT_SSLCERT, tls.cert_file.c_str());
    curl_easy_setopt(handle, CURLOPT_SSLKEY, tls.key_file.c_str());
  }
  if (exchange.method == HttpExchange::Method::kHead) curl_easy_setopt(handle, CURLOPT_NOBODY, 1L);
  if (exchange.method == HttpExchange::Method::kPost) {
    curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE, static_cast<long>(exchange.body.size()));
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS, exchange.body.c_str());
  }
  if (exchange.offset > 0) {
    const std::string range = std::to_string(exchange.offset) + "-";
    curl_easy_setopt(handle, CURLOPT_RANGE, range.c_str());  // copied by libcurl
  }
}

Error TransferError(CURLcode code, const HttpExchange& exchange, const char* detail) {
  // A token may stand in the query of a redirect's target, but not in our own URLs.
  const std::string text = exchange.url.substr(0, exchange.url.find('?')) + ": " +
                           (*detail != '\0' ? detail : curl_easy_strerror(code));
  switch (code) {
    case CURLE_ABORTED_BY_CALLBACK: return Error(Code::kCancelled, text);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE: return Error(Code::kPermissionDenied, text);
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_TOO_MANY_REDIRECTS: return Error(Code::kInvalidArgument, text);
    case CURLE_WRITE_ERROR: return Error(Code::kInvalidArgument, text + " (answer too large)");
    default: return Error(Code::kUnavailable, text);
  }
}

}  // namespace

std::string HttpAnswer::Header(const std::string& name) const {
  const auto it = headers.find(name);
  return it == headers.end() ? "" : it->second;
}

struct HttpTransfers::Pool {
  std::mutex mutex;
  std::vector<CURL*> idle;

  CURL* Take() {
    {
      std::lock_guard lock(mutex);
      if (!idle.empty()) {
        CURL* handle = idle.back();
        idle.pop_back();
        return handle;
      }
    }
    CURL* handle = curl_easy_init();
    CHECK(handle != nullptr);
    return handle;
  }
  void Give(CURL* handle) {
    curl_easy_reset(handle);  // keeps the connections
    std::lock_guard lock(mutex);
    if (idle.size() < kMaxIdleHandles) {
      idle.push_back(handle);
    } else {
      curl_easy_cleanup(handle);
    }
  }
  ~Pool() {
    for (CURL* handle : idle) curl_easy_cleanup(handle);
  }
};

HttpTransfers::HttpTransfers() : pool_(std::make_unique<Pool>()) {
  static std::once_flag once;
  std::call_once(once, [] { CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK); });
}

HttpTransfers::~HttpTransfers() = default;

Result<HttpAnswer> HttpTransfers::Run(const HttpExchange& exchange, bool* not_tls) {
  CURL* handle = pool_->Take();
  curl_slist* list = nullptr;
  for (const std::string& header : exchange.headers) {
    list = curl_slist_append(list, header.c_str());
  }
  const std::unique_ptr<curl_slist, HeaderListDeleter> headers(list);
  Progress progress{&exchange, handle, {}};
  SetOptions(handle, exchange, &progress, headers.get());
  char detail[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, detail);
  const CURLcode code = curl_easy_perform(handle);
  long status = 0;
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
  pool_->Give(handle);
  if (not_tls != nullptr) *not_tls = code == CURLE_SSL_CONNECT_ERROR;
  if (progress.sink_error) return *std::move(progress.sink_error);
  if (code != CURLE_OK) return TransferError(code, exchange, detail);
  progress.answer.status = static_cast<int>(status);
  return std::move(progress.answer);
}

}  // namespace skiff::runtime
