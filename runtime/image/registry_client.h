// RegistryClient: the pull half of the OCI distribution protocol (and Docker's registry v2).
//
// For each registry host the configured mirrors are tried in order, then the host itself. Logs in
// as the registry asks (Basic, or a bearer token from its token service), tries again what failed
// for want of a connection, and resumes a broken blob where it broke, on the next endpoint if need
// be. Blocks; thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "runtime/image/http_transfer.h"
#include "runtime/image/manifest.h"
#include "runtime/image/reference.h"
#include "runtime/image/registry_settings.h"

namespace skiff::runtime {

// What all requests of one pull have in common.
struct RegistrySession {
  ImageReference reference;
  RegistryCredentials credentials;  // for the reference's own host, before the settings'
  const std::atomic<bool>* cancelled = nullptr;
};

struct RegistryDocument {
  std::string bytes;
  std::string media_type;
  Digest digest;
};

// One challenge of a WWW-Authenticate header (RFC 9110, 11.6.1).
struct AuthChallenge {
  std::string scheme;  // lower case
  std::map<std::string, std::string> parameters;
};
std::vector<AuthChallenge> ParseChallenges(std::string_view header);

class RegistryClient {
 public:
  struct Options {
    RegistrySettings settings;
    int attempts = 4;                            // of each request, per endpoint
    std::chrono::milliseconds retry_delay{250};  // doubled each time
    const Clock* clock = &Clock::Real();
  };
  explicit RegistryClient(Options options) : options_(std::move(options)) {}

  // NotFound: no such repository, tag or digest. Unauthenticated, PermissionDenied: the registry
  // refuses. Unavailable: no endpoint answered. DataLoss: not the bytes of the digest asked for.
  Result<RegistryDocument> FetchManifest(const RegistrySession& session,
                                         const std::string& tag_or_digest);
  // What a tag means now, without fetching the manifest; empty where the registry does not say.
  Result<Digest> ResolveTag(const RegistrySession& session);
  // The blob's bytes, in order and each once. The caller checks their digest.
  Result<> FetchBlob(const RegistrySession& session, const Descriptor& blob, const ByteSink& sink);

 private:
  struct Endpoint {
    std::string host;    // "mirror.example:5000": the key of its settings
    std::string base;    // "https://mirror.example:5000/v2"
    std::string suffix;  // "?ns=docker.io" for mirrors
    bool is_origin = false;
    bool may_be_plain = false;  // loopback without settings: plain HTTP where TLS is not spoken
  };
  struct Token {
    std::string header;  // "Authorization: Bearer …"
    SteadyTime expires;
  };

  std::vector<Endpoint> Endpoints(const std::string& host) const;
  const RegistryHost& HostSettings(const std::string& host) const;
  RegistryCredentials CredentialsFor(const RegistrySession& session,
                                     const Endpoint& endpoint) const;
  Result<HttpAnswer> Ask(const RegistrySession& session, const Endpoint& endpoint,
                         HttpExchange exchange);
  Result<HttpAnswer> AskOnce(const RegistrySession& session, const Endpoint& endpoint,
                             const HttpExchange& exchange);
  Result<HttpAnswer> Send(const Endpoint& endpoint, HttpExchange exchange);
  Result<Token> LogIn(const RegistrySession& session, const Endpoint& endpoint,
                      const std::vector<AuthChallenge>& challenges);
  Result<Token> FetchToken(const RegistrySession& session, const Endpoint& endpoint,
                           const AuthChallenge& challenge);
  std::optional<std::string> CachedToken(const std::string& key);
  Result<> Pause(const RegistrySession& session, int attempt, const HttpAnswer* answer) const;

  const Options options_;
  HttpTransfers transfers_;
  std::mutex mutex_;  // guards the two below
  std::map<std::string, Token> tokens_;
  std::map<std::string, bool> plain_hosts_;
};

}  // namespace skiff::runtime
