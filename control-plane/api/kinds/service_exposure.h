// How a Service is reached from outside the cluster, as far as its spec and status say: the rules
// of externalIPs, load balancers, their health check port and the traffic policies. Pure, any
// thread.
#pragma once

#include "control-plane/api/field_errors.h"
#include "proto/k8s/fwd.h"

namespace skiff::cp {

// Traffic from outside the cluster may come in.
bool IsExternal(const k8s::core::v1::ServiceSpec& spec);
// A load balancer that keeps clients' addresses asks nodes whether they have endpoints.
bool NeedsHealthCheckPort(const k8s::core::v1::ServiceSpec& spec);

void SetExposureDefaults(k8s::core::v1::Service& service);
// What only means something for a type or policy that the Service no longer has goes with it.
void DropUnusedExposure(k8s::core::v1::Service& service, const k8s::core::v1::Service& old);

void ValidateExposure(const k8s::core::v1::ServiceSpec& spec, FieldErrors& errors);
// Only what must not change; ValidateExposure says the rest.
void ValidateExposureUpdate(const k8s::core::v1::ServiceSpec& spec,
                            const k8s::core::v1::ServiceSpec& old, FieldErrors& errors);
// status.loadBalancer.
void ValidateLoadBalancerStatus(const k8s::core::v1::Service& service, FieldErrors& errors);

}  // namespace skiff::cp
