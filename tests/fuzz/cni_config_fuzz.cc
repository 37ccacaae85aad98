// Network configurations: any bytes are one or an error, and one survives being kept in a record.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "cni/spec/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace skiff::cni;
  auto network = ParseNetworkConfig({reinterpret_cast<const char*>(data), size});
  if (!network.ok()) return 0;
  CHECK(IsValidNetworkName(network->name) && !network->versions.empty());
  const Json record = RenderNetworkConfig(*network);
  auto again = ReadNetworkConfig(record);
  CHECK(again.ok() && RenderNetworkConfig(*again) == record);
  const Json arguments{{"portMappings", Json::array()}};
  for (const PluginConfig& plugin : network->plugins) {
    Json request = RequestConfig(*network, plugin, network->versions.back(), arguments);
    CHECK(request["name"] == network->name && !request.contains("capabilities"));
    (void)RenderDocument(request);
  }
  return 0;
}
