// One run of a CNI plugin's program (SPEC.md, section 2).
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cni/spec/error.h"

namespace skiff::cni {

struct PluginPrograms {
  std::vector<std::string> directories;  // searched in this order
  // Of one run. A plugin that takes longer is killed with all that it has started.
  std::chrono::milliseconds deadline = std::chrono::seconds(60);
};

struct PluginCall {
  std::string command;  // "ADD"
  std::string type;     // the program's name
  // Not of VERSION, STATUS and GC: empty.
  std::string container_id, netns, interface, arguments;
  std::string config;  // standard input
};

struct PluginAnswer {
  std::string output;
  std::optional<PluginError> error;  // the plugin's own, whatever its exit code
};

// The program's path. NotFound names the folders that were searched.
Result<std::string> FindPlugin(const PluginPrograms& programs, const std::string& type);

// Runs the program in the network namespace of the calling thread, which must be the node's.
//   NotFound          no such program
//   DeadlineExceeded  killed
//   Internal          it failed without saying why, or said too much
Result<PluginAnswer> RunPlugin(const PluginPrograms& programs, const PluginCall& call);

// "plugin bridge: ADD: code 7: ...", with the code that the plugin's stands for.
Error PluginFailure(const PluginCall& call, const PluginError& error);

}  // namespace skiff::cni
