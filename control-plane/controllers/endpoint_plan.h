// What a Service's endpoints are, and which EndpointSlices and Endpoints say so. Pure.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "control-plane/controllers/topology_hints.h"
#include "proto/k8s/fwd.h"

namespace skiff::cp {

using ServicePtr = std::shared_ptr<const k8s::core::v1::Service>;
using PodPtr = std::shared_ptr<const k8s::core::v1::Pod>;
using SlicePtr = std::shared_ptr<const k8s::discovery::v1::EndpointSlice>;

inline constexpr char kServiceNameLabel[] = "kubernetes.io/service-name";
inline constexpr char kManagedByLabel[] = "endpointslice.kubernetes.io/managed-by";
inline constexpr char kSliceManager[] = "endpointslice-controller.k8s.io";
inline constexpr char kHeadlessLabel[] = "service.kubernetes.io/headless";
inline constexpr int kMaxEndpointsPerSlice = 100;
inline constexpr int kMaxEndpointsPerService = 1000;  // in an Endpoints object

// Whether controllers make endpoints for the Service: it selects pods and is no ExternalName.
bool HasManagedEndpoints(const k8s::core::v1::Service& service);

// The zone of a node, or "".
using ZoneOf = std::function<std::string(const std::string& node)>;

// The slices that a Service with these pods should have, starting from those it has, with as few
// changes as possible.
struct SliceChanges {
  std::vector<k8s::discovery::v1::EndpointSlice> create;
  std::vector<k8s::discovery::v1::EndpointSlice> update;
  std::vector<SlicePtr> remove;
  // Where the Service wants topology hints: nothing if it has them, else why not.
  std::string no_hints;
};
// zone_cpu: for topology hints.
SliceChanges PlanSlices(const k8s::core::v1::Service& service, const std::vector<PodPtr>& pods,
                        const ZoneOf& zone_of, const ZoneCpu& zone_cpu,
                        const std::vector<SlicePtr>& existing);

// The Endpoints object of a Service with these pods; existing (may be null) is what it has.
k8s::core::v1::Endpoints PlanEndpoints(const k8s::core::v1::Service& service,
                                       const std::vector<PodPtr>& pods,
                                       const k8s::core::v1::Endpoints* existing);

}  // namespace skiff::cp
