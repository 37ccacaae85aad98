#include "control-plane/api/kinds/kinds.h"

namespace skiff::cp {

Kinds BuiltinKinds() {
  std::vector<KindInfo> kinds;
  for (KindInfo (*make)() : {
           &ConfigMapKind,
           &EndpointsKind,
           &EventKind,
           &NamespaceKind,
           &NodeKind,
           &PodKind,
           &ReplicationControllerKind,
           &SecretKind,
           &ServiceAccountKind,
           &ServiceKind,
           &DeploymentKind,
           &ReplicaSetKind,
           &LeaseKind,
           &EndpointSliceKind,
           &NetworkPolicyKind,
           &RuntimeClassKind,
           &EventsEventKind,
           &SelfSubjectAccessReviewKind,
           &SelfSubjectRulesReviewKind,
           // Last, so that who asks for a Deployment without a version means apps/v1.
           &AppsBeta2DeploymentKind,
           &AppsBeta2ReplicaSetKind,
           &AppsBeta1DeploymentKind,
           &ExtensionsDeploymentKind,
           &ExtensionsReplicaSetKind,
       }) {
    kinds.push_back(make());
  }
  return Kinds(std::move(kinds));
}

}  // namespace skiff::cp
