#include "control-plane/api/discovery/resources.h"

#include <algorithm>

namespace skiff::cp {

std::vector<std::string> VerbsOf(const KindInfo& kind) {
  if (!kind.stored) return {"create"};
  return {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"};
}

std::vector<SubresourceInfo> SubresourcesOf(const KindInfo& kind) {
  std::vector<SubresourceInfo> list;
  const std::vector<std::string> change = {"get", "patch", "update"};
  if (kind.group.empty() && kind.plural == "pods") {
    const std::vector<std::string> stream = {"create", "get"};
    list.push_back({"attach", "", "v1", "PodAttachOptions", stream});
    list.push_back({"binding", "", "v1", "Binding", {"create"}});
    list.push_back({"eviction", "policy", "v1", "Eviction", {"create"}});
    list.push_back({"exec", "", "v1", "PodExecOptions", stream});
    list.push_back({"log", "", "v1", "Pod", {"get"}});
    list.push_back({"portforward", "", "v1", "PodPortForwardOptions", stream});
  }
  if (kind.group.empty() && kind.plural == "namespaces") {
    list.push_back({"finalize", "", "v1", kind.kind, {"update"}});
  }
  if (kind.has_scale) list.push_back({"scale", "autoscaling", "v1", "Scale", change});
  if (kind.has_status) list.push_back({"status", kind.group, kind.version, kind.kind, change});
  return list;
}

std::vector<GroupVersions> GroupsOf(const Kinds& kinds) {
  std::vector<GroupVersions> groups;
  for (const auto& kind : kinds.all()) {
    if (kind->group.empty()) continue;
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const auto& known) { return known.group == kind->group; });
    if (group == groups.end()) {
      groups.push_back({kind->group, {kind->version}});
    } else if (std::find(group->versions.begin(), group->versions.end(), kind->version) ==
               group->versions.end()) {
      group->versions.push_back(kind->version);
    }
  }
  return groups;
}

}  // namespace skiff::cp
