#include "control-plane/rpc/object_views.h"

#include <functional>

#include "control-plane/rpc/pod_status.h"
#include "control-plane/rpc/write_back.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"
#include "proto/k8s/networking/v1/networking.pb.h"
#include "proto/k8s/node/v1/node.pb.h"

namespace skiff::cp {

namespace {

namespace core = k8s::core::v1;

ObjectView ViewOfNode(core::Node node) {
  node.mutable_metadata()->clear_managed_fields();
  core::NodeStatus shown;
  shown.mutable_addresses()->Swap(node.mutable_status()->mutable_addresses());
  node.mutable_status()->Swap(&shown);
  ObjectView view{.bytes = SortedBytes(node)};
  node.mutable_metadata()->clear_resource_version();
  view.digest = DigestOf(SortedBytes(node));
  return view;
}

ObjectView ViewOfPod(core::Pod pod) {
  pod.mutable_metadata()->clear_managed_fields();
  ObjectView view{.bytes = SortedBytes(pod)};
  pod.mutable_metadata()->clear_resource_version();
  // The phase and the conditions of others steer the node; the rest is its own report.
  core::PodStatus others;
  others.set_phase(pod.status().phase());
  for (const core::PodCondition& condition : pod.status().conditions()) {
    if (!IsNodesCondition(condition.type())) *others.add_conditions() = condition;
  }
  pod.mutable_status()->Swap(&others);
  view.digest = DigestOf(SortedBytes(pod));
  return view;
}

template <class T>
ObjectView ViewOfPlain(T object) {
  object.mutable_metadata()->clear_managed_fields();
  ObjectView view{.bytes = SortedBytes(object)};
  object.mutable_metadata()->clear_resource_version();
  view.digest = DigestOf(SortedBytes(object));
  return view;
}

}  // namespace

uint64_t DigestOf(const std::string& bytes) { return std::hash<std::string>()(bytes); }

const char* FeedKindName(FeedKind kind) {
  switch (kind) {
    case FeedKind::kNode: return "Node";
    case FeedKind::kConfigMap: return "ConfigMap";
    case FeedKind::kSecret: return "Secret";
    case FeedKind::kRuntimeClass: return "RuntimeClass";
    case FeedKind::kService: return "Service";
    case FeedKind::kEndpointSlice: return "EndpointSlice";
    case FeedKind::kAddressSet: return "AddressSet";
    case FeedKind::kNetworkPolicy: return "NetworkPolicy";
    case FeedKind::kPod: return "Pod";
    case FeedKind::kNamespace: return "Namespace";
  }
  return "";
}

const Message& FeedPrototype(FeedKind kind) {
  switch (kind) {
    case FeedKind::kNode: return core::Node::default_instance();
    case FeedKind::kConfigMap: return core::ConfigMap::default_instance();
    case FeedKind::kSecret: return core::Secret::default_instance();
    case FeedKind::kRuntimeClass: return ::k8s::node::v1::RuntimeClass::default_instance();
    case FeedKind::kService: return core::Service::default_instance();
    case FeedKind::kEndpointSlice: return k8s::discovery::v1::EndpointSlice::default_instance();
    case FeedKind::kNetworkPolicy: return k8s::networking::v1::NetworkPolicy::default_instance();
    case FeedKind::kNamespace: return core::Namespace::default_instance();
    case FeedKind::kAddressSet:
    case FeedKind::kPod: break;
  }
  return core::Pod::default_instance();
}

ObjectView ViewOf(FeedKind kind, const Message& object) {
  switch (kind) {
    case FeedKind::kNode: return ViewOfNode(static_cast<const core::Node&>(object));
    case FeedKind::kConfigMap: return ViewOfPlain(static_cast<const core::ConfigMap&>(object));
    case FeedKind::kSecret: return ViewOfPlain(static_cast<const core::Secret&>(object));
    case FeedKind::kRuntimeClass:
      return ViewOfPlain(static_cast<const ::k8s::node::v1::RuntimeClass&>(object));
    case FeedKind::kService: return ViewOfPlain(static_cast<const core::Service&>(object));
    case FeedKind::kEndpointSlice:
      return ViewOfPlain(static_cast<const k8s::discovery::v1::EndpointSlice&>(object));
    case FeedKind::kAddressSet:
    case FeedKind::kNetworkPolicy:
    case FeedKind::kNamespace:
    case FeedKind::kPod: break;
  }
  return ViewOfPod(static_cast<const core::Pod&>(object));
}

}  // namespace skiff::cp
