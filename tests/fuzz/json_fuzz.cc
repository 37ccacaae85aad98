// JSON into a pod: no input may crash, and what was read survives a round trip.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "proto/codec/json.h"
#include "proto/k8s/core/v1/pod.pb.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  skiff::codec::DecodeOptions options;
  options.field_validation = skiff::codec::FieldValidation::kWarn;
  std::vector<std::string> warnings;
  k8s::core::v1::Pod pod, again;
  static_cast<void>(skiff::codec::PeekType(text));
  if (!skiff::codec::DecodeJson(text, options, &pod, &warnings)) return 0;
  std::string json = skiff::codec::EncodeJson(pod);
  if (!skiff::codec::DecodeJson(json, {}, &again)) std::abort();
  if (skiff::codec::EncodeJson(again) != json) std::abort();
  return 0;
}
