// Network configurations, as administrators and installers of networks write them (SPEC.md,
// section 1), and what a plugin gets of one on its standard input (section 3). Pure.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cni/spec/document.h"
#include "cni/spec/version.h"

namespace skiff::cni {

struct PluginConfig {
  std::string type;                    // the program's name
  std::set<std::string> capabilities;  // those that are true
  Json document;                       // all of it, also what we know nothing of
};

struct NetworkConfig {
  std::string name;
  std::vector<CniVersion> versions;  // that it may be run with; ascending, not empty
  bool disable_check = false;
  bool disable_gc = false;
  // No plugins from the folder beside the file that has the network's name.
  bool only_inlined_plugins = false;
  std::vector<PluginConfig> plugins;
  bool Wants(const std::string& capability) const;
};

// A list ("plugins") or, as before version 0.3.0 and in .conf files, one plugin with a name.
// InvalidArgument says what is wrong. A list may be empty: the folder beside it may have plugins.
Result<NetworkConfig> ParseNetworkConfig(std::string_view text);
Result<NetworkConfig> ReadNetworkConfig(const Json& document);
Result<PluginConfig> ParsePluginConfig(std::string_view text);
// As ReadNetworkConfig reads it; for records.
Json RenderNetworkConfig(const NetworkConfig& network);

// Alphanumeric first, then also "_", "." and "-"; at most 255 characters: names of networks.
bool IsValidNetworkName(std::string_view name);
// The same rule, for ids of containers.
bool IsValidContainerId(std::string_view id);
// 1 to 15 characters, not "." or "..", without "/", ":" and spaces.
bool IsValidInterfaceName(std::string_view name);

// What the plugin is given: its part of the configuration with name and version, and those of the
// capability arguments that it has asked for.
Json RequestConfig(const NetworkConfig& network, const PluginConfig& plugin,
                   const CniVersion& version, const Json& capability_arguments);

}  // namespace skiff::cni
