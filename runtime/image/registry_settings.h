// Where registries are and how to talk to them: mirrors, certificates, logins.
//
// Read from a YAML file in the shape that k3s users know (/etc/skiff/registries.yaml):
//
//   mirrors:
//     docker.io:
//       endpoint: ["https://mirror.example:5000", "http://10.0.0.5:5000/cache"]
//     "*":
//       endpoint: ["https://cache.example"]
//   configs:
//     "mirror.example:5000":
//       auth: {username: u, password: p}          # or auth: (base64 u:p), identity_token:
//       tls: {ca_file: /p/ca.crt, cert_file: …, key_file: …, insecure_skip_verify: false}
//
// Values; use from any thread.
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
  bool operator==(const RegistryTls&) const = default;
};

struct RegistryHost {
  RegistryCredentials credentials;
  RegistryTls tls;
  bool has_tls = false;  // a tls section was given: never fall back to plain HTTP
};

struct RegistrySettings {
  std::map<std::string, std::vector<std::string>> mirrors;  // host or "*" -> endpoint URLs
  std::map<std::string, RegistryHost> hosts;                // "host:port" of the endpoint

  // InvalidArgument with the place of what is wrong.
  static Result<RegistrySettings> Parse(std::string_view yaml);
  // A file that is not there gives empty settings.
  static Result<RegistrySettings> Load(const std::string& path);
};

}  // namespace skiff::runtime
