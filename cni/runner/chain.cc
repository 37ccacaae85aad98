#include "cni/runner/chain.h"

#include <algorithm>
#include <iterator>

#include "cni/spec/result.h"

namespace skiff::cni {
namespace {

std::string JoinVersions(const std::vector<CniVersion>& versions) {
  std::string text;
  for (const CniVersion& version : versions) text += (text.empty() ? "" : ", ") + ToString(version);
  return text;
}

// Those that the plugin says it can be run with; ascending. Plugins from before VERSION fail at it.
Result<std::vector<CniVersion>> VersionsOf(const PluginPrograms& programs,
                                           const std::string& type) {
  PluginCall call{.command = "VERSION", .type = type};
  call.config = RenderDocument({{"cniVersion", ToString(AllCniVersions().back())}});
  PluginAnswer answer = TRY(RunPlugin(programs, call));
  if (answer.error) return std::vector<CniVersion>{kCni010};
  auto read = [&]() -> Result<std::vector<CniVersion>> {
    Json document = TRY(ParseDocument(answer.output));
    std::vector<CniVersion> versions;
    for (const std::string& text : TRY(TextsField(document, "supportedVersions"))) {
      // One that is of a form we do not know is one that we do not know.
      if (auto version = ParseCniVersion(text); version.ok()) versions.push_back(*version);
    }
    std::sort(versions.begin(), versions.end());
    return versions;
  };
  auto versions = read();
  if (versions.ok()) return versions;
  return Error(Code::kFailedPrecondition,
               "plugin " + type + ": VERSION: its answer " + versions.error().message());
}

}  // namespace

PluginCall Chain::CallOf(const char* command, const PluginConfig& plugin, const ChainCall& call,
                         const Json* previous) const {
  Json config = RequestConfig(network_, plugin, version_, call.capabilities);
  // Before 0.3.0 there were no chains, and results of another form.
  if (previous != nullptr && version_ >= kCni030) config["prevResult"] = *previous;
  return {.command = command,
          .type = plugin.type,
          .container_id = call.container_id,
          .netns = call.netns,
          .interface = call.interface,
          .arguments = call.arguments,
          .config = RenderDocument(config)};
}

Result<Json> Chain::AddOne(const PluginConfig& plugin, const ChainCall& call,
                           const Json* previous) const {
  PluginCall add = CallOf("ADD", plugin, call, previous);
  PluginAnswer answer = TRY(RunPlugin(programs_, add));
  if (answer.error) return PluginFailure(add, *answer.error);
  auto bad = [&](const std::string& what) {
    return Error(Code::kInternal, "plugin " + plugin.type + ": ADD: its result " + what);
  };
  auto document = ParseDocument(answer.output);
  if (!document.ok()) return bad(document.error().message());
  auto result = ParseAddResult(*document, version_);
  if (!result.ok()) return bad("is wrong: " + result.error().message());
  // The next one gets it in the form of the version it is run with, as ours may differ from the
  // version that this plugin chose to answer in.
  if (TRY(TextField(*document, "cniVersion")) == ToString(version_)) return document;
  return RenderAddResult(*result, version_);
}

Result<Json> Chain::Add(const ChainCall& call) const {
  Json result;
  for (const PluginConfig& plugin : network_.plugins) {
    result = TRY(AddOne(plugin, call, result.is_null() ? nullptr : &result));
  }
  return result;
}

Result<> Chain::Delete(const ChainCall& call, const Json* result) const {
  for (auto plugin = network_.plugins.rbegin(); plugin != network_.plugins.rend(); ++plugin) {
    PluginCall del = CallOf("DEL", *plugin, call, result);
    PluginAnswer answer = TRY(RunPlugin(programs_, del));
    // "Container unknown": there is nothing to clean up.
    if (!answer.error || answer.error->code == static_cast<uint32_t>(CniCode::kUnknownContainer)) {
      continue;
    }
    return PluginFailure(del, *answer.error);
  }
  return {};
}

Result<> Chain::Check(const ChainCall& call, const Json& result) const {
  if (version_ < kCni040 || network_.disable_check) return {};
  for (const PluginConfig& plugin : network_.plugins) {
    PluginCall check = CallOf("CHECK", plugin, call, &result);
    PluginAnswer answer = TRY(RunPlugin(programs_, check));
    if (answer.error) return PluginFailure(check, *answer.error);
  }
  return {};
}

Result<> Chain::CollectGarbage(
    const std::vector<std::pair<std::string, std::string>>& valid) const {
  if (version_ < kCni110 || network_.disable_gc) return {};
  Json attachments = Json::array();
  for (const auto& [container_id, interface] : valid) {
    attachments.push_back({{"containerID", container_id}, {"ifname", interface}});
  }
  Result<> first;
  for (const PluginConfig& plugin : network_.plugins) {
    Json config = RequestConfig(network_, plugin, version_, Json::object());
    config["cni.dev/valid-attachments"] = attachments;
    PluginCall collect{.command = "GC", .type = plugin.type, .config = RenderDocument(config)};
    auto answer = RunPlugin(programs_, collect);
    if (!first.ok()) continue;
    if (!answer.ok()) first = std::move(answer).error();
    if (answer.ok() && answer->error) first = PluginFailure(collect, *answer->error);
  }
  return first;
}

Result<> Chain::Status() const {
  if (version_ < kCni110) return {};
  for (const PluginConfig& plugin : network_.plugins) {
    PluginCall status{.command = "STATUS", .type = plugin.type};
    status.config = RenderDocument(RequestConfig(network_, plugin, version_, Json::object()));
    PluginAnswer answer = TRY(RunPlugin(programs_, status));
    if (answer.error) return PluginFailure(status, *answer.error);
  }
  return {};
}

Result<CniVersion> Chain::AgreeOnVersion(const PluginPrograms& programs,
                                         const NetworkConfig& network) {
  std::vector<CniVersion> common = network.versions;
  std::set<std::string> asked;
  for (const PluginConfig& plugin : network.plugins) {
    if (!asked.insert(plugin.type).second) continue;
    std::vector<CniVersion> versions = TRY(VersionsOf(programs, plugin.type));
    std::vector<CniVersion> both;
    std::set_intersection(common.begin(), common.end(), versions.begin(), versions.end(),
                          std::back_inserter(both));
    if (both.empty()) {
      return Error(Code::kFailedPrecondition, "plugin " + plugin.type + " can be run with CNI " +
                                                  JoinVersions(versions) + ", network " +
                                                  network.name + " with " + JoinVersions(common));
    }
    common = std::move(both);
  }
  return common.back();
}

}  // namespace skiff::cni
