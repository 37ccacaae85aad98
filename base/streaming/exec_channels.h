// The channels of exec and attach.
#pragma once

#include <cstdint>

namespace skiff::streaming {

// Their numbers on WebSocket; on SPDY each is a stream with its name as "streamtype".
enum Channel : uint32_t { kIn, kOut, kErr, kError, kResize, kChannels };

inline const char* ChannelName(Channel channel) {
  static constexpr const char* kNames[kChannels] = {"stdin", "stdout", "stderr", "error", "resize"};
  return kNames[channel];
}

}  // namespace skiff::streaming
