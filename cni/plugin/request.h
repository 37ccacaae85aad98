// What a runtime asks of the plugin: environment and standard input, checked (SPEC.md, section 2).
// Pure.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cni/network.h"
#include "cni/spec/document.h"
#include "cni/spec/error.h"
#include "cni/spec/result.h"
#include "cni/spec/version.h"

namespace skiff::cni {

enum class PluginCommand { kAdd, kDel, kCheck, kStatus, kGc, kVersion };

// The plugin's own part of the configuration; docs/cni.md explains the keys.
struct PluginSettings {
  std::string name;    // the network's
  std::string bridge;  // made from the name where the configuration has none
  std::vector<net::IpPrefix> pod_cidrs;
  std::vector<net::IpPrefix> cluster_cidrs;
  uint32_t mtu = 0;  // 0: of the underlay
  bool masquerade = true;
  std::string data_dir;
  ResultDns dns;
};

struct PluginRequest {
  PluginCommand command = PluginCommand::kVersion;
  CniVersion version;
  PluginSettings settings;  // not of VERSION
  // ADD, DEL, CHECK. The sandbox id is the attachment's: container id and interface.
  AttachRequest attach;
  std::string interface;
  std::optional<AddResult> previous;
  // GC: the attachments that are valid, as sandbox ids.
  std::vector<std::string> valid;
};

// Either a request or the error to answer with.
struct RequestOrError {
  std::optional<PluginRequest> request;
  PluginError error;
  CniVersion version;  // to answer in
};

using Environment = std::function<std::string(const char* name)>;
RequestOrError ReadPluginRequest(const Environment& environment, std::string_view input);

// The versions that the plugin speaks.
const std::vector<CniVersion>& PluginVersions();

}  // namespace skiff::cni
