// Errors of plugins as CNI has them (SPEC.md, "Error"). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "cni/spec/version.h"

namespace skiff::cni {

// The codes that the specification gives a meaning.
enum class CniCode : uint32_t {
  kIncompatibleVersion = 1,
  kUnsupportedField = 2,
  kUnknownContainer = 3,
  kInvalidEnvironment = 4,
  kIo = 5,
  kDecoding = 6,
  kInvalidConfig = 7,
  kTryAgainLater = 11,
  kNotAvailable = 50,         // STATUS: no ADD now
  kLimitedConnectivity = 51,  // STATUS: and pods that are there may be cut off
  kOwn = 100,                 // first of those that a plugin may use as it likes
};

struct PluginError {
  uint32_t code = 0;
  std::string message;
  std::string details;
  // "code 7: Invalid Configuration: Network 192.168.0.0/31 too small".
  std::string ToString() const;
};

std::string RenderPluginError(const PluginError& error, const CniVersion& version);
// Nothing where the text is no error document.
std::optional<PluginError> ParsePluginError(std::string_view text);

// What a plugin's error means to us.
Code CodeOf(const PluginError& error);

}  // namespace skiff::cni
