#include "runtime/image/registry_settings.h"

#include <openssl/evp.h>
#include <yaml-cpp/yaml.h>

#include "base/os/files.h"

namespace skiff::runtime {
namespace {

constexpr size_t kMaxSettingsBytes = 1 << 20;

// The settings file with the place of a mistake: every lookup names its path.
class Reader {
 public:
  static Error Wrong(const YAML::Node& node, std::string_view what) {
    return Error(
        Code::kInvalidArgument,
        "registries, line " + std::to_string(node.Mark().line + 1) + ": " + std::string(what));
  }

  static Result<std::string> Text(const YAML::Node& map, const char* key) {
    const YAML::Node node = map[key];
    if (!node || node.IsNull()) return std::string();
    if (!node.IsScalar()) return Wrong(node, std::string(key) + " must be a string");
    return node.Scalar();
  }

  // Refuses keys that are not known: a misspelt setting must not be dropped in silence.
  static Result<> OnlyKeys(const YAML::Node& map, std::initializer_list<std::string_view> known,
                           std::string_view where) {
    if (!map.IsMap()) return Wrong(map, std::string(where) + " must be a mapping");
    for (const auto& entry : map) {
      const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
      bool found = false;
      for (std::string_view name : known) found = found || name == key;
      if (!found) return Wrong(entry.first, "unknown key " + key + " in " + std::string(where));
    }
    return {};
  }
};

Result<std::vector<std::string>> ParseEndpoints(const YAML::Node& mirror) {
  TRY(Reader::OnlyKeys(mirror, {"endpoint"}, "a mirror"));
  std::vector<std::string> endpoints;
  const YAML::Node list = mirror["endpoint"];
  if (!list) return endpoints;
  if (!list.IsSequence()) return Reader::Wrong(list, "endpoint must be a list of URLs");
  for (const auto& item : list) {
    const std::string url = item.IsScalar() ? item.Scalar() : "";
    if (url.rfind("http://", 0) != 0 && url.rfind("https://", 0) != 0) {
      return Reader::Wrong(item, "endpoint must start with http:// or https://");
    }
    endpoints.push_back(url);
  }
  return endpoints;
}

Result<RegistryCredentials> ParseAuth(const YAML::Node& auth) {
  TRY(Reader::OnlyKeys(auth, {"username", "password", "auth", "identity_token", "registry_token"},
                       "auth"));
  RegistryCredentials credentials;
  if (const std::string packed = TRY(Reader::Text(auth, "auth")); !packed.empty()) {
    auto parsed = CredentialsFromBasicAuth(packed);
    if (!parsed.ok()) return Reader::Wrong(auth["auth"], parsed.error().message());
    credentials = *std::move(parsed);
  }
  if (auth["username"]) credentials.username = TRY(Reader::Text(auth, "username"));
  if (auth["password"]) credentials.password = TRY(Reader::Text(auth, "password"));
  credentials.identity_token = TRY(Reader::Text(auth, "identity_token"));
  credentials.registry_token = TRY(Reader::Text(auth, "registry_token"));
  return credentials;
}

Result<RegistryTls> ParseTls(const YAML::Node& tls) {
  TRY(Reader::OnlyKeys(tls, {"ca_file", "cert_file", "key_file", "insecure_skip_verify"}, "tls"));
  RegistryTls settings;
  settings.ca_file = TRY(Reader::Text(tls, "ca_file"));
  settings.cert_file = TRY(Reader::Text(tls, "cert_file"));
  settings.key_file = TRY(Reader::Text(tls, "key_file"));
  const std::string skip = TRY(Reader::Text(tls, "insecure_skip_verify"));
  if (!skip.empty() && skip != "true" && skip != "false") {
    return Reader::Wrong(tls["insecure_skip_verify"], "insecure_skip_verify must be true or false");
  }
  settings.insecure_skip_verify = skip == "true";
  return settings;
}

Result<RegistryHost> ParseHost(const YAML::Node& node) {
  TRY(Reader::OnlyKeys(node, {"auth", "tls"}, "a config"));
  RegistryHost host;
  if (node["auth"]) host.credentials = TRY(ParseAuth(node["auth"]));
  if (node["tls"]) {
    host.tls = TRY(ParseTls(node["tls"]));
    host.has_tls = true;
  }
  return host;
}

Result<RegistrySettings> ParseDocument(const YAML::Node& document) {
  RegistrySettings settings;
  if (!document || document.IsNull()) return settings;
  TRY(Reader::OnlyKeys(document, {"mirrors", "configs"}, "the file"));
  if (const YAML::Node mirrors = document["mirrors"]; mirrors && !mirrors.IsNull()) {
    if (!mirrors.IsMap()) return Reader::Wrong(mirrors, "mirrors must be a mapping");
    for (const auto& entry : mirrors) {
      if (!entry.first.IsScalar()) return Reader::Wrong(entry.first, "a host must be a string");
      settings.mirrors[entry.first.Scalar()] = TRY(ParseEndpoints(entry.second));
    }
  }
  if (const YAML::Node configs = document["configs"]; configs && !configs.IsNull()) {
    if (!configs.IsMap()) return Reader::Wrong(configs, "configs must be a mapping");
    for (const auto& entry : configs) {
      if (!entry.first.IsScalar()) return Reader::Wrong(entry.first, "a host must be a string");
      settings.hosts[entry.first.Scalar()] = TRY(ParseHost(entry.second));
    }
  }
  return settings;
}

}  // namespace

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

Result<RegistrySettings> RegistrySettings::Parse(std::string_view yaml) {
  if (yaml.size() > kMaxSettingsBytes) {
    return Error(Code::kInvalidArgument, "registries: the file is too large");
  }
  try {
    return ParseDocument(YAML::Load(std::string(yaml)));
  } catch (const YAML::Exception& e) {
    return Error(Code::kInvalidArgument, std::string("registries: ") + e.what());
  }
}

Result<RegistrySettings> RegistrySettings::Load(const std::string& path) {
  auto text = ReadFile(path, kMaxSettingsBytes);
  if (!text.ok()) {
    if (text.error().code() == Code::kNotFound) return RegistrySettings();
    return std::move(text).error();
  }
  return Parse(*text).With(path);
}

}  // namespace skiff::runtime
