#include "cni/spec/config.h"

#include <algorithm>

namespace skiff::cni {
namespace {

constexpr size_t kMaxPlugins = 64;

bool IsIdentifier(std::string_view text, size_t limit) {
  auto is_alphanumeric = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !text.empty() && text.size() <= limit && is_alphanumeric(text.front()) &&
         std::all_of(text.begin(), text.end(), [&](char c) {
           return is_alphanumeric(c) || c == '_' || c == '.' || c == '-';
         });
}

Result<PluginConfig> ReadPlugin(const Json& document) {
  if (!document.is_object()) return Error(Code::kInvalidArgument, "a plugin is no object");
  PluginConfig plugin{.document = document};
  plugin.type = TRY(TextField(document, "type"));
  if (plugin.type.empty()) {
    return Error(Code::kInvalidArgument, "\"type\", a plugin's program, is missing");
  }
  if (plugin.type.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos ||
      plugin.type == "." || plugin.type == ".." || plugin.type.size() > 255) {
    return Error(Code::kInvalidArgument, "\"type\" is no name of a program");
  }
  if (const Json* wanted = TRY(ObjectField(document, "capabilities"))) {
    for (const auto& [name, value] : wanted->items()) {
      if (value.is_boolean() && value.get<bool>()) plugin.capabilities.insert(name);
    }
  }
  return plugin;
}

// "cniVersion" and "cniVersions": those of them that exist as far as we know.
Result<std::vector<CniVersion>> ReadVersions(const Json& document) {
  std::vector<std::string> texts = TRY(TextsField(document, "cniVersions"));
  std::string one = TRY(TextField(document, "cniVersion"));
  // As long as there was one version, nothing named it.
  if (one.empty() && texts.empty()) one = ToString(kCni010);
  if (!one.empty()) texts.push_back(one);
  std::set<CniVersion> known;
  const auto& all = AllCniVersions();
  for (const std::string& text : texts) {
    CniVersion version = TRY(ParseCniVersion(text));
    if (std::find(all.begin(), all.end(), version) != all.end()) known.insert(version);
  }
  if (known.empty()) {
    return Error(Code::kInvalidArgument, "cniVersion " + texts.front() +
                                             " is none of those known here, up to " +
                                             ToString(AllCniVersions().back()));
  }
  return std::vector<CniVersion>(known.begin(), known.end());
}

}  // namespace

bool NetworkConfig::Wants(const std::string& capability) const {
  return std::any_of(plugins.begin(), plugins.end(), [&](const PluginConfig& plugin) {
    return plugin.capabilities.contains(capability);
  });
}

bool IsValidNetworkName(std::string_view name) { return IsIdentifier(name, 255); }
bool IsValidContainerId(std::string_view id) { return IsIdentifier(id, 255); }

bool IsValidInterfaceName(std::string_view name) {
  return !name.empty() && name.size() <= 15 && name != "." && name != ".." &&
         std::none_of(name.begin(), name.end(), [](char c) {
           return c == '/' || c == ':' || static_cast<unsigned char>(c) <= ' ' || c == 0x7f;
         });
}

Result<PluginConfig> ParsePluginConfig(std::string_view text) {
  return ReadPlugin(TRY(ParseDocument(text)));
}

Result<NetworkConfig> ParseNetworkConfig(std::string_view text) {
  return ReadNetworkConfig(TRY(ParseDocument(text)));
}

Result<NetworkConfig> ReadNetworkConfig(const Json& document) {
  NetworkConfig network;
  network.name = TRY(TextField(document, "name"));
  if (network.name.empty()) {
    return Error(Code::kInvalidArgument, "\"name\", the network's, is missing");
  }
  if (!IsValidNetworkName(network.name)) {
    return Error(Code::kInvalidArgument, "\"name\" is no name of a network");
  }
  network.versions = TRY(ReadVersions(document));
  const Json* plugins = TRY(ArrayField(document, "plugins", kMaxPlugins));
  if (plugins == nullptr) {
    network.only_inlined_plugins = true;
    network.plugins.push_back(TRY(ReadPlugin(document)));
    return network;
  }
  network.disable_check = TRY(BoolField(document, "disableCheck", false));
  network.disable_gc = TRY(BoolField(document, "disableGC", false));
  network.only_inlined_plugins = TRY(BoolField(document, "loadOnlyInlinedPlugins", false));
  for (const Json& plugin : *plugins) network.plugins.push_back(TRY(ReadPlugin(plugin)));
  return network;
}

Json RenderNetworkConfig(const NetworkConfig& network) {
  Json versions = Json::array(), plugins = Json::array();
  for (const CniVersion& version : network.versions) versions.push_back(ToString(version));
  for (const PluginConfig& plugin : network.plugins) plugins.push_back(plugin.document);
  return {{"name", network.name},
          {"cniVersions", std::move(versions)},
          {"disableCheck", network.disable_check},
          {"disableGC", network.disable_gc},
          {"loadOnlyInlinedPlugins", network.only_inlined_plugins},
          {"plugins", std::move(plugins)}};
}

Json RequestConfig(const NetworkConfig& network, const PluginConfig& plugin,
                   const CniVersion& version, const Json& capability_arguments) {
  Json request = Json::object();
  for (const auto& [key, value] : plugin.document.items()) {
    // These are the runtime's to say, not the configuration's.
    if (key == "capabilities" || key == "prevResult" || key == "runtimeConfig" ||
        key.starts_with("cni.dev/")) {
      continue;
    }
    request[key] = value;
  }
  request["name"] = network.name;
  request["cniVersion"] = ToString(version);
  Json runtime = Json::object();
  for (const std::string& capability : plugin.capabilities) {
    auto found = capability_arguments.find(capability);
    if (found != capability_arguments.end()) runtime[capability] = *found;
  }
  if (!runtime.empty()) request["runtimeConfig"] = std::move(runtime);
  return request;
}

}  // namespace skiff::cni
