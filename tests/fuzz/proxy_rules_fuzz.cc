// iptables-save's output, of which other programs write a part: any bytes are read without harm.
#include <cstddef>
#include <cstdint>

#include "agent/proxy/rule_set.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace skiff::agent::proxy;
  ExistingRules rules = ParseExisting({reinterpret_cast<const char*>(data), size});
  for (const std::string& chain : rules.service_chains) CHECK(IsServiceChain(chain));
  for (const auto& [address, port] : rules.udp_frontends) CHECK(port != 0);
  return 0;
}
