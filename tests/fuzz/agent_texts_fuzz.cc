// What the agent reads from files that others write: container logs, resolv.conf, its stored state,
// its configuration.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "agent/daemon/config.h"
#include "agent/spec/dns.h"
#include "agent/tunnel/log_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0: (void)skiff::agent::ParseLogLine(text); break;
    case 1: (void)skiff::agent::ParseResolvConf(text); break;
    default: (void)skiff::agent::ParseConfig(std::string(text), "fuzz"); break;
  }
  return 0;
}
