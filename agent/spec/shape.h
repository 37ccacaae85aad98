// What the planner needs of a pod's spec, and small facts about pods that many parts ask for. Pure.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "agent/pods/plan.h"
#include "proto/k8s/fwd.h"

namespace skiff::agent {

PodShape MakeShape(const k8s::core::v1::Pod& pod);
// Names the parts of a container's spec whose change restarts it: its name and image.
std::string SpecHash(const k8s::core::v1::Container& container);
bool IsSidecar(const k8s::core::v1::Container& container);
// The init or main container of that name, or null.
const k8s::core::v1::Container* FindContainer(const k8s::core::v1::Pod& pod, std::string_view name);

enum class QosClass { kGuaranteed, kBurstable, kBestEffort };
// https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
QosClass QosOf(const k8s::core::v1::Pod& pod);
// "Guaranteed", ...
std::string_view QosName(QosClass qos);

// How long the pod may take to stop, now: the deletion's grace, else the spec's.
std::chrono::seconds GracePeriod(const k8s::core::v1::Pod& pod);
// "name_namespace(uid)", as kubelet's messages name a pod.
std::string FormatPod(const k8s::core::v1::Pod& pod);
// /var/log/pods/<this>: "namespace_name_uid".
std::string LogDirectoryName(const k8s::core::v1::Pod& pod);
// "spec.containers{web}", as events name a container.
std::string FieldPath(const k8s::core::v1::Pod& pod, std::string_view container);

}  // namespace skiff::agent
