// The kinds of this build, one maker each; kinds.cc lists them.
#pragma once

#include "control-plane/api/kind.h"

namespace skiff::cp {

// core/v1
KindInfo ConfigMapKind();
KindInfo EndpointsKind();
KindInfo EventKind();
KindInfo NamespaceKind();
KindInfo NodeKind();
KindInfo PodKind();
KindInfo ReplicationControllerKind();
KindInfo SecretKind();
KindInfo ServiceAccountKind();
KindInfo ServiceKind();

// The other groups
KindInfo DeploymentKind();
KindInfo EndpointSliceKind();
KindInfo EventsEventKind();  // events.k8s.io/v1, a view of core/v1 events
KindInfo LeaseKind();
KindInfo NetworkPolicyKind();
KindInfo ReplicaSetKind();
KindInfo RuntimeClassKind();
KindInfo SelfSubjectAccessReviewKind();
KindInfo SelfSubjectRulesReviewKind();

// Views of apps/v1 kinds for old manifests (older_workload.cc)
KindInfo AppsBeta1DeploymentKind();
KindInfo AppsBeta2DeploymentKind();
KindInfo AppsBeta2ReplicaSetKind();
KindInfo ExtensionsDeploymentKind();
KindInfo ExtensionsReplicaSetKind();

}  // namespace skiff::cp
