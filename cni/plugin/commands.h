// What the plugin does for each command, and what it answers.
#pragma once

#include <string>

#include "cni/plugin/request.h"

namespace skiff::cni {

struct PluginReply {
  int exit_code = 0;
  std::string output;
};

// Runs the request on this machine.
PluginReply RunPluginRequest(const PluginRequest& request);
// The answer to what is no request.
PluginReply RefusePluginRequest(const RequestOrError& refused);

}  // namespace skiff::cni
