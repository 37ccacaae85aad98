#include "cli/kubeconfig.h"

#include <yaml-cpp/yaml.h>

#include "base/base64.h"
#include "base/os/files.h"

namespace skiff::cli {

namespace {

Error Bad(const std::string& why) { return Error(Code::kInvalidArgument, "the kubeconfig " + why); }

std::string Text(const YAML::Node& node, const char* key) {
  return node.IsMap() && node[key] && node[key].IsScalar() ? node[key].as<std::string>()
                                                           : std::string();
}

// The element of a list of {name, <member>: {...}} with that name.
Result<YAML::Node> Named(const YAML::Node& document, const char* list, const std::string& name,
                         const char* member) {
  YAML::Node elements = document[list];
  for (size_t i = 0; elements && elements.IsSequence() && i < elements.size(); ++i) {
    const YAML::Node element = elements[i];
    if (Text(element, "name") == name && element[member] && element[member].IsMap()) {
      return YAML::Node(element[member]);
    }
  }
  return Bad("has no entry \"" + name + "\" in " + list);
}

// "<key>-data" in base64, or the file named by "<key>".
Result<std::string> Data(const YAML::Node& node, const std::string& key,
                         const std::string& base_directory) {
  std::string inline_data = Text(node, (key + "-data").c_str());
  if (!inline_data.empty()) return Base64Decode(inline_data).With("kubeconfig " + key + "-data");
  std::string path = Text(node, key.c_str());
  if (path.empty()) return std::string();
  return ReadFile(path[0] == '/' ? path : base_directory + "/" + path);
}

Result<Kubeconfig> Parse(const YAML::Node& document, const std::string& base_directory) {
  if (!document.IsMap()) return Bad("is not a YAML mapping");
  std::string current = Text(document, "current-context");
  YAML::Node context = TRY(Named(document, "contexts", current, "context"));
  YAML::Node cluster = TRY(Named(document, "clusters", Text(context, "cluster"), "cluster"));
  YAML::Node user = TRY(Named(document, "users", Text(context, "user"), "user"));
  Kubeconfig config;
  config.server = Text(cluster, "server");
  if (!config.server.starts_with("https://")) return Bad("names no https:// server");
  config.ca_pem = TRY(Data(cluster, "certificate-authority", base_directory));
  config.certificate_pem = TRY(Data(user, "client-certificate", base_directory));
  config.key_pem = TRY(Data(user, "client-key", base_directory));
  config.token = Text(user, "token");
  return config;
}

}  // namespace

Result<Kubeconfig> ParseKubeconfig(std::string_view yaml, const std::string& base_directory) {
  try {
    return Parse(YAML::Load(std::string(yaml)), base_directory);
  } catch (const YAML::Exception& error) {
    return Bad(std::string("is not valid YAML: ") + error.what());
  }
}

Result<Kubeconfig> LoadKubeconfig(const std::string& path) {
  Result<std::string> text = ReadFile(path, 1 << 20);
  if (!text.ok() && text.error().code() == Code::kNotFound) {
    return Error(Code::kNotFound,
                 "there is no kubeconfig at " + path +
                     "; run this on the control plane, or name one with --kubeconfig");
  }
  std::string content = TRY(std::move(text));
  return ParseKubeconfig(content, path.substr(0, path.rfind('/'))).With(path);
}

std::string HostOfUrl(std::string_view url) {
  size_t scheme = url.find("://");
  if (scheme != std::string_view::npos) url.remove_prefix(scheme + 3);
  url = url.substr(0, url.find('/'));
  if (url.starts_with('[')) return std::string(url.substr(1, url.find(']') - 1));
  return std::string(url.substr(0, url.rfind(':')));
}

}  // namespace skiff::cli
