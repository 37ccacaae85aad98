#include "runtime/oci/features.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace skiff::runtime {
namespace {

using nlohmann::json;

constexpr size_t kLimitBytes = 1 << 20;

// A member's members' ... member; null where there is none.
const json& At(const json& object, std::initializer_list<const char*> path) {
  static const json kNull;
  const json* at = &object;
  for (const char* name : path) {
    if (!at->is_object() || !at->contains(name)) return kNull;
    at = &(*at)[name];
  }
  return *at;
}

bool Holds(const json& list, std::string_view word) {
  return list.is_array() && std::any_of(list.begin(), list.end(), [&](const json& item) {
           return item.is_string() && item.get_ref<const std::string&>() == word;
         });
}

bool IsTrue(const json& value) { return value.is_boolean() && value.get<bool>(); }

}  // namespace

std::optional<OciFeatures> ParseOciFeatures(std::string_view text) {
  if (text.size() > kLimitBytes) return std::nullopt;
  // No deeper than such a document is: the parser's own stack is not bounded.
  int depth = 0;
  const json document = json::parse(
      text,
      [&depth](int at, json::parse_event_t, json&) {
        depth = std::max(depth, at);
        return at < 16;
      },
      /*allow_exceptions=*/false);
  if (depth >= 16 || !document.is_object() || !document.contains("ociVersionMax")) {
    return std::nullopt;
  }
  OciFeatures features;
  features.user_namespaces = Holds(At(document, {"linux", "namespaces"}), "user") &&
                             IsTrue(At(document, {"linux", "mountExtensions", "idmap", "enabled"}));
  features.recursive_readonly = Holds(At(document, {"mountOptions"}), "rro");
  features.apparmor = IsTrue(At(document, {"linux", "apparmor", "enabled"}));
  return features;
}

std::string DescribeFeatures(const OciFeatures& features) {
  std::string text;
  const auto add = [&text](bool has, const char* name) {
    if (has) text += (text.empty() ? "" : ", ") + std::string(name);
  };
  add(features.user_namespaces, "user namespaces");
  add(features.recursive_readonly, "recursive read-only mounts");
  add(features.apparmor, "AppArmor");
  return text.empty() ? "none of what is asked for" : text;
}

}  // namespace skiff::runtime
