// The Kubernetes protobuf envelope: no input may crash, and what was read survives a round trip.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "proto/codec/json.h"
#include "proto/codec/wire.h"
#include "proto/k8s/apps/v1/apps.pb.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  k8s::apps::v1::Deployment deployment, again;
  if (!skiff::codec::DecodeWire(bytes, &deployment)) return 0;
  static_cast<void>(skiff::codec::EncodeJson(deployment));
  std::string wire = skiff::codec::EncodeWire(deployment);
  if (!skiff::codec::DecodeWire(wire, &again)) std::abort();
  if (skiff::codec::EncodeWire(again) != wire) std::abort();
  return 0;
}
