// Chain: the plugins of a network, run one after another as CNI says (SPEC.md, section 3).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "cni/runner/plugin_program.h"
#include "cni/spec/config.h"

namespace skiff::cni {

// What all plugins are told of one attachment. The same for ADD, CHECK and DEL.
struct ChainCall {
  std::string container_id;
  std::string netns;  // DEL: empty where it is gone
  std::string interface;
  std::string arguments;  // CNI_ARGS
  Json capabilities;      // name -> value, of all that can be asked for
};

// Blocking; keeps no state. Errors name plugin, command and what the plugin said.
class Chain {
 public:
  // All must outlive it. version: that of the protocol.
  Chain(const PluginPrograms& programs, const NetworkConfig& network, CniVersion version)
      : programs_(programs), network_(network), version_(version) {}

  // The last plugin's result. After a failure, what was made is there until Delete.
  Result<Json> Add(const ChainCall& call) const;
  // In reverse order, to the first failure. result: of Add; null where there was none.
  Result<> Delete(const ChainCall& call, const Json* result) const;
  // Succeeds where the version or the configuration knows no CHECK.
  Result<> Check(const ChainCall& call, const Json& result) const;
  // The first error; all plugins are run. valid: container id and interface of each attachment.
  // Succeeds where the version or the configuration knows no GC.
  Result<> CollectGarbage(const std::vector<std::pair<std::string, std::string>>& valid) const;
  // Whether ADD can be served. Succeeds where the version knows no STATUS.
  Result<> Status() const;

  // The highest version that the network and all its plugins support.
  static Result<CniVersion> AgreeOnVersion(const PluginPrograms& programs,
                                           const NetworkConfig& network);

 private:
  PluginCall CallOf(const char* command, const PluginConfig& plugin, const ChainCall& call,
                    const Json* previous) const;
  Result<Json> AddOne(const PluginConfig& plugin, const ChainCall& call,
                      const Json* previous) const;

  const PluginPrograms& programs_;
  const NetworkConfig& network_;
  const CniVersion version_;
};

}  // namespace skiff::cni
