#include "agent/env/fields.h"

#include "proto/codec/quantity.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent {
namespace {

using codec::Quantity;

std::string Join(const std::vector<std::string>& items) {
  std::string joined;
  for (const std::string& item : items) {
    if (!joined.empty()) joined += ",";
    joined += item;
  }
  return joined;
}

// The key of "metadata.labels['key']" with that prefix, or nothing.
bool Subscript(std::string_view path, std::string_view prefix, std::string* key) {
  if (!path.starts_with(prefix)) return false;
  path.remove_prefix(prefix.size());
  if (!path.starts_with("['") || !path.ends_with("']")) return false;
  *key = std::string(path.substr(2, path.size() - 4));
  return true;
}

template <class Map>
std::string Lookup(const Map& map, const std::string& key) {
  auto found = map.find(key);
  return found == map.end() ? std::string() : found->second;
}

template <class Map>
std::map<std::string, std::string> Sorted(const Map& map) {
  return {map.begin(), map.end()};
}

// Strings in Go's syntax, as upstream writes them (fmt %q).
std::string Quote(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string quoted = "\"";
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    switch (c) {
      case '"': quoted += "\\\""; break;
      case '\\': quoted += "\\\\"; break;
      case '\n': quoted += "\\n"; break;
      case '\r': quoted += "\\r"; break;
      case '\t': quoted += "\\t"; break;
      default:
        if (byte < 0x20 || byte == 0x7f) {
          quoted += "\\x";
          quoted += kHex[byte >> 4];
          quoted += kHex[byte & 15];
        } else {
          quoted += c;
        }
    }
  }
  return quoted + "\"";
}

// ceil(value / divisor); the divisor is 1 unless it is set.
int64_t Divide(int64_t value, int64_t divisor) {
  if (divisor <= 0) divisor = 1;
  return value / divisor + (value % divisor > 0 ? 1 : 0);
}

}  // namespace

std::string FormatMap(const std::map<std::string, std::string>& map) {
  std::string text;
  for (const auto& [key, value] : map) {
    if (!text.empty()) text += "\n";
    text += key + "=" + Quote(value);
  }
  return text;
}

Result<std::string> FieldValue(const k8s::core::v1::Pod& pod, std::string_view path,
                               const NodeContext& node, const std::vector<std::string>& pod_ips) {
  const auto& metadata = pod.metadata();
  std::string key;
  if (Subscript(path, "metadata.labels", &key)) return Lookup(metadata.labels(), key);
  if (Subscript(path, "metadata.annotations", &key)) return Lookup(metadata.annotations(), key);
  if (path == "metadata.name") return metadata.name();
  if (path == "metadata.namespace") return metadata.namespace_();
  if (path == "metadata.uid") return metadata.uid();
  if (path == "metadata.labels") return FormatMap(Sorted(metadata.labels()));
  if (path == "metadata.annotations") return FormatMap(Sorted(metadata.annotations()));
  if (path == "spec.nodeName") return pod.spec().node_name();
  if (path == "spec.serviceAccountName") return pod.spec().service_account_name();
  if (path == "spec.restartPolicy") return pod.spec().restart_policy();
  if (path == "status.hostIP") return node.host_ips.empty() ? "" : node.host_ips.front();
  if (path == "status.hostIPs") return Join(node.host_ips);
  const auto& ips = pod.spec().host_network() ? node.host_ips : pod_ips;
  if (path == "status.podIP") return ips.empty() ? "" : ips.front();
  if (path == "status.podIPs") return Join(ips);
  return Error(Code::kInvalidArgument, "unsupported fieldPath: " + std::string(path));
}

Result<std::string> ResourceValue(const k8s::core::v1::Container& container,
                                  const k8s::core::v1::ResourceFieldSelector& selector,
                                  const NodeContext& node) {
  std::string_view resource = selector.resource();
  bool limits = resource.starts_with("limits.");
  if (!limits && !resource.starts_with("requests.")) {
    return Error(Code::kInvalidArgument,
                 "unsupported container resource : " + std::string(resource));
  }
  std::string name(resource.substr(resource.find('.') + 1));
  const auto& map = limits ? container.resources().limits() : container.resources().requests();
  auto found = map.find(name);
  Quantity divisor = Quantity::From(selector.divisor());
  if (name == "cpu") {
    int64_t milli = found != map.end() ? Quantity::From(found->second).MilliValue()
                                       : (limits ? node.allocatable_milli_cpu : 0);
    if (milli == 0 && limits) milli = node.allocatable_milli_cpu;
    return std::to_string(Divide(milli, divisor.IsZero() ? 1000 : divisor.MilliValue()));
  }
  int64_t value = found != map.end() ? Quantity::From(found->second).Value() : 0;
  if (value == 0 && limits && name == "memory") value = node.allocatable_memory_bytes;
  return std::to_string(Divide(value, divisor.IsZero() ? 1 : divisor.Value()));
}

}  // namespace skiff::agent
