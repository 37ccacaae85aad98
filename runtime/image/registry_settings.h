// Where registries are and how to talk to them: mirrors, certificates, logins. Values; use from any
// thread.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace skiff::runtime {

struct RegistryCredentials {
  std::string username;
  std::string password;
  std::string identity_token;  // an OAuth2 refresh token, traded for a bearer token
  std::string registry_token;  // a bearer token to send as it is
  bool empty() const {
    return username.empty() && password.empty() && identity_token.empty() && registry_token.empty();
  }
};

// "dXNlcjpwYXNz" (base64 of user:pass, as in docker's config.json). InvalidArgument otherwise.
Result<RegistryCredentials> CredentialsFromBasicAuth(std::string_view base64);

struct RegistryTls {
  std::string ca_file;    // trusted besides the system's
  std::string cert_file;  // of the client
  std::string key_file;
  bool insecure_skip_verify = false;
};

// What is known of one host, "docker.io" or "10.0.0.5:5000". Without an entry a registry is spoken
// to over TLS; one on the loopback interface also without, where it does not speak TLS.
struct RegistryHost {
  std::vector<std::string> mirrors;  // URLs, tried in order before the host itself
  bool plain_http = false;
  RegistryCredentials credentials;
  RegistryTls tls;
};

struct RegistrySettings {
  std::map<std::string, RegistryHost> hosts;  // "*": mirrors for every host without an entry

  // InvalidArgument, naming the host, for a mirror that is no http(s) URL or a host with both
  // plain HTTP and certificates.
  Result<> Check() const;
};

}  // namespace skiff::runtime
