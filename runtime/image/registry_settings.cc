#include "runtime/image/registry_settings.h"

#include <openssl/evp.h>

namespace skiff::runtime {

Result<RegistryCredentials> CredentialsFromBasicAuth(std::string_view base64) {
  const Error wrong(Code::kInvalidArgument, "auth is not the base64 form of user:password");
  if (base64.empty() || base64.size() % 4 != 0 || base64.size() > 64 << 10) return wrong;
  std::string text(base64.size() / 4 * 3, '\0');
  const int length = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                     reinterpret_cast<const unsigned char*>(base64.data()),
                                     static_cast<int>(base64.size()));
  if (length < 0) return wrong;
  // EVP_DecodeBlock counts the padding as zero bytes.
  const size_t padding = base64.ends_with("==") ? 2 : base64.ends_with("=") ? 1 : 0;
  text.resize(static_cast<size_t>(length) - padding);
  const size_t colon = text.find(':');
  if (colon == std::string::npos) return wrong;
  RegistryCredentials credentials;
  credentials.username = text.substr(0, colon);
  credentials.password = text.substr(colon + 1);
  // docker's config pads the password with NULs at times.
  credentials.password.erase(credentials.password.find_last_not_of('\0') + 1);
  return credentials;
}

Result<> RegistrySettings::Check() const {
  for (const auto& [name, host] : hosts) {
    for (const std::string& mirror : host.mirrors) {
      if (!mirror.starts_with("http://") && !mirror.starts_with("https://")) {
        return Error(Code::kInvalidArgument, "registry " + name + ": mirror \"" + mirror +
                                                 "\" must start with http:// or https://");
      }
    }
    if (host.plain_http && (!host.tls.ca_file.empty() || !host.tls.cert_file.empty())) {
      return Error(Code::kInvalidArgument,
                   "registry " + name + ": plain HTTP and certificates exclude each other");
    }
    if (host.tls.cert_file.empty() != host.tls.key_file.empty()) {
      return Error(Code::kInvalidArgument,
                   "registry " + name +
                       ": a client certificate needs its key, and a key its "
                       "certificate");
    }
  }
  return {};
}

}  // namespace skiff::runtime
