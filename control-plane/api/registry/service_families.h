// Which address families a Service has: fills in spec.ipFamilyPolicy and spec.ipFamilies from what
// the Service says, what it was before and what the cluster has
// (https://kubernetes.io/docs/concepts/services-networking/dual-stack/#services).
#pragma once

#include <vector>

#include "base/net/ip.h"
#include "control-plane/api/field_errors.h"

namespace k8s::core::v1 {
class Service;
}

namespace skiff::cp {

// Pure. cluster: the families of Services' ranges, the default one first. old: the Service before,
// null on create. What the cluster does not have goes to errors. False: the Service is malformed or
// refused, and no address can be allocated; validation says why where errors says nothing.
//
// A Service is not given a second family, and does not lose one, because the cluster has changed:
// only when its policy, families or addresses are changed.
bool ResolveFamilies(k8s::core::v1::Service* service, const k8s::core::v1::Service* old,
                     const std::vector<net::IpFamily>& cluster, FieldErrors& errors);

// Keeps what an update leaves out of clusterIP and clusterIPs, and the two in step.
void CarryOverAddresses(k8s::core::v1::Service* service, const k8s::core::v1::Service& old);

}  // namespace skiff::cp
