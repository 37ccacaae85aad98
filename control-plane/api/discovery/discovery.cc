#include "control-plane/api/discovery/discovery.h"

#include "control-plane/api/discovery/resources.h"
#include "control-plane/api/rest/negotiation.h"
#include "control-plane/api/rest/present.h"
#include "proto/codec/json.h"
#include "proto/k8s/apidiscovery/v2/apidiscovery.pb.h"
#include "proto/k8s/meta/v1/discovery.pb.h"

namespace skiff::cp {
namespace {

namespace apidiscovery = k8s::apidiscovery::v2;
namespace metav1 = k8s::meta::v1;

// ---- one list a group version ----

metav1::APIResourceList ResourceList(const Kinds& kinds, std::string_view group,
                                     std::string_view version) {
  metav1::APIResourceList list;
  list.set_group_version(group.empty() ? std::string(version)
                                       : std::string(group) + "/" + std::string(version));
  for (const auto& kind : kinds.all()) {
    if (kind->group != group || kind->version != version) continue;
    auto* resource = list.add_resources();
    resource->set_name(kind->plural);
    resource->set_singular_name(kind->singular);
    resource->set_namespaced(kind->namespaced);
    resource->set_kind(kind->kind);
    for (const auto& verb : VerbsOf(*kind)) resource->mutable_verbs()->add_items(verb);
    for (const auto& name : kind->short_names) resource->add_short_names(name);
    for (const auto& category : kind->categories) resource->add_categories(category);
    for (const auto& info : SubresourcesOf(*kind)) {
      auto* sub = list.add_resources();
      sub->set_name(kind->plural + "/" + info.name);
      sub->set_singular_name("");
      sub->set_namespaced(kind->namespaced);
      if (info.group != kind->group || info.version != kind->version) {
        sub->set_group(info.group);
        sub->set_version(info.version);
      }
      sub->set_kind(info.kind);
      for (const auto& verb : info.verbs) sub->mutable_verbs()->add_items(verb);
    }
  }
  return list;
}

metav1::APIGroup Group(const GroupVersions& info) {
  metav1::APIGroup group;
  group.set_name(info.group);
  for (const auto& version : info.versions) {
    auto* shown = group.add_versions();
    shown->set_group_version(info.group + "/" + version);
    shown->set_version(version);
  }
  *group.mutable_preferred_version() = group.versions(0);
  return group;
}

// ---- aggregated ----

void FillKind(metav1::GroupVersionKind* shown, const std::string& group, const std::string& version,
              const std::string& kind) {
  shown->set_group(group);
  shown->set_version(version);
  shown->set_kind(kind);
}

void AddVersion(const Kinds& kinds, const std::string& group, const std::string& version,
                apidiscovery::APIGroupDiscovery* discovery) {
  auto* shown = discovery->add_versions();
  shown->set_version(version);
  shown->set_freshness("Current");
  for (const auto& kind : kinds.all()) {
    if (kind->group != group || kind->version != version) continue;
    auto* resource = shown->add_resources();
    resource->set_resource(kind->plural);
    FillKind(resource->mutable_response_kind(), kind->group, kind->version, kind->kind);
    resource->set_scope(kind->namespaced ? "Namespaced" : "Cluster");
    resource->set_singular_resource(kind->singular);
    for (const auto& verb : VerbsOf(*kind)) resource->add_verbs(verb);
    for (const auto& name : kind->short_names) resource->add_short_names(name);
    for (const auto& category : kind->categories) resource->add_categories(category);
    for (const auto& info : SubresourcesOf(*kind)) {
      auto* sub = resource->add_subresources();
      sub->set_subresource(info.name);
      FillKind(sub->mutable_response_kind(), info.group, info.version, info.kind);
      for (const auto& verb : info.verbs) sub->add_verbs(verb);
    }
  }
}

apidiscovery::APIGroupDiscoveryList Aggregated(const Kinds& kinds, bool core) {
  apidiscovery::APIGroupDiscoveryList list;
  list.mutable_metadata();
  if (core) {
    auto* group = list.add_items();
    group->mutable_metadata();
    AddVersion(kinds, "", "v1", group);
    return list;
  }
  for (const auto& info : GroupsOf(kinds)) {
    auto* group = list.add_items();
    group->mutable_metadata()->set_name(info.group);
    for (const auto& version : info.versions) AddVersion(kinds, info.group, version, group);
  }
  return list;
}

// The version of aggregated discovery the client prefers to everything else we have; empty when it
// wants the plain form.
std::string AggregatedVersion(const http::Request& request) {
  for (const MediaRange& range : ParseAccept(request)) {
    if (range.type != "application/json" && range.type != "*/*") continue;
    if (range.Parameter("as").empty()) return {};
    std::string_view version = range.Parameter("v");
    if (range.Parameter("as") == "APIGroupDiscoveryList" &&
        range.Parameter("g") == "apidiscovery.k8s.io" &&
        (version == "v2" || version == "v2beta1")) {
      return std::string(version);
    }
  }
  return {};
}

http::Response AnswerAggregated(const Kinds& kinds, bool core, const std::string& version) {
  http::Response response;
  response.headers.Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=" + version +
                                           ";as=APIGroupDiscoveryList");
  response.headers.Set("Vary", "Accept");
  response.body = codec::EncodeJson(Aggregated(kinds, core));
  // The two versions differ in their name only.
  constexpr std::string_view kV2 = "apidiscovery.k8s.io/v2\"";
  if (size_t at = response.body.find(kV2); version != "v2" && at != std::string::npos) {
    response.body.replace(at, kV2.size(), "apidiscovery.k8s.io/" + version + "\"");
  }
  return response;
}

std::vector<std::string_view> Parts(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    size_t end = std::min(path.find('/'), path.size());
    if (end != 0) parts.push_back(path.substr(0, end));
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return parts;
}

}  // namespace

ApiResult<http::Response> ServeDiscovery(const Kinds& kinds, const http::Request& request,
                                         const std::string& server_address) {
  const auto parts = Parts(request.path);
  const bool core = !parts.empty() && parts[0] == "api";
  if (parts.size() == 1) {
    if (std::string version = AggregatedVersion(request); !version.empty()) {
      return AnswerAggregated(kinds, core, version);
    }
  }
  const Format format = TRY(NegotiateAnswer(request, false)).format;
  if (parts.size() == 1 && core) {
    metav1::APIVersions versions;
    versions.add_versions("v1");
    auto* address = versions.add_server_address_by_client_cidrs();
    address->set_client_cidr("0.0.0.0/0");
    address->set_server_address(server_address);
    return AnswerMessage(200, versions, format);
  }
  if (parts.size() == 1) {
    metav1::APIGroupList list;
    for (const auto& info : GroupsOf(kinds)) *list.add_groups() = Group(info);
    return AnswerMessage(200, list, format);
  }
  if (core && parts.size() == 2 && parts[1] == "v1") {
    return AnswerMessage(200, ResourceList(kinds, "", "v1"), format);
  }
  if (!core && parts.size() == 2) {
    for (const auto& info : GroupsOf(kinds)) {
      if (info.group == parts[1]) return AnswerMessage(200, Group(info), format);
    }
  }
  if (!core && parts.size() == 3) {
    auto list = ResourceList(kinds, parts[1], parts[2]);
    if (list.resources_size() != 0) return AnswerMessage(200, list, format);
  }
  return ApiError::NoSuchPath();
}

}  // namespace skiff::cp
