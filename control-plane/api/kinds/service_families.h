// Rules for a Service's clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy, which hang together
// (https://kubernetes.io/docs/concepts/services-networking/dual-stack/).
#pragma once

#include "control-plane/api/field_errors.h"
#include "proto/k8s/fwd.h"

namespace skiff::cp {

// Pure. What the cluster has is not known here: registry/service_families.h.
void ValidateServiceFamilies(const k8s::core::v1::ServiceSpec& spec, FieldErrors& errors);
// The first address and family stay as long as there are any; the second may come and go.
void ValidateServiceFamiliesUpdate(const k8s::core::v1::ServiceSpec& spec,
                                   const k8s::core::v1::ServiceSpec& old, FieldErrors& errors);

}  // namespace skiff::cp
