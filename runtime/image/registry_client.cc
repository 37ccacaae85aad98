#include "runtime/image/registry_client.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <condition_variable>
#include <nlohmann/json.hpp>

namespace skiff::runtime {
namespace {

using Json = nlohmann::json;
using std::chrono::milliseconds;

constexpr std::string_view kAccept =
    "Accept: application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json";
constexpr std::chrono::seconds kTokenLife{60};  // where the service does not say
constexpr milliseconds kLongestPause = std::chrono::seconds(10);

std::string Base64(std::string_view text) {
  std::string out((text.size() + 2) / 3 * 4 + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                     reinterpret_cast<const unsigned char*>(text.data()),
                                     static_cast<int>(text.size()));
  out.resize(static_cast<size_t>(length));
  return out;
}

std::string BasicHeader(const RegistryCredentials& credentials) {
  return "Authorization: Basic " + Base64(credentials.username + ":" + credentials.password);
}

std::string UrlEncode(std::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || c == '-' || c == '.' || c == '_' || c == '~') {
      out += c;
    } else {
      out += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out;
}

std::string HostOfUrl(const std::string& url) {
  const size_t start = url.find("://");
  const size_t from = start == std::string::npos ? 0 : start + 3;
  return url.substr(from, url.find('/', from) - from);
}

bool IsLoopbackHost(const std::string& host) {
  return host == "localhost" || host.starts_with("localhost:") || host.starts_with("127.") ||
         host == "[::1]" || host.starts_with("[::1]:");
}

// The registry's own words (distribution spec, "Error Codes"), for people.
std::string ErrorText(const HttpAnswer& answer) {
  const Json body = Json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
  std::string text = "HTTP " + std::to_string(answer.status);
  if (!body.is_object() || !body.contains("errors") || !body["errors"].is_array()) return text;
  for (const Json& error : body["errors"]) {
    if (!error.is_object()) continue;
    for (const char* key : {"code", "message"}) {
      const Json value = error.value(key, Json());
      if (value.is_string()) text += ": " + value.get<std::string>().substr(0, 300);
    }
  }
  return text;
}

Error StatusError(const RegistrySession& session, const std::string& host,
                  const HttpAnswer& answer) {
  const std::string what = session.reference.ToString() + " at " + host;
  const std::string text = ErrorText(answer);
  switch (answer.status) {
    case 404: return Error(Code::kNotFound, what + ": not found (" + text + ")");
    case 401: return Error(Code::kUnauthenticated, what + ": authorization failed (" + text + ")");
    case 403: return Error(Code::kPermissionDenied, what + ": access denied (" + text + ")");
    case 429: return Error(Code::kUnavailable, what + ": too many requests (" + text + ")");
    default:
      if (answer.status >= 500) {
        return Error(Code::kUnavailable, what + ": the registry is in trouble (" + text + ")");
      }
      return Error(Code::kInternal, what + ": unexpected answer (" + text + ")");
  }
}

bool WorthRepeating(const Result<HttpAnswer>& answer) {
  if (!answer.ok()) return answer.error().code() == Code::kUnavailable;
  return answer->status == 429 || answer->status == 408 || answer->status >= 500;
}

// What to tell when every endpoint failed: a registry's verdict says more than a dead mirror.
int Weight(const Error& error) {
  switch (error.code()) {
    case Code::kCancelled: return 5;
    case Code::kUnauthenticated:
    case Code::kPermissionDenied: return 4;
    case Code::kNotFound: return 3;
    case Code::kUnavailable: return 1;
    default: return 2;
  }
}

void KeepWeightier(std::optional<Error>* kept, Error error) {
  if (!*kept || Weight(error) >= Weight(**kept)) *kept = std::move(error);
}

}  // namespace

std::vector<AuthChallenge> ParseChallenges(std::string_view header) {
  std::vector<AuthChallenge> challenges;
  const auto skip = [&](std::string_view set) {
    header.remove_prefix(std::min(header.find_first_not_of(set), header.size()));
  };
  const auto token = [&] {
    const size_t end = std::min(header.find_first_of(" \t,=\""), header.size());
    std::string text(header.substr(0, end));
    header.remove_prefix(end);
    return text;
  };
  while (true) {
    skip(" \t,");
    if (header.empty()) return challenges;
    std::string name = token();
    if (name.empty()) return challenges;  // malformed: what came before still counts
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    skip(" \t");
    if (header.empty() || header.front() != '=') {
      challenges.push_back({name, {}});
      continue;
    }
    header.remove_prefix(1);
    skip(" \t");
    std::string value;
    if (!header.empty() && header.front() == '"') {
      header.remove_prefix(1);
      while (!header.empty() && header.front() != '"') {
        if (header.front() == '\\' && header.size() > 1) header.remove_prefix(1);
        value += header.front();
        header.remove_prefix(1);
      }
      if (!header.empty()) header.remove_prefix(1);
    } else {
      value = token();
    }
    if (challenges.empty()) return challenges;
    challenges.back().parameters[name] = value;
  }
}

const RegistryHost& RegistryClient::HostSettings(const std::string& host) const {
  static const RegistryHost kNone;
  const auto it = options_.settings.hosts.find(host);
  return it == options_.settings.hosts.end() ? kNone : it->second;
}

std::vector<RegistryClient::Endpoint> RegistryClient::Endpoints(const std::string& host) const {
  std::vector<Endpoint> endpoints;
  const RegistryHost& settings = HostSettings(options_.settings.hosts.contains(host) ? host : "*");
  for (std::string url : settings.mirrors) {
    while (url.ends_with('/')) url.pop_back();
    if (!url.ends_with("/v2")) url += "/v2";
    endpoints.push_back({HostOfUrl(url), url, "?ns=" + UrlEncode(host), false, false});
  }
  const RegistryHost& own = HostSettings(host);
  const std::string server = host == "docker.io" ? "registry-1.docker.io" : host;
  Endpoint origin{host, (own.plain_http ? "http://" : "https://") + server + "/v2", "", true,
                  false};
  origin.may_be_plain = IsLoopbackHost(host) && own.tls.ca_file.empty() && !own.plain_http;
  endpoints.push_back(origin);
  return endpoints;
}

RegistryCredentials RegistryClient::CredentialsFor(const RegistrySession& session,
                                                   const Endpoint& endpoint) const {
  if (endpoint.is_origin && !session.credentials.empty()) return session.credentials;
  return HostSettings(endpoint.host).credentials;
}

// Sends as it is, over TLS or, where a loopback registry does not speak it, without.
Result<HttpAnswer> RegistryClient::Send(const Endpoint& endpoint, HttpExchange exchange) {
  exchange.tls = HostSettings(HostOfUrl(exchange.url)).tls;
  if (!endpoint.may_be_plain || !exchange.url.starts_with("https:") ||
      HostOfUrl(exchange.url) != endpoint.host) {
    return transfers_.Run(exchange);
  }
  const auto make_plain = [&] { exchange.url.replace(0, 5, "http"); };
  {
    std::lock_guard lock(mutex_);
    const auto it = plain_hosts_.find(endpoint.host);
    if (it != plain_hosts_.end() && it->second) make_plain();
  }
  bool not_tls = false;
  auto answer = transfers_.Run(exchange, &not_tls);
  if (!not_tls) return answer;
  make_plain();
  answer = transfers_.Run(exchange);
  if (answer.ok()) {
    std::lock_guard lock(mutex_);
    plain_hosts_[endpoint.host] = true;
  }
  return answer;
}

std::optional<std::string> RegistryClient::CachedToken(const std::string& key) {
  std::lock_guard lock(mutex_);
  const auto it = tokens_.find(key);
  if (it == tokens_.end()) return std::nullopt;
  if (it->second.expires > options_.clock->Now()) return it->second.header;
  tokens_.erase(it);
  return std::nullopt;
}

Result<HttpAnswer> RegistryClient::AskOnce(const RegistrySession& session, const Endpoint& endpoint,
                                           const HttpExchange& exchange) {
  const RegistryCredentials credentials = CredentialsFor(session, endpoint);
  const std::string key =
      endpoint.base + " " + session.reference.repository + " " +
      Digest::OfBytes(credentials.username + "\n" + credentials.password + "\n" +
                      credentials.identity_token + credentials.registry_token)
          .text();
  HttpExchange first = exchange;
  const auto cached = CachedToken(key);
  if (cached) first.headers.push_back(*cached);
  HttpAnswer answer = TRY(Send(endpoint, std::move(first)));
  if (answer.status != 401) return answer;
  std::vector<AuthChallenge> challenges;
  const auto [begin, end] = answer.headers.equal_range("www-authenticate");
  for (auto it = begin; it != end; ++it) {
    for (AuthChallenge& challenge : ParseChallenges(it->second)) {
      challenges.push_back(std::move(challenge));
    }
  }
  const Token token = TRY(LogIn(session, endpoint, challenges));
  if (token.header.empty() || token.header == cached) return answer;
  HttpExchange second = exchange;
  second.headers.push_back(token.header);
  answer = TRY(Send(endpoint, std::move(second)));
  if (answer.status == 401) return answer;
  std::lock_guard lock(mutex_);
  tokens_[key] = token;
  return answer;
}

// The Authorization header that the challenges ask for; empty when we have nothing to answer with.
Result<RegistryClient::Token> RegistryClient::LogIn(const RegistrySession& session,
                                                    const Endpoint& endpoint,
                                                    const std::vector<AuthChallenge>& challenges) {
  const SteadyTime unlimited = options_.clock->Now() + std::chrono::hours(1);
  const RegistryCredentials credentials = CredentialsFor(session, endpoint);
  for (const AuthChallenge& challenge : challenges) {
    if (challenge.scheme == "bearer") {
      if (!credentials.registry_token.empty()) {
        return Token{"Authorization: Bearer " + credentials.registry_token, unlimited};
      }
      return FetchToken(session, endpoint, challenge);
    }
    if (challenge.scheme == "basic" && !credentials.username.empty()) {
      return Token{BasicHeader(credentials), unlimited};
    }
  }
  return Token();
}

// Docker's token protocol (distribution docs, "Token Authentication"); with an identity token its
// OAuth2 form.
Result<RegistryClient::Token> RegistryClient::FetchToken(const RegistrySession& session,
                                                         const Endpoint& endpoint,
                                                         const AuthChallenge& challenge) {
  const auto parameter = [&](const char* name) {
    const auto it = challenge.parameters.find(name);
    return it == challenge.parameters.end() ? std::string() : it->second;
  };
  const std::string realm = parameter("realm");
  const RegistryCredentials credentials = CredentialsFor(session, endpoint);
  if (!realm.starts_with("https://") &&
      !(realm.starts_with("http://") &&
        (!endpoint.base.starts_with("https:") || endpoint.may_be_plain || credentials.empty()))) {
    return Error(Code::kUnauthenticated,
                 endpoint.host + " names a token service without TLS: " + realm.substr(0, 200));
  }
  std::string scope = parameter("scope");
  if (scope.empty()) scope = "repository:" + session.reference.repository + ":pull";
  HttpExchange exchange;
  exchange.cancelled = session.cancelled;
  const std::string query =
      "service=" + UrlEncode(parameter("service")) + "&scope=" + UrlEncode(scope);
  if (!credentials.identity_token.empty()) {
    exchange.method = HttpExchange::Method::kPost;
    exchange.url = realm;
    exchange.body = query + "&grant_type=refresh_token&client_id=skiff&refresh_token=" +
                    UrlEncode(credentials.identity_token);
  } else {
    exchange.url = realm + (realm.find('?') == std::string::npos ? "?" : "&") + query;
    if (!credentials.username.empty()) exchange.headers.push_back(BasicHeader(credentials));
  }
  const HttpAnswer answer = TRY(Send(endpoint, exchange).With("token service"));
  if (answer.status != 200) {
    return StatusError(session, "the token service of " + endpoint.host, answer);
  }
  const Json body = Json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
  for (const char* name : {"token", "access_token"}) {
    if (!body.is_object() || !body.value(name, Json()).is_string()) continue;
    const Json life = body.value("expires_in", Json());
    const std::chrono::seconds seconds(life.is_number_integer()
                                           ? std::clamp<int64_t>(life.get<int64_t>(), 5, 86400)
                                           : kTokenLife.count());
    return Token{"Authorization: Bearer " + body[name].get<std::string>(),
                 options_.clock->Now() + seconds * 9 / 10};
  }
  return Error(Code::kUnavailable, "the token service of " + endpoint.host + " gave no token");
}

// Waits before the next attempt, as long as the registry asks for (up to a bound).
Result<> RegistryClient::Pause(const RegistrySession& session, int attempt,
                               const HttpAnswer* answer) const {
  milliseconds pause = options_.retry_delay * (1 << attempt);
  int seconds = 0;
  const std::string after = answer != nullptr ? answer->Header("retry-after") : "";
  if (std::from_chars(after.data(), after.data() + after.size(), seconds).ec == std::errc() &&
      seconds > 0) {
    pause = std::chrono::seconds(seconds);
  }
  pause = std::min(pause, kLongestPause);
  std::mutex mutex;
  std::condition_variable never;
  std::unique_lock lock(mutex);
  const auto is_cancelled = [&] { return session.cancelled != nullptr && *session.cancelled; };
  for (milliseconds waited{0}; waited < pause && !is_cancelled(); waited += milliseconds(50)) {
    never.wait_for(lock, std::min(milliseconds(50), pause - waited));
  }
  if (is_cancelled()) return Error(Code::kCancelled, session.reference.ToString() + ": cancelled");
  return {};
}

Result<HttpAnswer> RegistryClient::Ask(const RegistrySession& session, const Endpoint& endpoint,
                                       HttpExchange exchange) {
  exchange.cancelled = session.cancelled;
  for (int attempt = 0;; ++attempt) {
    auto answer = AskOnce(session, endpoint, exchange);
    if (!WorthRepeating(answer) || attempt + 1 >= options_.attempts) return answer;
    TRY(Pause(session, attempt, answer.ok() ? &*answer : nullptr));
  }
}

Result<RegistryDocument> RegistryClient::FetchManifest(const RegistrySession& session,
                                                       const std::string& tag_or_digest) {
  std::optional<Error> worst;
  const auto wanted = Digest::Parse(tag_or_digest);
  for (const Endpoint& endpoint : Endpoints(session.reference.host)) {
    HttpExchange exchange;
    exchange.url = endpoint.base + "/" + session.reference.repository + "/manifests/" +
                   tag_or_digest + endpoint.suffix;
    exchange.headers = {std::string(kAccept)};
    auto answer = Ask(session, endpoint, std::move(exchange));
    if (!answer.ok()) {
      KeepWeightier(&worst, std::move(answer).error());
      continue;
    }
    if (answer->status != 200) {
      KeepWeightier(&worst, StatusError(session, endpoint.host, *answer));
      continue;
    }
    Hasher hasher(wanted.ok() ? wanted->algorithm() : "sha256");
    hasher.Update(answer->body);
    RegistryDocument document{std::move(answer->body), answer->Header("content-type"),
                              hasher.Finish()};
    if (wanted.ok() && document.digest != *wanted) {
      KeepWeightier(&worst, Error(Code::kDataLoss,
                                  endpoint.host + " gave other bytes than " + wanted->text()));
      continue;
    }
    return document;
  }
  return *std::move(worst);
}

Result<Digest> RegistryClient::ResolveTag(const RegistrySession& session) {
  std::optional<Error> worst;
  for (const Endpoint& endpoint : Endpoints(session.reference.host)) {
    HttpExchange exchange;
    exchange.method = HttpExchange::Method::kHead;
    exchange.url = endpoint.base + "/" + session.reference.repository + "/manifests/" +
                   session.reference.tag + endpoint.suffix;
    exchange.headers = {std::string(kAccept)};
    auto answer = Ask(session, endpoint, std::move(exchange));
    if (!answer.ok()) {
      KeepWeightier(&worst, std::move(answer).error());
    } else if (answer->status != 200) {
      KeepWeightier(&worst, StatusError(session, endpoint.host, *answer));
    } else {
      auto digest = Digest::Parse(answer->Header("docker-content-digest"));
      return digest.ok() ? *digest : Digest();
    }
  }
  return *std::move(worst);
}

Result<> RegistryClient::FetchBlob(const RegistrySession& session, const Descriptor& blob,
                                   const ByteSink& sink) {
  uint64_t done = 0;
  std::optional<Error> sink_error;
  std::optional<Error> worst;
  for (const Endpoint& endpoint : Endpoints(session.reference.host)) {
    for (int attempt = 0; attempt < options_.attempts;) {
      const uint64_t before = done;
      HttpExchange exchange;
      exchange.url = endpoint.base + "/" + session.reference.repository + "/blobs/" +
                     blob.digest.text() + endpoint.suffix;
      exchange.offset = done;
      exchange.cancelled = session.cancelled;
      exchange.sink = [&](std::string_view bytes) -> Result<> {
        if (bytes.size() > blob.size_bytes - done) {
          sink_error = Error(Code::kDataLoss,
                             "blob " + blob.digest.text() + " is longer than its descriptor says");
          return *sink_error;
        }
        if (auto taken = sink(bytes); !taken.ok()) {
          sink_error = std::move(taken).error();
          return *sink_error;
        }
        done += bytes.size();
        return {};
      };
      auto answer = AskOnce(session, endpoint, exchange);
      if (sink_error) return *std::move(sink_error);
      const bool good = answer.ok() && (answer->status == 200 || answer->status == 206);
      if (good && done == blob.size_bytes) return {};
      if (good) answer = Error(Code::kUnavailable, endpoint.host + " cut the blob short");
      const bool again = WorthRepeating(answer);
      KeepWeightier(&worst, answer.ok() ? StatusError(session, endpoint.host, *answer)
                                        : Error(answer.error()));
      if (!again) break;
      attempt = done > before ? 0 : attempt + 1;  // a transfer that gets on may go on
      TRY(Pause(session, attempt, answer.ok() ? &*answer : nullptr));
    }
    if (worst && worst->code() == Code::kCancelled) break;
  }
  return *std::move(worst);
}

}  // namespace skiff::runtime
