// The keys of ConfigMaps and Secrets, which become file names. Pure functions, any thread.
#pragma once

#include <string_view>

#include "proto/codec/names.h"

namespace skiff::cp {

codec::Complaints CheckConfigKey(std::string_view key);
// The name of an environment variable: printable ASCII without '=' (since Kubernetes 1.30).
codec::Complaints CheckEnvVarName(std::string_view name);

}  // namespace skiff::cp
